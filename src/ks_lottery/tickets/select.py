"""Select tickets from a scan or an attribution: the public calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.config.choices import ATTRIBUTIONS, SCORES
from ks_lottery.config.ticket_commands import SelectSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.row_scale import rate_sentence
from ks_lottery.models.sources import open_unconverted
from ks_lottery.report.forms import rounded_up
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.scan_sections import LARGEST
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
    allow_empty: bool = SelectSettings.allow_empty,
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
    allow_empty
        Return an empty set where no row is a ticket; off by default.

    Raises
    ------
    UserError
        When more than one rule is given, or one of them is out of range; or no row is a ticket, naming the learning rate
        that would do as far as the scan measured it.
    """
    if by not in SCORES:
        raise UserError(f"score {by} is not known; there are {', '.join(SCORES)}")
    opened = scan if isinstance(scan, Scan) else Scan.open(scan)
    basis = Basis(
        vocabulary=len(opened), size=top_k, scan=opened, alpha=alpha, interval=interval, correction=correction
    )
    return not_empty(select_rows(by, basis), opened, allow_empty=allow_empty)


def not_empty(tickets: Tickets, scan: Scan, *, allow_empty: bool = SelectSettings.allow_empty) -> Tickets:
    """Return tickets that were selected from a scan, unless there are none.

    Parameters
    ----------
    allow_empty
        Return an empty set too.

    Raises
    ------
    UserError
        When there are none, naming the learning rate that would do: that of the tuning times the factor by which its moves
        were measured to fall short (`ks_lottery.tickets.shortfall`).
    """
    if len(tickets) or allow_empty:
        return tickets
    rule = tickets.rule
    if not len(scan) or "alpha" not in rule or rule["alpha"] == 0:
        what = ", ".join(f"{name} {value}" for name, value in rule.items())
        raise UserError(f"no row is selected by {what}. Give a rule that selects some, or `allow_empty=True`")
    alpha, measured = rule["alpha"], scan.settings.get("shortfall", {})
    power = scan.power(alpha, rule.get("correction", "none"))
    if not power["rows_moved"]:
        raise UserError(f"no row is a ticket: none of the {len(scan):,} rows moved. Scan a tuning that trains them")
    what = f"no row is a ticket: the largest D is {power['largest_statistic']:.4f}, and "
    what += f"p < {alpha:g} needs {power['critical_statistic']:.4f}"
    rate = measured.get("learning_rate")
    if power["measured_shortfall"] and power["needed"] is not None:
        factor = rounded_up(power["needed"], 2)
        named = "" if rate is None else f" of about {rounded_up(rate * power['needed'], 2)} instead of {rate:g}"
        remedy = f"Tune with a learning rate{named}, since moves {factor} times as large would do (measured)"
    else:
        known = _by_base(scan)
        more = (
            f"moves {LARGEST:,.0f} times as large would not do" if power["measured_shortfall"] else "not measured here"
        )
        remedy = f"Tune with a larger learning rate ({more}){'' if known is None else f'. {known}'}"
    raise UserError(f"{what}. {remedy}")


def _by_base(scan: Scan) -> str | None:
    """Return the learning rate that the rows of a scan's base need; None where the base is not on this machine."""
    name = str(scan.made_from.get("base", {}).get("name", ""))
    try:
        is_here = name.startswith("asset:") or Path(name).exists()
        return rate_sentence(open_unconverted(name)) if is_here else None
    except (UserError, OSError):
        return None


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
