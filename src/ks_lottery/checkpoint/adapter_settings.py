"""What an adapter's config says that decides its merged weights; a setting that is not implemented is refused by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import regex

from ks_lottery.errors import UserError
from ks_lottery.store.json_content import read_object
from ks_lottery.store.schema import is_number, is_whole, short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

ADAPTER_CONFIG = "adapter_config.json"

KNOWN = ("LORA", "TRAINABLE_TOKENS")
"""Kinds of adapters that change weights in a way that can be merged here."""

VIRTUAL = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE")
"""Kinds that add virtual tokens to a prompt, and leave every weight as it is."""

UNMERGED = ("ADAPTION_PROMPT", "POLY", "XLORA")
"""Kinds that PEFT itself cannot merge."""

UNMERGED_SETTINGS = ("alora_invocation_tokens", "arrow_config", "use_qalora")
"""Settings of a LoRA with which PEFT itself cannot merge it."""

WITHOUT_EFFECT = frozenset({
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "lora_dropout", "megatron_core", "qalora_group_size", "runtime_config", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config",
})  # fmt: skip
"""Settings that do not change what is merged; the last four belong to values of ``init_lora_weights``, which is checked."""

INITIAL = ("gaussian", "eva", "orthogonal", "mica")
"""Named values of ``init_lora_weights`` that leave the base as it is; others save the adapter relative to a changed base."""

PATIENCE = 1.0
"""Seconds that one match of a pattern of the config may take."""


def _rank(value: Any) -> bool:
    return is_whole(value, 1)


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _pattern(value: Any) -> bool:
    return isinstance(value, str) or _names(value)


def _mapping(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or (isinstance(value, dict) and all(map(check, value.values())))


def _layers(value: Any) -> bool:
    return value is None or is_whole(value) or (isinstance(value, list) and all(map(is_whole, value)))


def _rows(value: Any) -> bool:
    rows: list[Any] = value if isinstance(value, list) else [None]
    return all(map(is_whole, rows)) and len(set(rows)) == len(rows)


ROWS = "different whole numbers from 0"

CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "r": (_rank, "a whole number from 1"),
    "lora_alpha": (is_number, "a finite number"),
    "use_rslora": (_flag, "true or false"),
    "fan_in_fan_out": (_flag, "true or false"),
    "lora_bias": (_flag, "true or false"),
    "ensure_weight_tying": (_flag, "true or false"),
    "init_weights": (_flag, "true or false"),
    "init_lora_weights": (lambda value: _flag(value) or isinstance(value, str), "true, false or a name"),
    "bias": (lambda value: value in ("none", "all", "lora_only"), "none, all or lora_only"),
    "target_modules": (_pattern, "a pattern or a list of names"),
    "exclude_modules": (_pattern, "a pattern or a list of names"),
    "layers_pattern": (_pattern, "a pattern or a list of patterns"),
    "modules_to_save": (_names, "a list of names"),
    "layers_to_transform": (_layers, "a whole number or a list of them"),
    "rank_pattern": (_mapping(_rank), "an object of whole numbers from 1"),
    "alpha_pattern": (_mapping(is_number), "an object of finite numbers"),
    "token_indices": (_rows, f"a list of {ROWS}"),
    "trainable_token_indices": (
        lambda value: value is None or _rows(value) or (isinstance(value, dict) and all(map(_rows, value.values()))),
        f"a list of {ROWS}, or an object of such lists",
    ),
}
"""Settings that are implemented (or, as ``fan_in_fan_out``, that PEFT sets itself): what their values must be."""


@dataclass(frozen=True)
class AdapterSettings:
    """The settings of one adapter, checked.

    Parameters
    ----------
    name
        What the user called the adapter.
    values
        Content of its config.
    """

    name: str
    values: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path, name: str) -> AdapterSettings:
        """Read the config in an adapter's folder.

        Raises
        ------
        UserError
            When it is damaged, of another kind than LoRA or trainable tokens, a value is of another type than PEFT's, or a
            setting changes what is merged and is not implemented.
        """
        values = read_object(folder / ADAPTER_CONFIG, "get the adapter again")
        kind = values.get("peft_type")
        if kind in VIRTUAL:
            raise UserError(
                f"adapter {name} is of kind {kind}: it adds virtual tokens to the prompt and changes no weight, so that there "
                "is nothing to compare. Measure its effect with the command evaluate"
            )
        if kind in UNMERGED:
            raise UserError(
                f"adapter {name} is of kind {kind}, which no merged weights can stand for: measure its effect with the command "
                "evaluate"
            )
        if kind not in KNOWN:
            raise UserError(
                f"adapter {name} is of kind {kind}, which changes more than LoRA and trainable tokens do: "
                "merge it with PEFT, and compare the merged folder"
            )
        for key, value in values.items():
            check, wanted = CHECKS.get(key, (None, ""))
            if check is not None and not check(value):
                raise UserError(f"adapter {name}: {key} is {short(value)}, but must be {wanted}: get the adapter again")
            if check is None and key not in WITHOUT_EFFECT and value:
                _refuse(name, key, value)
        start = values.get("init_lora_weights")
        if (
            isinstance(start, str) and start.lower() not in INITIAL
        ):  # saved relative to a base that the training changed
            _refuse(name, "init_lora_weights", start)
        return cls(name, values)

    @property
    def is_lora(self) -> bool:
        """Whether it is a LoRA, which may have trainable tokens too."""
        return self.values["peft_type"] == "LORA"

    @property
    def starts_at_random(self) -> bool:
        """Whether a module that the file has no values of would get random ones, and not those of no change."""
        return self.is_lora and self.values.get("init_lora_weights", True) in (None, False, "orthogonal")

    def rank(self, module: str) -> int:
        """Return the rank r of a module's LoRA."""
        return self._patterned("rank_pattern", module, self.values.get("r", 8))

    def scale(self, module: str) -> float:
        """Return lora_alpha / r of a module, or lora_alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski, 2023)."""
        alpha, rank = self._patterned("alpha_pattern", module, self.values.get("lora_alpha", 8)), self.rank(module)
        return alpha / (rank**0.5 if self.values.get("use_rslora") else rank)

    def _patterned(self, key: str, module: str, default: Any) -> Any:
        patterns: Mapping[str, Any] = self.values.get(key) or {}
        return next((v for p, v in patterns.items() if self._matches(key, rf"(.*\.)?({p})$", module)), default)

    def targets(self, module: str, *, vocabulary: bool) -> str | None:
        """Say which setting keeps PEFT from adapting a module; None where it adapts it.

        Parameters
        ----------
        module
            Name of the module in the model.
        vocabulary
            Whether it is an embedding or a head, which ``all-linear`` passes over.
        """
        excluded, saved = self.values.get("exclude_modules") or [], self.values.get("modules_to_save") or []
        if self._fits("exclude_modules", excluded, module):
            return "exclude_modules"
        if any(self._matches("modules_to_save", rf"(^|.*\.){name}($|\..*)", module) for name in saved):
            return "modules_to_save"
        wanted = self.values.get("target_modules")
        if wanted is None:
            return "target_modules"
        if isinstance(wanted, str) and wanted.lower() == "all-linear":
            return "target_modules" if vocabulary else None
        if not self._fits("target_modules", wanted, module):
            return "target_modules"
        exact = isinstance(wanted, str) or module in wanted  # for these PEFT does not look at the layers
        return None if exact or self._in_layers(module) else "layers_to_transform"

    def _fits(self, key: str, wanted: str | list[str], module: str) -> bool:
        if isinstance(wanted, str):
            return bool(wanted) and self._matches(key, rf"(?:{wanted})\Z", module)
        return any(module == name or module.endswith(f".{name}") for name in wanted)

    def _in_layers(self, module: str) -> bool:
        layers = self.values.get("layers_to_transform")
        if layers is None or layers == []:
            return True
        given = self.values.get("layers_pattern") or [r"[^.]*"]
        for pattern in [given] if isinstance(given, str) else given:
            start = r"(?:^|.*?\.)" if self.values.get("layers_pattern") else r".*?\."
            match = self._match("layers_pattern", rf"{start}{pattern}\.(?P<idx>\d+)\.", module)
            if match is not None:
                return int(match["idx"]) in (layers if isinstance(layers, list) else [layers])
        return False

    def saves_whole(self, module: str) -> bool:
        """Say whether PEFT trains a copy of a module of its own (``modules_to_save``)."""
        return any(module.endswith(name) for name in self.values.get("modules_to_save") or [])

    @property
    def ties(self) -> bool:
        """Whether PEFT adapts both sides of a tied embedding where one is named."""
        return bool(self.values.get("ensure_weight_tying"))

    def token_ids(self, module: str, *, embedding: bool) -> npt.NDArray[np.int64] | None:
        """Return the rows that a module trains, in the order of their values; None where it trains none.

        Parameters
        ----------
        embedding
            Whether the module is the input embedding, which a plain list is of.
        """
        given = self.values.get("trainable_token_indices" if self.is_lora else "token_indices")
        if isinstance(given, dict):
            given = next((ids for name, ids in given.items() if module.endswith(name)), None)
        elif self.is_lora and not embedding:
            given = None
        return None if given is None else np.array(given, dtype=np.int64)

    def _matches(self, key: str, pattern: str, text: str) -> bool:
        return self._match(key, pattern, text) is not None

    def _match(self, key: str, pattern: str, text: str) -> regex.Match[str] | None:
        """Match a pattern of the config: anybody can have written it, so it must not take for ever."""
        try:
            return regex.match(pattern, text, timeout=PATIENCE)
        except (regex.error, RecursionError, OverflowError) as error:
            raise UserError(f"adapter {self.name}: {key} has a pattern that is not valid: {error}") from error
        except TimeoutError as error:
            raise UserError(
                f"adapter {self.name}: {key} has a pattern that takes too long to match: simplify it"
            ) from error


def _refuse(name: str, key: str, value: Any) -> None:
    merged = "merge it with PEFT, and compare the merged folder"
    remedy = "PEFT cannot merge it either. Measure its effect with the command evaluate"
    raise UserError(
        f"adapter {name} sets {key} to {short(value)}, which is not implemented here: "
        f"{remedy if key in UNMERGED_SETTINGS else merged}"
    )
