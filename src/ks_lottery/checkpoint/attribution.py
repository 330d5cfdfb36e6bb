"""The noun `Attribution`: what each row contributed to the fall of the loss, saved beside the patch that the rows are in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import ATTRIBUTIONS, MEASURED
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.store.content import ByContent, array_form, digest_content
from ks_lottery.store.files import read_table, write_table
from ks_lottery.store.manifest import manifest
from ks_lottery.store.schema import MAKE_AGAIN, mapping, real_column, sources, whole_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

ATTRIBUTION_FILE = "attribution.parquet"


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(ByContent, Shown):
    """One entry for each of K rows, in ascending order of row.

    Two are equal when their rows, scores and occurrences are.

    Parameters
    ----------
    ids
        Rows, shape (K,), ascending.
    scores
        Name to values, shape (K,), float64, larger = more important. ``gradient``: the norm of the row's gradient, summed over
        steps (nats a label and unit of the embedding). ``lca``: loss-change allocation (Lan et al., NeurIPS 2019), minus the
        sum over steps of move dot gradient of the next step (nats a label; negative where the row raised the loss); only where
        the rows were tuned. ``gradient-sum`` (the norm of the summed gradient), ``gradient-per-occurrence`` and
        ``gradient-adam``: only of one pass at the original model (`ks_lottery.models.gradients.gradients_of`).
    occurrences
        How often each row's token was looked up in the batches, template and source included, padding apart; shape (K,),
        int64.
    made_from
        Fingerprints.
    settings
        How it was measured.
    """

    ids: npt.NDArray[np.int64]
    scores: Mapping[str, npt.NDArray[np.float64]]
    occurrences: npt.NDArray[np.int64]
    made_from: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all columns fit each other."""
        if self.ids.ndim != 1 or np.any(np.diff(self.ids) <= 0):
            raise ValueError("ids must be one-dimensional, ascending and unique")
        if any(column.shape != self.ids.shape for column in (*self.scores.values(), self.occurrences)):
            raise ValueError("scores and occurrences must have one entry for each id")

    def __len__(self) -> int:
        """Return the number K of rows."""
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Attribution(ids={array_form(self.ids)}, scores {' and '.join(self.scores)})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of rows, scores and occurrences."""
        scores = {f"score {name}": values for name, values in self.scores.items()}
        return digest_content("attribution", {"ids": self.ids, "occurrences": self.occurrences, **scores})

    def sections(self, most: int = 20) -> list[Section]:
        """Return the `most` rows (20) that contributed most by the first score, as a table."""
        names = list(self.scores)
        order = np.argsort(-self.scores[names[0]], kind="stable")[:most].tolist() if names else []
        columns = [Column(title="row", form="d"), *(Column(title=name, form=".3g") for name in names)]
        columns.append(Column(title="occurrences", form="integer"))
        rows = [
            [int(self.ids[i]), *(float(self.scores[name][i]) for name in names), int(self.occurrences[i])]
            for i in order
        ]
        return [Section(columns=columns, rows=rows, sentences=[repr(self)])]

    def score(self, name: str) -> npt.NDArray[np.float64]:
        """Return the values of one score, shape (K,); `name` is one of `ks_lottery.config.choices.ATTRIBUTIONS`.

        Raises
        ------
        UserError
            When this attribution does not have it.
        """
        if name not in self.scores:
            remedy = (
                "embed tuning records it" if name not in MEASURED else "one pass over a text measures it (`corpus`)"
            )
            raise UserError(f"the attribution has no {name}, only {', '.join(self.scores)}: {remedy}")
        return self.scores[name]

    def save(self, folder: str | Path) -> Path:
        """Write ``attribution.parquet`` into `folder`, one line a row, its manifest in the metadata, and return its path."""
        path = Path(folder).expanduser() / ATTRIBUTION_FILE
        columns = {"row": self.ids, **self.scores, "occurrences": self.occurrences}
        write_table(path, columns, manifest("attribution", made_from=self.made_from, settings=self.settings))
        return path

    @classmethod
    def open(cls, folder: str | Path) -> Attribution:
        """Read the attribution in the `folder` of a patch, or the file itself.

        Raises
        ------
        UserError
            When it is missing or damaged, or a column or its manifest is not that of an attribution.
        """
        folder = Path(folder).expanduser()
        path = folder / ATTRIBUTION_FILE if folder.is_dir() else folder
        if not path.is_file():
            raise UserError(
                f"{folder} holds no {ATTRIBUTION_FILE}: give the folder of an embed tuning, such as runs/demo/embed"
            )
        columns, about = read_table(path, "attribution")
        ids = whole_column(path, columns, "row")
        if bool((np.diff(ids) <= 0).any()):
            raise UserError(f"{path}: its rows are not in ascending order, or there twice: {MAKE_AGAIN}")
        scores = {
            name: real_column(path, columns, name, low=-_MOST, high=_MOST) for name in ATTRIBUTIONS if name in columns
        }
        if not scores:
            raise UserError(f"{path} has none of the columns {' and '.join(ATTRIBUTIONS)}: {MAKE_AGAIN}")
        occurrences = whole_column(path, columns, "occurrences")
        return cls(ids, scores, occurrences, sources(path, about), mapping(path, about, "settings"))


_MOST = float(np.finfo(np.float64).max)
