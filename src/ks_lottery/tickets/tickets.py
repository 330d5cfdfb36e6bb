"""Selectors: from a saved scan, a frequency count or a seed to an ordered set of rows.

Must never train or read a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.store.files import manifest, read_json, write_json
from ks_lottery.tickets.scan import rank_fraction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from peft import TrainableTokensConfig

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.tickets.scan import Scan


@dataclass(frozen=True)
class Tickets:
    """An ordered set of rows, and the rule that chose it.

    Parameters
    ----------
    rows
        Rows, the most important first, shape (K,).
    rule
        Selector and its settings.
    scores
        What the selector knew of each row, one mapping a row.
    made_from
        Fingerprints.
    """

    rows: npt.NDArray[np.int64]
    rule: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]] = ()
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number K of rows."""
        return len(self.rows)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The rows in ascending order, as patches and row modules take them."""
        return np.sort(self.rows)

    def __and__(self, other: Tickets) -> Tickets:
        """Return the rows in both, in this one's order."""
        return self._keep(np.isin(self.rows, other.rows), "and", other)

    def __sub__(self, other: Tickets) -> Tickets:
        """Return the rows in this one alone, in its order."""
        return self._keep(~np.isin(self.rows, other.rows), "minus", other)

    def __or__(self, other: Tickets) -> Tickets:
        """Return the rows in either: this one's, then those that the other adds."""
        more = ~np.isin(other.rows, self.rows)
        scores = (*self.scores, *(s for s, m in zip(other.scores, more, strict=True) if m))
        known = scores if len(self.scores) == len(self) and len(other.scores) == len(other) else ()
        return Tickets(
            np.concatenate([self.rows, other.rows[more]]), self._combined("or", other), known, self.made_from
        )

    def head(self, count: int) -> Tickets:
        """Return the first `count` rows."""
        return replace(self, rows=self.rows[:count], scores=self.scores[:count], rule={**self.rule, "head": count})

    def _keep(self, keep: npt.NDArray[np.bool_], operation: str, other: Tickets) -> Tickets:
        scores = [s for s, k in zip(self.scores, keep, strict=True) if k] if self.scores else ()
        return Tickets(self.rows[keep], self._combined(operation, other), scores, self.made_from)

    def _combined(self, operation: str, other: Tickets) -> dict[str, Any]:
        return {"selector": operation, "of": [dict(self.rule), dict(other.rule)]}

    def to_peft_config(self, **settings: Any) -> TrainableTokensConfig:
        """Return a `peft.TrainableTokensConfig` that trains these rows, for people who train elsewhere.

        On a model with tied embeddings PEFT changes the output side too, which this project's own training does not.

        Parameters
        ----------
        settings
            More fields of the config, such as ``target_modules``; by default PEFT takes ``embed_tokens``.
        """
        from peft import TrainableTokensConfig

        return TrainableTokensConfig(token_indices=self.ids.tolist(), **settings)

    def save(self, path: Path, tokens: Sequence[str] | None = None) -> None:
        """Write the rows with their scores, and their token strings if given, as JSON."""
        listed: list[dict[str, Any]] = []
        for position, row in enumerate(self.rows.tolist()):
            token = {} if tokens is None else {"token": tokens[row]}
            listed.append({"row": row, **token, **(self.scores[position] if self.scores else {})})
        write_json(path, {**manifest("tickets", made_from=self.made_from, settings=self.rule), "rows": listed})

    @classmethod
    def open(cls, path: Path) -> Tickets:
        """Read what `save` wrote."""
        about = read_json(path, "tickets")
        scores = [{k: v for k, v in row.items() if k not in {"row", "token"}} for row in about["rows"]]
        rows = np.array([row["row"] for row in about["rows"]], dtype=np.int64)
        return cls(rows, about["settings"], scores, about["made_from"])

    @staticmethod
    def tokens(path: Path) -> dict[int, str]:
        """Return the token strings by row that `save` wrote; empty where it was given none."""
        return {row["row"]: str(row["token"]) for row in read_json(path, "tickets")["rows"] if "token" in row}


def select(
    scan: Scan,
    *,
    alpha: float | None = None,
    interval: tuple[float, float] | None = None,
    top_k: int | None = None,
    by: str = "ks",
    correction: str = "none",
) -> Tickets:
    """Select rows of a scan: by default the winning tickets, p < 0.05 (section 3.1 of the paper), by ascending p.

    p is a threshold on a distance here, not an error rate: the samples are one row before and after.

    Parameters
    ----------
    alpha
        All rows with p < alpha, from 0 (nothing) to 1 (every row, by definition).
    interval
        All rows with p in [low, high), as in figure 8 of the paper; high = 1 takes p = 1 in.
    top_k
        The first rows by `by`; ties go to the lower row.
    by
        ``ks`` or one of the rival scores (`ks_lottery.tickets.scan.SCORES`).
    correction
        Of p for the number of rows; the paper's setting is ``none``.

    Raises
    ------
    UserError
        When more than one rule is given, or one of them is out of range.
    """
    given = [name for name, value in (("alpha", alpha), ("interval", interval), ("top_k", top_k)) if value is not None]
    if len(given) > 1:
        raise UserError(f"select takes one of alpha, interval and top_k, not {' and '.join(given)}")
    if by != "ks" and top_k is None:
        raise UserError(f"rows ranked by {by} have no p-value: give top_k, the number of rows")
    rule: dict[str, Any] = {"selector": by}
    if top_k is not None:
        if top_k < 0:
            raise UserError(f"top_k is {top_k}, but must be 0 or more")
        score = -scan.log_pvalues if by == "ks" else scan.score(by)
        rows = np.argsort(np.where(np.isnan(score), np.inf, -score), kind="stable")[:top_k]
        rule |= {"top_k": top_k}
    elif interval is not None:
        low, high = interval
        if not 0 <= low <= high <= 1:
            raise UserError(f"interval is {low} to {high}, but must lie in 0 to 1 and rise")
        above = scan.passing(low, correction)
        inside = scan.passing(high, correction)
        rows = inside[~np.isin(inside, above)]
        rule |= {"interval": [low, high], "correction": correction}
    else:
        alpha = 0.05 if alpha is None else alpha
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha is {alpha}, but must be from 0 to 1")
        rows = scan.passing(alpha, correction)
        rule |= {"alpha": alpha, **({} if correction == "none" else {"correction": correction})}
    return Tickets(rows.astype(np.int64), rule, _scores(scan, rows, by), scan.made_from)


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


def select_random(pool: npt.NDArray[np.int64], size: int, *, seed: int, reachable: bool) -> Tickets:
    """Draw `size` rows from `pool` without replacement, the same ones for the same seed.

    Parameters
    ----------
    reachable
        Whether `pool` is the reachable rows (the fair rival) or the whole vocabulary (the paper's).
    """
    drawn = np.random.default_rng(seed).choice(pool, size=min(size, len(pool)), replace=False)
    selector = "random-reachable" if reachable else "random"
    return Tickets(drawn.astype(np.int64), {"selector": selector, "size": size, "seed": seed})


def select_by_occurrence(counts: Mapping[int, int], pool: npt.NDArray[np.int64], size: int) -> Tickets:
    """Take the `size` rows of `pool` that occur most in the rendered training examples; ties go to the lower row.

    Template and source count too: this is not the frequency of the paper's table 3, which is of a corpus.
    """
    order = sorted((int(row) for row in pool), key=lambda row: (-counts.get(row, 0), row))[:size]
    scores = [{"occurrences": int(counts.get(row, 0))} for row in order]
    return Tickets(np.array(order, dtype=np.int64), {"selector": "occurrence", "size": size}, scores)


def select_by_frequency(counts: Mapping[int, int], vocabulary: int, size: int) -> Tickets:
    """Take the `size` tokens that are most frequent in a target-language text (table 3 of the paper); ties: lower row.

    Each row's ``rank`` is rank / V with ties averaged, as in the table.
    """
    every = np.array([counts.get(row, 0) for row in range(vocabulary)], dtype=np.float64)
    ranks = rank_fraction(every)
    order = np.argsort(-every, kind="stable")[:size]
    scores = [{"frequency": int(every[row]), "rank": float(ranks[row])} for row in order]
    return Tickets(order.astype(np.int64), {"selector": "frequency", "size": size}, scores)


def select_by_attribution(attribution: Attribution, by: str, size: int) -> Tickets:
    """Take the `size` rows that contributed most, by what embed tuning or `row_gradients` recorded; ties: lower row.

    Parameters
    ----------
    by
        ``lca`` (loss-change allocation; a row that raised the loss is below 0, and comes last) or ``gradient`` (summed gradient
        norm).

    Raises
    ------
    UserError
        When the attribution has no such score, or `size` is below 0.
    """
    if size < 0:
        raise UserError(f"size is {size}, but must be 0 or more")
    score = attribution.score(by)
    order = np.argsort(-score, kind="stable")[:size]
    scores = [{by: float(score[i]), "occurrences": int(attribution.occurrences[i])} for i in order]
    rule = {"selector": by, "size": size, "measured": attribution.settings.get("measured", "while tuning")}
    return Tickets(attribution.ids[order], rule, scores, attribution.made_from)


def overlap(sets: Mapping[str, Tickets]) -> list[dict[str, Any]]:
    """Return, for each pair of sets, what they share (table 8 of the paper shows such rows).

    Returns
    -------
    list of dict
        ``one``, ``other``, their sizes, ``shared`` rows, ``jaccard`` (shared over all, 1 for two empty sets), and the shared
        rows as ``rows``, in the order of ``one``.
    """
    names = list(sets)
    found: list[dict[str, Any]] = []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            a, b = sets[one], sets[other]
            both = a & b
            every = len(a) + len(b) - len(both)
            found.append(
                {
                    "one": one,
                    "other": other,
                    "sizes": (len(a), len(b)),
                    "shared": len(both),
                    "jaccard": len(both) / every if every else 1.0,
                    "rows": both.rows.tolist(),
                }
            )
    return found
