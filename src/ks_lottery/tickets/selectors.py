"""The one registry of selectors: from what is known of the rows to an ordered set of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import ATTRIBUTIONS, EXCLUSIONS, MEASURED, SCORES
from ks_lottery.errors import UserError
from ks_lottery.tickets.selection_basis import Basis, check_size, need
from ks_lottery.tickets.text_selectors import TEXT_SELECTORS, every_reachable
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ks_lottery.tickets.scan import Scan


def select_rows(by: str, basis: Basis) -> Tickets:
    """Select rows by one of `SELECTORS`.

    With `Basis.without`, rows are ranked or drawn without those: of a ranking, the first `Basis.size` of the others.

    Raises
    ------
    UserError
        When there is no such selector, or something that it needs is missing or out of range.
    """
    if by not in SELECTORS:
        raise UserError(f"selector {by} is not known; there are {', '.join(SELECTORS)}")
    return SELECTORS[by](basis) if basis.without is None else _without(by, basis.without, basis)


def _without(by: str, excluded: str, basis: Basis) -> Tickets:
    if excluded not in EXCLUSIONS:
        raise UserError(f"`without` is {excluded}, but must be one of {', '.join(EXCLUSIONS)}")
    every = replace(basis, size=basis.vocabulary)
    size = basis.size if basis.size is None else check_size(by, basis.size)
    ranked = SELECTORS[by](basis if size is None else every)
    others = (ranked - SELECTORS[excluded](every)).head(len(ranked) if size is None else size)
    sized = {name: size for name in ("size", "top_k") if name in ranked.rule}
    return replace(others, rule={**ranked.rule, **sized, "without": excluded})


def _by_score(by: str) -> Callable[[Basis], Tickets]:
    """Return the selector of one score of a scan; D has a p-value too, and so a threshold."""

    def selector(basis: Basis) -> Tickets:
        given = {"alpha": basis.alpha, "interval": basis.interval, "top_k": basis.size}
        named = [f"`{name}`" for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise UserError(f"select takes one of `alpha`, `interval` and `top_k`, not {' and '.join(named)}")
        scan = need(by, basis.scan, "a scan")
        rule: dict[str, Any] = {"selector": by}
        if by != "ks" or basis.size is not None:
            size = check_size(by, basis.size)
            rows = scan.by_pvalue()[:size] if by == "ks" else _by_value(by, scan.score(by))[:size]
            rule |= {"top_k": size}
        else:
            rows, more = _by_pvalue(scan, basis)
            rule |= more
        return Tickets(rows=rows.astype(np.int64), rule=rule, scores=_scores(scan, rows, by), made_from=scan.made_from)

    return selector


def _by_value(by: str, score: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return all rows by falling score, those without one last; ties go to the lower row."""
    if len(score) and np.isnan(score).all():
        raise UserError(f"the scan has no {by} of any row: scan again with this version")
    return np.argsort(np.where(np.isnan(score), np.inf, -score), kind="stable")


def _by_pvalue(scan: Scan, basis: Basis) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
    """Return the rows whose p is below alpha or in an interval, and the rule."""
    if basis.interval is None:
        alpha = 0.05 if basis.alpha is None else basis.alpha
        rule = {"alpha": alpha, **({} if basis.correction == "none" else {"correction": basis.correction})}
        return scan.passing(alpha, basis.correction), rule
    low, high = basis.interval
    if not 0 <= low <= high <= 1:
        raise UserError(f"`interval` {low:g} {high:g}: LOW must be below HIGH, both from 0 to 1")
    below, inside = (scan.passing(bound, basis.correction) for bound in (low, high))
    return inside[~np.isin(inside, below)], {"interval": [low, high], "correction": basis.correction}


def _scores(scan: Scan, rows: npt.NDArray[np.int64], by: str) -> list[dict[str, Any]]:
    logs, statistics = scan.log_pvalues, scan.statistics
    extra = {} if by == "ks" else {by: scan.score(by)}
    return [
        {
            "count": int(scan.counts[row]),
            "statistic": float(statistics[row]),
            "pvalue": float(np.exp(logs[row])),
            "log_pvalue": float(logs[row]),
            **{name: float(values[row]) for name, values in extra.items()},
        }
        for row in rows
    ]


def _by_attribution(by: str) -> Callable[[Basis], Tickets]:
    """Return the selector of one score of an attribution; ties go to the lower row."""

    def selector(basis: Basis) -> Tickets:
        size, attribution = check_size(by, basis.size), basis.attribution
        if attribution is None and by in MEASURED and basis.gradients is not None:
            attribution = basis.gradients()
        attribution = need(by, attribution, "`attribution`, the record of an embed tuning")
        score = attribution.score(by)
        order = np.argsort(-score, kind="stable")[:size]
        scores = [{by: float(score[i]), "occurrences": int(attribution.occurrences[i])} for i in order]
        about = attribution.settings
        rule = {"selector": by, "size": size, "measured": about.get("measured", "while tuning")}
        if by in MEASURED and "measured" in about:
            rule["batch_size"] = about["batch_size"]
        return Tickets(rows=attribution.ids[order], rule=rule, scores=scores, made_from=attribution.made_from)

    return selector


def _given_tickets(basis: Basis) -> Tickets:
    tickets = need("tickets", basis.tickets, "tickets: take them from a scan first")
    if len(tickets) and not 0 <= int(tickets.rows.min()) <= int(tickets.rows.max()) < basis.vocabulary:
        raise UserError(
            f"the tickets name row {int(tickets.rows.max())}, but the embedding has {basis.vocabulary:,} rows: "
            "give the tickets of this model"
        )
    return tickets


def _all_but_tickets(basis: Basis) -> Tickets:
    """Exclude the first tickets from what the text reaches (figure 5 of the paper)."""
    tickets = _given_tickets(basis)
    return every_reachable(basis) - (tickets if basis.size is None else tickets.head(check_size("tickets", basis.size)))


SELECTORS: dict[str, Callable[[Basis], Tickets]] = {
    **{name: _by_score(name) for name in SCORES},
    **TEXT_SELECTORS,
    **{name: _by_attribution(name) for name in ATTRIBUTIONS},
    "reachable": every_reachable,
    "tickets": _given_tickets,
    "all-but-tickets": _all_but_tickets,
}
"""Name of a selector to what selects; the same names as `ks_lottery.config.choices.SELECTORS`, which has their help."""
