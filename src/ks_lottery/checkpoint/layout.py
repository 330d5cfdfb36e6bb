"""Which files of a folder are the model: decided as transformers decides it, and what lies beside them is named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ks_lottery.checkpoint.file_bytes import is_there, unreadable
from ks_lottery.errors import UserError
from ks_lottery.store.json_content import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names that transformers looks for, in its order: the first that exists is the model."""

PICKLES = (".bin", ".pt", ".pth")
"""Endings of pickled tensors."""

TRAINER = (
    "training_args",
    "optimizer",
    "scheduler",
    "scaler",
    "sampler",
    "rng_state",
    "random_states",
    "adapter_model",
)
"""Beginnings of the names of files that a trainer saves beside the model."""

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.[a-z]+)")
"""Name of one of several files of a model: its number from 1, and how many there are."""

NAMED = 3
"""Files beside the model that a note names."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Parameters
    ----------
    files
        The files with its tensors.
    pickled
        Whether they are pickles.
    index
        Name of a tensor to the name of the file that must hold it, where the model has an index.
    notes
        A sentence on what else lies there and is not read, if anything.
    """

    files: tuple[Path, ...]
    pickled: bool
    index: Mapping[str, str]
    notes: tuple[str, ...]

    def check_index(self, tensors: Mapping[str, Any]) -> None:
        """Refuse a model that has not all tensors that its index names.

        Raises
        ------
        UserError
            When one is missing.
        """
        missing = [name for name in self.index if name not in tensors]
        if missing:
            raise UserError(
                f"{self.files[0].parent}: the index names {len(missing):,} tensor(s) that no file holds, such as "
                f"{missing[0]} in {self.index[missing[0]]}: get the file again"
            )


def folder_config(folder: Path) -> dict[str, Any]:
    """Return the content of ``config.json``; empty where there is none.

    Raises
    ------
    UserError
        When it cannot be read, or is no JSON object.
    """
    file = folder / "config.json"
    return read_object(file) if is_there(file) else {}


def model_files(folder: Path) -> ModelFiles:
    """Return the files of a model.

    The file that the config names (``transformers_weights``) decides, or else the first of `WEIGHTS` that exists. In a folder
    with none of them the model is all its safetensors, or else all its pickles but those of a trainer.

    Raises
    ------
    UserError
        When there is none, or a file or a shard is missing or is not a regular file.
    """
    explicit = folder_config(folder).get("transformers_weights")
    if explicit is not None and (not isinstance(explicit, str) or explicit not in _names(folder)):
        raise UserError(f"{folder / 'config.json'} names weights that are not in the folder: get the model again")
    names = _names(folder)
    main = next((name for name in (explicit, *WEIGHTS) if name in names and is_there(folder / name)), None)
    safetensors = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(PICKLES) and not name.startswith(TRAINER)]
    if main is None:
        chosen = safetensors or pickles
        if not chosen:
            raise UserError(f"{folder} has no safetensors: give the folder of a model")
        for name in chosen:
            is_there(folder / name)
        _check_shards(folder, chosen)
        others = [name for name in pickles if name not in chosen]
        return ModelFiles(
            tuple(folder / name for name in chosen), not safetensors, {}, _notes(folder, chosen, others, "")
        )
    index = _index(folder / main) if main.endswith(".json") else {}
    chosen = sorted(set(index.values())) if index else [main]
    others = [name for name in (*safetensors, *pickles) if name not in chosen]
    others += [name for name in WEIGHTS if name in names and name != main and name.endswith(".json")]
    notes = _notes(folder, chosen, others, ", as for transformers")
    return ModelFiles(tuple(folder / name for name in chosen), ".bin" in main, index, notes)


def _check_shards(folder: Path, names: list[str]) -> None:
    """Refuse numbered shards when one number is missing. For folders without an index."""
    for match in filter(None, map(SHARD.fullmatch, names)):
        for number in range(1, int(match["count"]) + 1):
            wanted = f"{match['stem']}-{number:05}-of-{match['count']}{match['ending']}"
            if wanted not in names:
                raise UserError(f"{folder} has {match[0]}, but not {wanted}: get the file again")


def _notes(folder: Path, chosen: list[str], others: list[str], why: str) -> tuple[str, ...]:
    """Return the sentence on files that are not read; none where there are none."""
    if not others:
        return ()
    named = ", ".join(others[:NAMED]) + (", ..." if len(others) > NAMED else "")
    what = chosen[0] if len(chosen) == 1 else f"{len(chosen):,} files such as {chosen[0]}"
    return (f"{folder}: the model is {what}{why}. Not read: {named}.",)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def _index(file: Path) -> dict[str, str]:
    """Return the file of each tensor by an index."""
    weights = read_object(file).get("weight_map")
    entries = cast("dict[str, Any]", weights) if isinstance(weights, dict) else {}
    if not entries or not all(isinstance(name, str) for name in entries.values()):
        raise UserError(f"{file} is not an index of shards: get the file again")
    names = set(_names(file.parent))
    for name in sorted(set(entries.values())):
        if name not in names or not is_there(file.parent / name):
            raise UserError(f"{file} names the shard {name!r}, which is not in the folder: get the file again")
    return entries
