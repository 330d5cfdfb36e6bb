"""The one registry of selectors: from what is known of the rows to an ordered set of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ks_lottery.config.choices import ATTRIBUTIONS, SCORES
from ks_lottery.errors import UserError
from ks_lottery.stats.ranks import rank_fraction
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.corpus.batches import Example
    from ks_lottery.tickets.scan import Scan

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a selector may look at; what a selector does not need may be absent.

    Parameters
    ----------
    vocabulary
        Number V of rows.
    size
        Number of rows to select; with ``all-but-tickets``, of the first tickets that are excluded (None: all of them).
    seed
        Seed of a random draw.
    scan
        For the scores of a scan: ``ks`` and its rivals.
    alpha, interval
        For ``ks`` without a size: rows with p < alpha, or with p in [low, high).
    correction
        Of p for the number of rows, with alpha or interval.
    tickets
        For ``tickets`` and ``all-but-tickets``.
    attribution
        For ``lca`` and ``gradient``.
    frequencies
        For ``frequency``: count of each token in a text of the target language, by row.
    examples
        Returns the rendered training examples, for ``occurrence``. Called only by selectors that need them.
    reachable
        Returns the rows that training on the text can move, ascending. Called only by selectors that need them.
    """

    vocabulary: int
    size: int | None = None
    seed: int = 0
    scan: Scan | None = None
    alpha: float | None = None
    interval: tuple[float, float] | None = None
    correction: str = "none"
    tickets: Tickets | None = None
    attribution: Attribution | None = None
    frequencies: Mapping[int, int] | None = None
    examples: Callable[[], Sequence[Example]] | None = None
    reachable: Callable[[], npt.NDArray[np.int64]] | None = None


def select_rows(by: str, basis: Basis) -> Tickets:
    """Select rows by one of `SELECTORS`.

    Raises
    ------
    UserError
        When there is no such selector, or something that it needs is missing or out of range.
    """
    if by not in SELECTORS:
        raise UserError(f"selector {by} is not known; there are {', '.join(SELECTORS)}")
    return SELECTORS[by](basis)


def _need(by: str, value: _T | None, what: str) -> _T:
    if value is None:
        raise UserError(f"selection by {by} needs {what}")
    return value


def check_size(by: str, size: int | None) -> int:
    """Return the number of rows of a selector that ranks or draws rows.

    Raises
    ------
    UserError
        When it is missing or below 0.
    """
    if size is None:
        raise UserError(f"rows ranked by {by} have no p-value: give `top_k`, the number of rows")
    if size < 0:
        raise UserError(f"top_k is {size}, but must be 0 or more")
    return size


def _by_score(by: str) -> Callable[[Basis], Tickets]:
    """Return the selector of one score of a scan; D has a p-value too, and so a threshold."""

    def selector(basis: Basis) -> Tickets:
        given = {"alpha": basis.alpha, "interval": basis.interval, "top_k": basis.size}
        named = [f"`{name}`" for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise UserError(f"select takes one of `alpha`, `interval` and `top_k`, not {' and '.join(named)}")
        scan = _need(by, basis.scan, "a scan")
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
        raise UserError(f"interval is {low} to {high}, but must lie in 0 to 1 and rise")
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
        size, attribution = (
            check_size(by, basis.size),
            _need(by, basis.attribution, "`attribution`, the record of an embed tuning"),
        )
        score = attribution.score(by)
        order = np.argsort(-score, kind="stable")[:size]
        scores = [{by: float(score[i]), "occurrences": int(attribution.occurrences[i])} for i in order]
        rule = {"selector": by, "size": size, "measured": attribution.settings.get("measured", "while tuning")}
        return Tickets(rows=attribution.ids[order], rule=rule, scores=scores, made_from=attribution.made_from)

    return selector


def _by_frequency(basis: Basis) -> Tickets:
    """Select the tokens that are most frequent in a target-language text (table 3 of the paper); ties: lower row.

    Each row's ``rank`` is rank / V with ties averaged, as in the table.
    """
    size = check_size("frequency", basis.size)
    counts = _need(
        "frequency", basis.frequencies or None, "a text of the target language to count tokens in (`corpus`)"
    )
    every = np.array([counts.get(row, 0) for row in range(basis.vocabulary)], dtype=np.float64)
    ranks = rank_fraction(every)
    order = np.argsort(-every, kind="stable")[:size]
    scores = [{"frequency": int(every[row]), "rank": float(ranks[row])} for row in order]
    return Tickets(rows=order.astype(np.int64), rule={"selector": "frequency", "size": size}, scores=scores)


def _by_occurrence(basis: Basis) -> Tickets:
    """Select the reachable rows that occur most in the rendered training examples; ties go to the lower row.

    Template and source count too: this is not the frequency of the paper's table 3, which is of a corpus.
    """
    from ks_lottery.corpus.batches import occurrences

    size, examples = (
        check_size("occurrence", basis.size),
        _need("occurrence", basis.examples, "the training examples (`corpus`)"),
    )
    pool, counts = _reachable("occurrence", basis), occurrences(examples())
    order = sorted(pool.tolist(), key=lambda row: (-counts.get(row, 0), row))[:size]
    scores = [{"occurrences": int(counts.get(row, 0))} for row in order]
    return Tickets(rows=np.array(order, dtype=np.int64), rule={"selector": "occurrence", "size": size}, scores=scores)


def _reachable(by: str, basis: Basis) -> npt.NDArray[np.int64]:
    return _need(by, basis.reachable, "the rows that training on a text can move (`corpus`)")()


def _random(basis: Basis) -> Tickets:
    """Draw from the whole vocabulary, as the paper does."""
    return _drawn("random", np.arange(basis.vocabulary, dtype=np.int64), basis)


def _random_reachable(basis: Basis) -> Tickets:
    """Draw from the rows that the text reaches: the fair rival."""
    check_size("random-reachable", basis.size)
    return _drawn("random-reachable", _reachable("random-reachable", basis), basis)


def _drawn(by: str, pool: npt.NDArray[np.int64], basis: Basis) -> Tickets:
    """Draw rows from `pool` without replacement, the same ones for the same seed."""
    size = check_size(by, basis.size)
    rows = np.random.default_rng(basis.seed).choice(pool, size=min(size, len(pool)), replace=False)
    return Tickets(rows=rows.astype(np.int64), rule={"selector": by, "size": size, "seed": basis.seed})


def _every_reachable(basis: Basis) -> Tickets:
    return Tickets(rows=_reachable("reachable", basis), rule={"selector": "reachable"})


def _given_tickets(basis: Basis) -> Tickets:
    tickets = _need("tickets", basis.tickets, "tickets: take them from a scan first")
    if len(tickets) and not 0 <= int(tickets.rows.min()) <= int(tickets.rows.max()) < basis.vocabulary:
        raise UserError(
            f"the tickets name row {int(tickets.rows.max())}, but the embedding has {basis.vocabulary:,} rows: "
            "give the tickets of this model"
        )
    return tickets


def _all_but_tickets(basis: Basis) -> Tickets:
    """Exclude the first tickets from what the text reaches (figure 5 of the paper)."""
    tickets = _given_tickets(basis)
    return _every_reachable(basis) - (
        tickets if basis.size is None else tickets.head(check_size("tickets", basis.size))
    )


SELECTORS: dict[str, Callable[[Basis], Tickets]] = {
    **{name: _by_score(name) for name in SCORES},
    "frequency": _by_frequency,
    "occurrence": _by_occurrence,
    "random": _random,
    "random-reachable": _random_reachable,
    **{name: _by_attribution(name) for name in ATTRIBUTIONS},
    "reachable": _every_reachable,
    "tickets": _given_tickets,
    "all-but-tickets": _all_but_tickets,
}
"""Name of a selector to what selects; the same names as `ks_lottery.config.choices.SELECTORS`, which has their help."""
