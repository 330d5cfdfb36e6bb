"""New values for some rows of the embedding of one base checkpoint; everything else is the base, bit for bit.

Must never hold more than the rows it changes, nor be applied to another base than its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from ks_lottery.checkpoint.added_tokens import AddedTokens, added_tokens
from ks_lottery.checkpoint.patch_tensors import checked_ids, checked_rows
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.store.content import ByContent, array_form
from ks_lottery.store.files import replacing
from ks_lottery.store.json_content import parse_object
from ks_lottery.store.manifest import check_manifest, digest_bytes, digest_json, manifest
from ks_lottery.store.schema import mapping, sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.checkpoint.tensors import Source

PATCH_FILE = "patch.safetensors"

Side = Literal["input", "output", "both"]
"""Which embedding a patch changes."""

SIDES: tuple[Side, ...] = get_args(Side)

FORMS = {("input", "values"), ("output", "output_values"), ("both", "tied_values"), ("both", "output_values", "values")}
"""Side and names of the tensors beside ``ids`` of a patch's file."""


@dataclass(frozen=True, eq=False, repr=False)
class RowPatch(ByContent, Shown):
    """New rows for the input embedding of a base model, for its output embedding, or for both.

    Two are equal when their rows, values, side and base are, however they were made.

    Parameters
    ----------
    ids
        Rows that change, shape (K,), ascending and unique, 0 <= id < V.
    values
        Their new values, shape (K, d), float32.
    base
        Name and fingerprint of the checkpoint that they belong to.
    settings
        How they were made.
    side
        ``input``, also where the base ties the two: its head then keeps its values. ``output``: the input side keeps its
        values. ``both``: one set of values on both sides of a tied base, or with `output_values` one for each side of
        another.
    output_values
        Values of the output side for ``both`` on a base that is not tied, shape (K, d), float32.
    attribution
        What each row contributed, where embed tuning made the patch; saved beside it, and read by `Attribution.open`.
    folder
        Where it was opened from, for what was measured of it there; None for one that was made in memory.
    """

    ids: npt.NDArray[np.int64]
    values: torch.Tensor
    base: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    side: Side = "input"
    output_values: torch.Tensor | None = None
    attribution: Attribution | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Check that ids and values fit each other."""
        if self.ids.ndim != 1 or np.any(np.diff(self.ids) <= 0) or np.any(self.ids < 0):
            raise ValueError("ids must be one-dimensional, ascending, unique and not negative")
        if self.side not in SIDES or (self.output_values is not None and self.side != "both"):
            raise ValueError("side must be input, output or both, and output_values come with both alone")
        for values in self._tensors.values():
            if values.ndim != 2 or len(values) != len(self.ids) or values.dtype != torch.float32:
                raise ValueError("values must be a float32 tensor with one row for each id")

    def __len__(self) -> int:
        """Return the number K of rows."""
        return len(self.ids)

    def __repr__(self) -> str:
        base = self.base.get("name", "an unknown base")
        return f"RowPatch(ids={array_form(self.ids)}, values={array_form(self.values)}, {self.side} side of {base})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ids, values, side, and the fingerprint of the base."""
        return digest_json([self.content, self.base.get("fingerprint")])

    def sections(self) -> list[Section]:
        """Return what it changes, of which base, and how it was made, as a table."""
        facts = {
            "base": self.base.get("name", ""), "base fingerprint": self.base.get("fingerprint", ""), "side": self.side,
            "rows": f"{len(self):,}", "width": f"{self.values.shape[1]:,}", "parameters": f"{self.parameters:,}",
            **{name: str(value) for name, value in self.settings.items()},
        }  # fmt: skip
        columns = [Column(title="row patch"), Column(title="")]
        return [Section(columns=columns, rows=[[name, value] for name, value in facts.items()])]

    @property
    def parameters(self) -> int:
        """Number of trained parameters: K x d, twice that where each side has its own."""
        return sum(values.numel() for values in self._tensors.values())

    @property
    def prompt(self) -> str | None:
        """The template that the rows were made for and that is used with them; None where there is none of its own.

        Raises
        ------
        UserError
            When the patch names one without a place for the sentence.
        """
        prompt = self.settings.get("prompt")
        if prompt is None or (isinstance(prompt, str) and "{source}" in prompt):
            return prompt
        raise UserError(
            "the prompt of the patch is damaged: it has no place for {source}. Give a `template` of your own"
        )

    @property
    def added(self) -> AddedTokens | None:
        """The tokens that it adds to the vocabulary of its base; None for none."""
        return added_tokens(self.settings)

    @property
    def content(self) -> str:
        """SHA-256 of ids, values, side and the texts of new tokens."""
        raw = b"".join(values.contiguous().numpy().tobytes() for values in self._tensors.values())
        added = b"" if self.added is None else digest_json(self.added.as_dict()).encode()
        return digest_bytes(self.ids.tobytes() + raw + (b"" if self.side == "input" else self.side.encode()) + added)

    @property
    def _tensors(self) -> dict[str, torch.Tensor]:
        """Values by their name in the file, which says the side: an older version refuses what it would misread."""
        if self.side == "both" and self.output_values is not None:
            return {"values": self.values, "output_values": self.output_values}
        return {{"input": "values", "output": "output_values", "both": "tied_values"}[self.side]: self.values}

    def values_of(self, side: Literal["input", "output"]) -> torch.Tensor | None:
        """Return the new values on one side, shape (K, d); None where it keeps the base's."""
        if self.side not in {side, "both"}:
            return None
        return self.values if side == "input" or self.output_values is None else self.output_values

    def restrict(self, ids: npt.NDArray[np.int64]) -> RowPatch:
        """Keep the new values of `ids` alone: the partial transfer of the paper (section 3.3).

        Rows of `ids` that the patch does not change are the base's already and are left out.

        Raises
        ------
        UserError
            When `ids` are not whole numbers.
        """
        try:
            chosen = np.asarray(ids, dtype=np.int64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise UserError("`ids` must be whole numbers of rows: of tickets, give `tickets.ids`") from error
        keep = np.isin(self.ids, chosen)
        settings = {**self.settings, "restricted_from": self.content, "restricted_to": len(chosen)}
        kept = torch.from_numpy(keep)
        other = None if self.output_values is None else self.output_values[kept]
        return RowPatch(self.ids[keep], self.values[kept], self.base, settings, self.side, other)

    def check_base(self, checkpoint: Checkpoint, *, force: bool = False) -> None:
        """Refuse another base than the one the patch was made on.

        Parameters
        ----------
        checkpoint
            The base, whose fingerprint is compared.
        force
            Let other weights pass, as long as the rows fit into them.

        Raises
        ------
        UserError
            When the weights differ.
        """
        if not force and self.base.get("fingerprint") != checkpoint.fingerprint:
            raise UserError(
                f"the patch was made on {self.base.get('name')} with fingerprint {self.base.get('fingerprint', '')[:12]}, "
                f"but {checkpoint.name} has {checkpoint.fingerprint[:12]}: give the base that the patch belongs to"
            )
        self.check_rows(checkpoint)

    def check_rows(self, base: Source) -> None:
        """Refuse a base that does not have the rows of the patch, or has rows of another width.

        Raises
        ------
        UserError
            When they do not fit.
        """
        for side in ("input", "output"):
            units = base.units[base.head if side == "output" else base.embedding]
            values = self.values_of(side)
            count = units.count if self.added is None else self.added.rows_over(units.count)
            if values is not None and (values.shape[1] != units.width or self.ids.max(initial=-1) >= count):
                raise UserError(
                    f"the patch changes {len(self)} rows of width {values.shape[1]} up to row {self.ids.max(initial=-1)}, "
                    f"which do not fit the {units.count:,} x {units.width:,} of {base.name}: give another base"
                )

    def save(self, folder: str | Path) -> Path:
        """Write ``patch.safetensors`` into `folder`, its manifest inside as metadata, and return the folder."""
        from safetensors.torch import save_file

        folder = Path(folder).expanduser()
        about = manifest("row-patch", made_from={"base": dict(self.base)}, settings=self.settings)
        tensors = {name: values.contiguous() for name, values in self._tensors.items()}
        tensors["ids"] = torch.from_numpy(self.ids.copy())
        with replacing(folder / PATCH_FILE, "row-patch") as temporary:
            save_file(tensors, temporary, metadata={"ks-lottery": json.dumps({**about, "side": self.side})})
        if self.attribution is not None:
            self.attribution.save(folder)
        return folder

    @classmethod
    def open(cls, folder: str | Path) -> RowPatch:
        """Read the `folder` of a patch, or the file in it.

        Raises
        ------
        UserError
            When it is missing, damaged, or was written by a newer version.
        """
        from safetensors import SafetensorError, safe_open

        folder = Path(folder).expanduser()
        path = folder / PATCH_FILE if folder.is_dir() else folder
        if not path.is_file():
            raise UserError(f"{folder} holds no {PATCH_FILE}: give the folder of a patch, such as runs/demo/partial")
        try:
            with safe_open(path, "pt") as opened:
                text = (opened.metadata() or {}).get("ks-lottery", "{}")
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{path} is not a whole safetensors file: make the patch again") from error
        about = parse_object(text, f"the manifest in {path}", "make the patch again")
        check_manifest(path, about, "row-patch")
        side, names = about.get("side", "input"), set(tensors) - {"ids"}
        if "ids" not in tensors or (str(side), *sorted(names)) not in FORMS:
            raise UserError(f"{path} is a row patch without its rows: make it again")
        ids = checked_ids(path, tensors["ids"])
        rows = {name: checked_rows(path, name, tensors[name], len(ids)) for name in sorted(names)}
        if len({values.shape for values in rows.values()}) > 1:
            raise UserError(f"{path}: the rows of its two sides have different widths: make the patch again")
        base = mapping(path, sources(path, about), "base")
        settings = mapping(path, about, "settings")
        values, other = (rows["values"], rows["output_values"]) if len(rows) == 2 else (next(iter(rows.values())), None)
        return cls(ids, values, base, settings, side, other, folder=path.parent)
