"""Are partially tuned rows distributed like embed-tuned ones? Table 6 of the paper, for any significance level.

Must never take a row that one tuning left alone for a tuned one: such rows are counted, not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.errors import UserError
from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import critical_count, log_pvalues
from ks_lottery.tickets.origin import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import RowPatch, Side
    from ks_lottery.tickets.tickets import Tickets


@dataclass(frozen=True)
class ComparedTunings:
    """The KS test of each row that two tunings of one base have in common: the values of one against those of the other.

    Parameters
    ----------
    rows
        Rows compared, shape (K,), ascending.
    counts
        Integer KS counts k, shape (K,); D = k / d.
    width
        Coordinates d of a row, the size of both samples.
    alphas
        Significance levels that were asked for, each in [0, 1].
    side
        Embedding whose rows were compared, ``input`` or ``output``.
    only_embed, only_partial, in_neither
        Numbers of rows that were not compared: only the first patch, only the second, or (of the tickets) neither changes them.
    made_from
        Fingerprints.
    """

    rows: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    width: int
    alphas: tuple[float, ...]
    side: Side
    only_embed: int
    only_partial: int
    in_neither: int
    made_from: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number K of rows compared."""
        return len(self.rows)

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

    def changed(self, alpha: float) -> int:
        """Return how many rows have p < alpha: none at 0, and every row at 1, by definition.

        Raises
        ------
        UserError
            When alpha is not in [0, 1].
        """
        _check_alpha(alpha)
        return int(np.count_nonzero(self.counts >= critical_count(self.width, alpha)))

    def unchanged(self, alpha: float) -> float:
        """Return the figure of table 6, 1 - changed / compared."""
        return 1 - self.changed(alpha) / len(self)

    @property
    def ratios(self) -> dict[float, float]:
        """The figure of table 6 at each of `alphas`."""
        return {alpha: self.unchanged(alpha) for alpha in self.alphas}


def compare_tunings(
    embed: RowPatch,
    partial: RowPatch,
    tickets: Tickets | None = None,
    *,
    alphas: Sequence[float] = (0.05,),
    side: Side | None = None,
) -> ComparedTunings:
    """Test the embed-tuned against the partially tuned values of each ticket (section 4.2 and table 6 of the paper).

    Parameters
    ----------
    embed, partial
        Two patches over one base; the test takes them alike, so their order does not matter.
    tickets
        Rows to compare; by default all that both patches change.
    alphas
        Levels of this second test, which the paper does not name.
    side
        ``input`` or ``output``; by default the input embedding, where both patches change it.

    Returns
    -------
    ComparedTunings
        Values are compared in float32, as they were trained, and p is exact at any width. p < alpha is a threshold on a
        distance and no error rate; that a row passes as unchanged says that the test sees no difference at this width.

    Raises
    ------
    UserError
        When the bases differ, no row is in common, a row holds NaN, or an alpha is not in [0, 1].
    """
    for alpha in alphas:
        _check_alpha(alpha)
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
        alphas=tuple(float(alpha) for alpha in alphas),
        side=chosen,
        only_embed=int(np.count_nonzero(in_embed & ~in_partial)),
        only_partial=int(np.count_nonzero(in_partial & ~in_embed)),
        in_neither=int(np.count_nonzero(~in_embed & ~in_partial)),
        made_from={"base": dict(embed.base), "embed": embed.content, "partial": partial.content},
    )


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha is {alpha}, but must be from 0 to 1")


def _check_base(embed: RowPatch, partial: RowPatch, tickets: Tickets | None) -> None:
    one, other = (patch.base.get("fingerprint") for patch in (embed, partial))
    if one != other:
        raise UserError(
            f"the patches belong to different bases, {embed.base.get('name')} ({(one or '')[:12]}) and "
            f"{partial.base.get('name')} ({(other or '')[:12]}): give two patches of one base"
        )
    third = None if tickets is None else fingerprint(tickets.made_from, "base")
    if third is not None and third != one:
        raise UserError(
            f"the tickets belong to another base ({third[:12]}) than the patches ({(one or '')[:12]}): give their own"
        )


def _common_side(embed: RowPatch, partial: RowPatch, side: Side | None) -> Side:
    both: list[Side] = [s for s in ("input", "output") if None not in (embed.values_of(s), partial.values_of(s))]
    if not both or (side is not None and side not in both):
        asked = "" if side is None or not both else f", but --side {side} was asked for"
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
