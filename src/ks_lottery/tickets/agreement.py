"""Are partially tuned rows distributed like embed-tuned ones? One cell of table 6 of the paper.

Its alpha is the one that selected the tickets; the level of this second test is fixed. Rows of one tuning alone are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.ticket_commands import AlikeSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import critical_count, log_pvalues
from ks_lottery.store.files import write_json
from ks_lottery.store.manifest import manifest
from ks_lottery.tickets.agreement_sections import agreement_sections
from ks_lottery.tickets.power import check_alpha
from ks_lottery.tickets.tickets import Tickets, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.report.section import Section


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ComparedTunings(Shown):
    """The KS test of each row that two tunings of one base have in common: the values of one against those of the other.

    Parameters
    ----------
    rows
        Rows compared, shape (K,), ascending.
    counts
        Integer KS counts k, shape (K,); D = k / d.
    width
        Coordinates d of a row, the size of both samples.
    level
        Level of this second test, in [0, 1].
    alpha
        Significance level that selected the tickets; None where they were selected otherwise, or are not known.
    own_tickets
        Whether the partial tuning trained exactly the tickets, as in table 6; None without tickets.
    side
        Embedding whose rows were compared, ``input`` or ``output``.
    only_embed, only_partial, in_neither
        Numbers of rows that were not compared: only the first patch, only the second, or (of the tickets) neither changes them.
    made_from
        Fingerprints.
    tokens
        Token strings by row; empty where they are not known.
    file
        File of the tickets that chose the rows, where they come from a file.
    selector
        Selector that chose the tickets; None where it is not known.
    """

    rows: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    width: int
    level: float
    alpha: float | None
    own_tickets: bool | None
    side: Side
    only_embed: int
    only_partial: int
    in_neither: int
    made_from: Mapping[str, Any]
    tokens: Mapping[int, str] = field(default_factory=dict)
    file: str | None = None
    selector: str | None = None

    def __len__(self) -> int:
        """Return the number K of rows compared."""
        return len(self.rows)

    def __repr__(self) -> str:
        unchanged = f"{self.unchanged:.3f} unchanged at level {self.level:g}"
        return f"ComparedTunings({len(self):,} rows of the {self.side} embedding, {unchanged})"

    @property
    def statistics(self) -> npt.NDArray[np.float64]:
        """D of each row."""
        return self.counts / self.width

    @property
    def log_pvalues(self) -> npt.NDArray[np.float64]:
        """Exact log p of each row, at any width."""
        return log_pvalues(self.width)[self.counts]

    @property
    def pvalues(self) -> npt.NDArray[np.float64]:
        """Exact p of each row; 0 where it underflows."""
        return np.exp(self.log_pvalues)

    @property
    def changed(self) -> int:
        """Number of rows with p < level: none at 0, and every row at 1, by definition."""
        return int(np.count_nonzero(self.counts >= critical_count(self.width, self.level)))

    @property
    def unchanged(self) -> float:
        """The figure of table 6, 1 - changed / compared."""
        return 1 - self.changed / len(self)

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain values, for JSON, the rows that differ most first."""
        statistics, log_p = self.statistics, self.log_pvalues
        return {
            "side": self.side,
            "width": self.width,
            "compared": len(self),
            "not_compared": {
                "only_embed": self.only_embed, "only_partial": self.only_partial, "in_neither": self.in_neither
            },
            "alpha": self.alpha,
            "selector": self.selector,
            "own_tickets": self.own_tickets,
            "level": self.level,
            "critical_statistic": critical_count(self.width, self.level) / self.width,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "rows": [
                {
                    "row": int(self.rows[i]),
                    **({"token": self.tokens.get(int(self.rows[i]), "''")} if self.tokens else {}),
                    "count": int(self.counts[i]),
                    "statistic": float(statistics[i]),
                    "pvalue": float(np.exp(log_p[i])),
                    "log_pvalue": float(log_p[i]),
                }
                for i in np.argsort(-self.counts, kind="stable").tolist()
            ],
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write everything to `path` as JSON, and return the path."""
        path = Path(path).expanduser()
        settings = {"level": self.level, "side": self.side, "tickets": self.file}
        about = manifest("compared-tunings", made_from=self.made_from, settings=settings)
        write_json(path, {**about, **self.as_dict()})
        return path

    def sections(self, top: int = AlikeSettings.top) -> list[Section]:
        """Return table 6, what was compared, and the `top` rows that differ most.

        Raises
        ------
        UserError
            When `top` is below 0.
        """
        return agreement_sections(self.as_dict(), top)


@checks_names
def compare_tunings(
    embed: RowPatch | str | Path,
    partial: RowPatch | str | Path,
    tickets: Tickets | str | Path | None = None,
    *,
    level: float = AlikeSettings.level,
    side: Side | None = AlikeSettings.side,
    tokens: Mapping[int, str] | None = None,
) -> ComparedTunings:
    """Test the embed-tuned against the partially tuned values of each ticket (section 4.2 and table 6 of the paper).

    One call is one cell of table 6: the tickets were selected at its alpha, and `partial` is the partial tuning of them.

    Parameters
    ----------
    embed, partial
        Two patches over one base, or their folders; the test takes them alike, so their order does not matter.
    tickets
        Rows to compare, or the file that they were saved to; by default all that both patches change.
    level
        Level of this second test, which the paper does not name. Another level over the same tickets is another table, and
        not another alpha of table 6.
    side
        ``input`` or ``output``; by default the input embedding, where both patches change it.
    tokens
        Token strings by row, to show.

    Returns
    -------
    ComparedTunings
        Values are compared in float32, as they were trained, and p is exact at any width. p < level is a threshold on a
        distance and no error rate; that a row passes as unchanged says that the test sees no difference at this width.

    Raises
    ------
    UserError
        When the bases differ, no row is in common, a row holds NaN, or the level is not in [0, 1].
    """
    check_alpha(level, "level")
    embed, partial = (p if isinstance(p, RowPatch) else RowPatch.open(p) for p in (embed, partial))
    file = str(tickets) if isinstance(tickets, str | Path) else None
    tickets = Tickets.open(tickets) if isinstance(tickets, str | Path) else tickets
    _check_base(embed, partial, tickets)
    chosen = _common_side(embed, partial, side)
    a, b = _values(embed, chosen), _values(partial, chosen)
    if a.shape[1] != b.shape[1]:
        raise UserError(f"the rows of the patches have {a.shape[1]} and {b.shape[1]} coordinates: give two of one base")
    wanted = np.union1d(embed.ids, partial.ids) if tickets is None else tickets.ids
    in_embed, in_partial = np.isin(wanted, embed.ids), np.isin(wanted, partial.ids)
    rows = wanted[in_embed & in_partial]
    if not len(rows):
        of = "" if tickets is None else f" among the {len(wanted):,} tickets"
        raise UserError(f"the patches change no row in common{of}: there is nothing to compare")
    before, after = (values[torch.from_numpy(np.searchsorted(p.ids, rows))] for p, values in ((embed, a), (partial, b)))
    bad = (torch.isnan(before) | torch.isnan(after)).any(dim=1).numpy()
    if bad.any():
        raise UserError(f"a patch holds NaN in row {rows[bad][0]}: the training diverged, or a file is damaged")
    return ComparedTunings(
        rows=rows,
        counts=ks_counts(before, after),
        width=int(before.shape[1]),
        level=float(level),
        alpha=_alpha_of(tickets),
        own_tickets=None if tickets is None else np.array_equal(partial.ids, tickets.ids),
        side=chosen,
        only_embed=int(np.count_nonzero(in_embed & ~in_partial)),
        only_partial=int(np.count_nonzero(in_partial & ~in_embed)),
        in_neither=int(np.count_nonzero(~in_embed & ~in_partial)),
        made_from={"base": dict(embed.base), "embed": embed.content, "partial": partial.content},
        tokens=tokens or {},
        file=file,
        selector=None if tickets is None else tickets.rule.get("selector"),
    )


def _alpha_of(tickets: Tickets | None) -> float | None:
    """Return the alpha that selected tickets by p; None where another rule did."""
    rule = {} if tickets is None else tickets.rule
    return float(rule["alpha"]) if rule.get("selector") == "ks" and "alpha" in rule else None


def _check_base(embed: RowPatch, partial: RowPatch, tickets: Tickets | None) -> None:
    first, second = (patch.base.get("fingerprint") for patch in (embed, partial))
    if first != second:
        raise UserError(
            f"the patches belong to different bases, {embed.base.get('name')} ({(first or '')[:12]}) and "
            f"{partial.base.get('name')} ({(second or '')[:12]}): give two patches of one base"
        )
    third = None if tickets is None else fingerprint(tickets.made_from, "base")
    if third is not None and third != first:
        raise UserError(
            f"the tickets belong to another base ({third[:12]}) than the patches ({(first or '')[:12]}): give their own"
        )


def _common_side(embed: RowPatch, partial: RowPatch, side: Side | None) -> Side:
    both: list[Side] = [s for s in ("input", "output") if None not in (embed.values_of(s), partial.values_of(s))]
    if not both or (side is not None and side not in both):
        asked = "" if side is None or not both else f", but `side={side}` was asked for"
        raise UserError(
            f"one patch changes the {embed.side} side and the other the {partial.side} side of the embedding{asked}: "
            "give patches of one side"
        )
    return both[0] if side is None else side


def _values(patch: RowPatch, side: Side) -> torch.Tensor:
    values = patch.values_of("output" if side == "output" else "input")
    if values is None:
        raise AssertionError(f"a patch without values of side {side}")
    return values
