"""Selectors that look at a text or draw: no tuning, no scan and no model is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.stats.ranks import rank_fraction
from ks_lottery.tickets.selection_basis import check_size, need
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import numpy.typing as npt

    from ks_lottery.tickets.selection_basis import Basis


def _by_frequency(basis: Basis) -> Tickets:
    """Select the tokens that are most frequent in a target-language text (table 3 of the paper); ties: lower row.

    Each row's ``rank`` is rank / V with ties averaged, as in the table.
    """
    size = check_size("frequency", basis.size)
    counts = need("frequency", basis.frequencies or None, "a text of the target language to count tokens in (`corpus`)")
    every = np.array([counts.get(row, 0) for row in range(basis.vocabulary)], dtype=np.float64)
    ranks = rank_fraction(every)
    order = np.argsort(-every, kind="stable")[:size]
    scores = [{"frequency": int(every[row]), "rank": float(ranks[row])} for row in order]
    return Tickets(rows=order.astype(np.int64), rule={"selector": "frequency", "size": size}, scores=scores)


def _by_occurrence(basis: Basis) -> Tickets:
    """Select the reachable rows that occur most in the rendered training examples; ties go to the lower row.

    Template and source count too: this is not the frequency of the paper's table 3, which is of a corpus.
    """
    check_size("occurrence", basis.size)
    return _most_frequent("occurrence", basis)


def _by_template(basis: Basis) -> Tickets:
    """Select of the rows of the template and the instruction those that occur most in the rendered training examples.

    A token that straddles template and source counts as the template's.
    """
    from ks_lottery.corpus.batches import span_occurrences

    check_size("template", basis.size)
    counted = span_occurrences(need("template", basis.examples, "the training examples (`corpus`)")())
    if counted is None:
        raise UserError(
            "selection by template needs to know which tokens of a prompt are the source: give the text itself (`corpus`) and "
            "a template that shows the source as it is, or choose rows by another rule"
        )
    return _most_frequent("template", basis, among=counted["instruction"])


def _most_frequent(by: str, basis: Basis, among: Collection[int] | None = None) -> Tickets:
    from ks_lottery.corpus.batches import occurrences

    size, examples = check_size(by, basis.size), need(by, basis.examples, "the training examples (`corpus`)")
    pool, counts = _reachable(by, basis).tolist(), occurrences(examples())
    if among is not None:
        pool = [row for row in pool if row in among]
    order = sorted(pool, key=lambda row: (-counts.get(row, 0), row))[:size]
    scores = [{"occurrences": int(counts.get(row, 0))} for row in order]
    return Tickets(rows=np.array(order, dtype=np.int64), rule={"selector": by, "size": size}, scores=scores)


def _reachable(by: str, basis: Basis) -> npt.NDArray[np.int64]:
    return need(by, basis.reachable, "the rows that training on a text can move (`corpus`)")()


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


def every_reachable(basis: Basis) -> Tickets:
    """Select every row that training on the text can move."""
    return Tickets(rows=_reachable("reachable", basis), rule={"selector": "reachable"})


TEXT_SELECTORS: dict[str, Callable[[Basis], Tickets]] = {
    "frequency": _by_frequency,
    "occurrence": _by_occurrence,
    "template": _by_template,
    "random": _random,
    "random-reachable": _random_reachable,
}
"""Name of a selector to what selects."""
