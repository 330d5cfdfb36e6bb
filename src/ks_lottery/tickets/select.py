"""Select tickets from a scan or an attribution: the public calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.config.choices import ATTRIBUTIONS, SCORES
from ks_lottery.config.ticket_commands import SelectSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.selectors import Basis, select_rows

if TYPE_CHECKING:
    from ks_lottery.tickets.tickets import Tickets


@checks_names
def select(
    scan: Scan | str | Path,
    *,
    alpha: float | None = SelectSettings.alpha,
    interval: tuple[float, float] | None = SelectSettings.interval,
    top_k: int | None = SelectSettings.top_k,
    by: str = SelectSettings.by,
    correction: str = SelectSettings.correction,
) -> Tickets:
    """Select rows of a scan: by default the winning tickets, p < 0.05 (section 3.1 of the paper), by ascending p.

    p is a threshold on a distance here, not an error rate: the samples are one row before and after.

    Parameters
    ----------
    scan
        A scan, or the file that one was saved to.
    alpha
        All rows with p < alpha, from 0 (nothing) to 1 (every row, by definition).
    interval
        All rows with p in [low, high), as in figure 8 of the paper; high = 1 takes p = 1 in.
    top_k
        The first rows by `by`. Ties of ``ks`` go to the row that moved farther, then to the lower one; other ties to the
        lower row.
    by
        ``ks`` or one of the rival scores (`ks_lottery.config.choices.SCORES`).
    correction
        Of p for the number of rows; the paper's setting is ``none``.

    Raises
    ------
    UserError
        When more than one rule is given, or one of them is out of range.
    """
    if by not in SCORES:
        raise UserError(f"score {by} is not known; there are {', '.join(SCORES)}")
    opened = scan if isinstance(scan, Scan) else Scan.open(scan)
    basis = Basis(
        vocabulary=len(opened), size=top_k, scan=opened, alpha=alpha, interval=interval, correction=correction
    )
    return select_rows(by, basis)


@checks_names
def select_by_attribution(attribution: Attribution | str | Path, by: str, size: int) -> Tickets:
    """Select the `size` rows that contributed most, by what embed tuning or `row_gradients` recorded; ties: lower row.

    Parameters
    ----------
    attribution
        An attribution, or the folder that it is in.
    by
        ``lca`` (loss-change allocation; a row that raised the loss is below 0, and comes last), ``gradient`` (summed gradient
        norm), ``gradient-sum`` (norm of the summed gradient) or ``gradient-adam`` (fall of the loss along Adam's first move).

    Raises
    ------
    UserError
        When the attribution has no such score, or `size` is below 0.
    """
    if by not in ATTRIBUTIONS:
        raise UserError(f"attribution {by} is not known; there are {', '.join(ATTRIBUTIONS)}")
    opened = attribution if isinstance(attribution, Attribution) else Attribution.open(Path(attribution))
    vocabulary = int(opened.ids[-1]) + 1 if len(opened) else 0
    return select_rows(by, Basis(vocabulary=vocabulary, size=size, attribution=opened))
