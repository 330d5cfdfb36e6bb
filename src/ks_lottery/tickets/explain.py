"""What the tickets are: their p, their ranks by every rival score, and how frequent their tokens are. Table 3 of the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.config.choices import ATTRIBUTIONS, SCORES
from ks_lottery.config.ticket_commands import ExplainSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.stats.ranks import average_ranks, rank_fraction
from ks_lottery.store.files import write_json
from ks_lottery.store.manifest import digest_json, manifest
from ks_lottery.tickets.explanation_sections import explanation_sections
from ks_lottery.tickets.origin import differing, tokens_part
from ks_lottery.tickets.rank_agreement import RankAgreement, agreement_of
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.span_counts import SpanCounts
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.report.section import Section


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Explanation(Shown):
    """One entry for each of K tickets, in their order.

    Parameters
    ----------
    rows
        Rows, shape (K,).
    counts, log_pvalues
        Integer KS counts k and exact log p, shape (K,).
    width
        Coordinates d of a row; D = k / d.
    ranks
        By score, rank / V of each ticket among all V rows, 1 / V for the most important, ties averaged, shape (K,); NaN where
        the score is not defined. ``lca`` and ``gradient`` where an attribution was given: a row that was not trained
        contributed 0.
    frequencies, frequency_ranks
        How often each token stands in the corpus, and its rank by that among all V, 1 for the most frequent, ties averaged (not
        divided by V, as in the paper); shape (K,). None without a corpus.
    agreement
        By rival score, how far it agrees with the KS test.
    vocabulary, moved
        Number V of rows, and of those that moved.
    rule
        The rule that chose the tickets.
    made_from
        Fingerprints.
    tokens
        Token strings by row; empty where they are not known.
    corpus
        What the frequencies were counted in: ``text``, ``sentences`` and ``tokens``. None without a corpus.
    origins
        By ``instruction``, ``source`` and ``target``, how often each token stands there in the training text, shape (K,). A row
        whose token stands in the instruction is a template row. None where the tuning did not save it.
    notes
        What is missing and why, one sentence each.
    """

    rows: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    log_pvalues: npt.NDArray[np.float64]
    width: int
    ranks: Mapping[str, npt.NDArray[np.float64]]
    frequencies: npt.NDArray[np.int64] | None
    frequency_ranks: npt.NDArray[np.float64] | None
    agreement: Mapping[str, RankAgreement]
    vocabulary: int
    moved: int
    rule: Mapping[str, Any] = field(default_factory=dict)
    made_from: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[int, str] = field(default_factory=dict)
    corpus: Mapping[str, Any] | None = None
    origins: Mapping[str, npt.NDArray[np.int64]] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number K of tickets."""
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Explanation({len(self):,} tickets of {self.vocabulary:,} rows, ranks by {', '.join(self.ranks)})"

    def table(self) -> list[dict[str, Any]]:
        """Return one mapping a ticket, in plain values."""
        listed: list[dict[str, Any]] = []
        for place, row in enumerate(self.rows.tolist()):
            token = {} if not self.tokens else {"token": self.tokens.get(row, "''")}
            often = (
                {}
                if self.frequencies is None or self.frequency_ranks is None
                else {
                    "frequency": int(self.frequencies[place]),
                    "frequency_rank": float(self.frequency_ranks[place]),
                }
            )
            log_p = float(self.log_pvalues[place])
            listed.append(
                {
                    "row": row,
                    **token,
                    "count": int(self.counts[place]),
                    "statistic": float(self.counts[place] / self.width),
                    "pvalue": float(np.exp(log_p)),
                    "log_pvalue": log_p,
                    **often,
                    **self._origin(place),
                    "ranks": {name: _plain(values[place]) for name, values in self.ranks.items()},
                }
            )
        return listed

    def _origin(self, place: int) -> dict[str, Any]:
        if self.origins is None:
            return {}
        times = {name: int(column[place]) for name, column in self.origins.items()}
        return {"origin": times, "template": times["instruction"] > 0}

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain values, for JSON."""
        return {
            "vocabulary": self.vocabulary,
            "moved": self.moved,
            "width": self.width,
            "rule": dict(self.rule),
            "corpus": None if self.corpus is None else dict(self.corpus),
            "template_rows": None if self.origins is None else int((self.origins["instruction"] > 0).sum()),
            "agreement": {name: asdict(agreement) for name, agreement in self.agreement.items()},
            "rows": self.table(),
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> Path:
        """Write everything to `path` as JSON, and return the path."""
        path = Path(path).expanduser()
        content = self.as_dict()
        made_from = {**self.made_from, "tickets": digest_json(self.rows.tolist())}
        about = manifest(
            "explanation", made_from=made_from, settings={"rule": content["rule"], "corpus": content["corpus"]}
        )
        write_json(path, {**about, **content})
        return path

    def sections(self, top: int = ExplainSettings.top) -> list[Section]:
        """Return the first `top` tickets as a table, how far each rival agrees with the KS test, and what the columns are.

        Raises
        ------
        UserError
            When `top` is below 0.
        """
        return explanation_sections(self.as_dict(), top)


@checks_names
def explain(
    tickets: Tickets | str | Path,
    scan: Scan | str | Path,
    *,
    frequencies: Mapping[int, int] | None = None,
    attribution: Attribution | str | Path | None = None,
    tokens: Mapping[int, str] | None = None,
    origins: SpanCounts | str | Path | None = None,
) -> Explanation:
    """Return what table 3 of the paper shows of tickets, and how far each rival score agrees with the KS test.

    Parameters
    ----------
    tickets
        Tickets, or the file that they were saved to.
    scan
        The scan that the tickets were selected from, of one tensor; or its file.
    frequencies
        How often each token stands in a text of the target language, by row; `token_counts` counts.
    attribution
        What the scanned tuning recorded, or the folder that it is in.
    tokens
        Token strings by row, to show.
    origins
        How often each token stands in the instruction, the source and the target of a training text, or the folder of the
        tuning that saved it. None, the default, shows no origin.

    Raises
    ------
    UserError
        When the tickets or the attribution belong to another base or scan, as far as their manifests say, or a ticket is no row
        of the scan.
    """
    tickets = tickets if isinstance(tickets, Tickets) else Tickets.open(tickets)
    scan = tokens_part(scan if isinstance(scan, Scan) else Scan.open(scan))
    if isinstance(attribution, str | Path):
        attribution = Attribution.open(attribution)
    _check(tickets, scan, attribution)
    rows, size = tickets.rows, len(scan)
    scores = {name: scan.score(name) for name in SCORES}
    if attribution is not None:
        scores |= {name: _spread(attribution, name, size) for name in ATTRIBUTIONS if name in attribution.scores}
    every = None
    if frequencies is not None:
        every = np.array([frequencies.get(row, 0) for row in range(size)], dtype=np.int64)
    rivals = {name: score for name, score in scores.items() if name != "ks"}
    if every is not None:
        rivals = {"frequency": every.astype(np.float64), **rivals}
    moved = np.flatnonzero(scan.moved)
    return Explanation(
        rows=rows,
        counts=scan.counts[rows],
        log_pvalues=scan.log_pvalues[rows],
        width=scan.width,
        ranks={name: rank_fraction(score)[rows] for name, score in scores.items()},
        frequencies=None if every is None else every[rows],
        frequency_ranks=None if every is None else average_ranks(every.astype(np.float64))[rows],
        agreement={name: agreement_of(score, scan.counts, moved, rows) for name, score in rivals.items()},
        vocabulary=size,
        moved=len(moved),
        rule=tickets.rule,
        made_from=scan.made_from,
        tokens=tokens or {},
        origins=None
        if origins is None
        else (origins if isinstance(origins, SpanCounts) else SpanCounts.open(origins)).of(rows),
    )


_OTHER = {
    "base": "are of another base than the scan",
    "patch": "were selected from a scan of another tuning",
    "compared": "were selected from a scan of other weights",
}


def _check(tickets: Tickets, scan: Scan, attribution: Attribution | None) -> None:
    other = differing(tickets.made_from, scan.made_from)
    if other is not None:
        raise UserError(f"the tickets {_OTHER[other]}: give the scan that they were selected from")
    if attribution is not None and differing(attribution.made_from, scan.made_from) is not None:
        raise UserError("the attribution is that of another tuning than was scanned: give its own")
    for what, ids in (("tickets", tickets.rows), ("attribution", () if attribution is None else attribution.ids)):
        if len(ids) and not 0 <= np.min(ids) <= np.max(ids) < len(scan):
            raise UserError(f"the {what} hold row {np.max(ids)}, but the scan has {len(scan):,} rows: give their own")


def _spread(attribution: Attribution, name: str, size: int) -> npt.NDArray[np.float64]:
    """Return a recorded score for each of `size` rows: one that was not trained contributed 0."""
    score = np.zeros(size)
    score[attribution.ids] = attribution.score(name)
    return score


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
