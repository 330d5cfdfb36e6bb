"""Calibration: which sentences a guarantee rests on, and what their answers guarantee or choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.candidates import TUNED
from ks_lottery.certification.choice import Choice, choose
from ks_lottery.certification.guarantee import guarantee
from ks_lottery.certification.pool import Pool, check_pool, draw
from ks_lottery.certification.units import drawn_documents, unit_losses
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.predictions import COLUMNS, Predictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.certification.candidates import Candidate
    from ks_lottery.certification.units import Kind
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.models.load import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The text that a certificate reports on, and the text that it is calibrated on, drawn from one pool.

    Parameters
    ----------
    report
        Sentences whose answers the certificate counts.
    calibration, pool
        Sentences that guarantees rest on, and what they were drawn from; None where no guarantee was asked for.
    """

    report: MeasuredText
    calibration: MeasuredText | None = None
    pool: Pool | None = None

    @property
    def overlong(self) -> int:
        """Sentences left out as longer than the limit."""
        return self.report.overlong + (0 if self.calibration is None else self.calibration.overlong)


def open_texts(
    loaded: LoadedModel,
    corpus: Corpus,
    calibration: Corpus | float | None,
    *,
    pool: Pool | None = None,
    same_pool: bool = False,
    template: str = "alpaca",
    max_tokens: int | None = None,
    seed: int = 0,
) -> Texts:
    """Draw or check the calibration text, and tokenize both texts.

    Parameters
    ----------
    calibration
        A text, a share (a float in (0, 1)) or a number (an int) of sentences of `corpus` that are drawn for it, or None.
    pool
        What a calibration text was drawn from, where that is known, as in a run; without it two texts must be parts of one pool
        (`check_pool`).
    seed
        Seed of the draw.
    """

    def measured(part: Corpus) -> MeasuredText:
        return measured_text(loaded, part, template=template, max_tokens=max_tokens)

    if calibration is None:
        return Texts(report=measured(corpus))
    if isinstance(calibration, int | float):
        drawn = draw(corpus, calibration, seed)
        return Texts(report=measured(drawn.report), calibration=measured(drawn.calibration), pool=drawn.pool)
    known = check_pool(calibration, corpus, same_pool=same_pool) if pool is None else pool
    return Texts(report=measured(corpus), calibration=measured(calibration), pool=known)


def parted(predictions: Predictions, cut: int) -> tuple[Predictions, Predictions]:
    """Cut predictions after the first `cut` sentences; the sentences of each part are numbered from 0."""
    report = predictions.sentence < cut
    sides: list[Predictions] = []
    for inside, first_sentence in ((report, 0), (~report, cut)):
        columns = {name: getattr(predictions, name)[inside] for name in COLUMNS}
        columns["sentence"] = columns["sentence"] - first_sentence
        sides.append(Predictions(**columns, made_from=predictions.made_from))
    return sides[0], sides[1]


def guarantees_of(
    candidates: Sequence[Candidate],
    answers: Mapping[str, Predictions],
    pool: Pool,
    *,
    delta: float,
    documents: Sequence[str] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the guarantees of each candidate, from predictions on calibration text by model; see `guarantee`."""
    tuned = answers[TUNED]
    return [
        {"model": candidate.name, **bound.as_dict()}
        for candidate in candidates
        for bound in guarantee(
            answers[candidate.name].first == tuned.first, answers[candidate.name].correct, tuned.sentence,
            delta=delta, documents=documents, pool=pool, seed=seed,
        )
    ]  # fmt: skip


def choice_of(
    candidates: Sequence[Candidate],
    answers: Mapping[str, Predictions],
    pool: Pool,
    *,
    epsilon: float,
    delta: float,
    loss: Kind,
    documents: Sequence[str],
    seed: int = 0,
) -> Choice:
    """Choose among nested candidates, the largest first, by predictions on calibration text; see `choose`."""
    tuned, grouped = answers[TUNED], drawn_documents(pool, documents)
    losses = [
        unit_losses(
            answers[candidate.name].first != tuned.first, tuned.sentence, kind=loss, documents=grouped, seed=seed
        )
        for candidate in candidates
    ]
    return choose(losses, [len(candidate.patch) for candidate in candidates], epsilon, delta, pool=pool, kind=loss)
