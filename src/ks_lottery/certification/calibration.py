"""Calibration: which sentences a guarantee rests on, what was answered on them, and what that guarantees or chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.candidates import TUNED
from ks_lottery.certification.choice import Choice, choose
from ks_lottery.certification.guarantee import guarantee
from ks_lottery.certification.pool import Pool, check_pool, draw, hash_order
from ks_lottery.certification.units import OF_TUNING, check_positions, drawn_documents, unit_losses
from ks_lottery.errors import UserError
from ks_lottery.evaluation.general_text import measured_lines
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.predictions import COLUMNS, Predictions
from ks_lottery.store.files import read_json, write_json
from ks_lottery.store.manifest import manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.certification.bounds import Bounding
    from ks_lottery.certification.guarantee import Guarantee
    from ks_lottery.certification.units import Kind, Wording
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.models.tokenized import Tokenized

CALIBRATION_FOLDER, CALIBRATION_FILE = "calibration", "calibration.json"
"""Folder beside the certificates, and the file in it that says how its sentences were drawn."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The text that a certificate reports on, and the text that it is calibrated on, drawn from one pool.

    Parameters
    ----------
    report
        Sentences whose answers the certificate counts.
    calibration, pool
        Sentences that guarantees rest on, and what they were drawn from; None where no guarantee was asked for.
    order
        When each calibration sentence was drawn.
    """

    report: MeasuredText
    calibration: MeasuredText | None = None
    pool: Pool | None = None
    order: Sequence[int] = ()

    @property
    def overlong(self) -> int:
        """Sentences left out as longer than the limit."""
        return self.report.overlong + (0 if self.calibration is None else self.calibration.overlong)


def open_texts(
    tokenized: Tokenized,
    corpus: Corpus,
    calibration: Corpus | float | None,
    *,
    pool: Pool | None = None,
    rest: Corpus | None = None,
    same_pool: bool = False,
    template: str = "alpaca",
    max_tokens: int | None = None,
    plain: bool = False,
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
    rest
        The pool beside the calibration text, where `corpus` is only a part of that.
    plain
        Read the source side as plain text, without a prompt: then `template` has no part in it.
    seed
        Seed of the draw.
    """

    def measured(part: Corpus) -> MeasuredText:
        if plain:
            return measured_lines(tokenized, part, max_tokens=max_tokens)
        return measured_text(tokenized, part, template=template, max_tokens=max_tokens)

    if calibration is None:
        return Texts(report=measured(corpus))
    if isinstance(calibration, int | float):
        drawn = draw(corpus, calibration, seed)
        report, text, known = measured(drawn.report), measured(drawn.calibration), drawn.pool
        turns = {pair.identity: turn for pair, turn in zip(drawn.calibration, drawn.order, strict=True)}
        order = tuple(turns[pair.identity] for pair in text.corpus)
        return Texts(report=report, calibration=text, pool=_counted(known, text, report), order=order)
    known = check_pool(calibration, corpus, same_pool=same_pool) if pool is None else pool
    report, text = measured(corpus), measured(calibration)
    whole = corpus if rest is None else rest
    if known.unit == "sentence" and len(calibration) + len(whole) != known.units:
        known = replace(known, counted=None)  # the report is cut: how much of the pool fits into the limit is not known
    known = _counted(known, text, report if rest is None else measured(rest))
    return Texts(report=report, calibration=text, pool=known, order=hash_order(text.corpus, known))


def _counted(pool: Pool, *texts: MeasuredText) -> Pool:
    """Return the pool with the number of its units that have a position to count, where all of its text is there."""
    if pool.counted is None:
        return pool
    if pool.unit == "sentence":
        return replace(pool, counted=sum(len(text.examples) for text in texts))
    return replace(pool, counted=len({pair.document for text in texts for pair in text.corpus}))


def parted(predictions: Predictions, cut: int) -> tuple[Predictions, Predictions]:
    """Cut predictions after the first `cut` sentences; the sentences of each part are numbered from 0."""
    report = predictions.sentence < cut
    sides: list[Predictions] = []
    for inside, first_sentence in ((report, 0), (~report, cut)):
        columns = {name: getattr(predictions, name)[inside] for name in COLUMNS}
        columns["sentence"] = columns["sentence"] - first_sentence
        sides.append(Predictions(**columns, made_from=predictions.made_from))
    return sides[0], sides[1]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Calibration:
    """What models answered on calibration text, and all else that its guarantees and its choice depend on.

    Parameters
    ----------
    answers
        Predictions of the tuned and of each small model, by name.
    pool, order, documents
        What was drawn from, when each sentence was drawn, and the document of each sentence.
    positions
        How many first positions of a sentence count; None for all.
    delta, epsilon, loss
        Probability that a guarantee or the choice fails; of the choice, the loss that is allowed and its kind.
    bounding
        Key of `ks_lottery.config.choices.BOUNDS`.
    seed
        Seed of the draw.
    text
        Fingerprint of the calibration text.
    """

    answers: Mapping[str, Predictions]
    pool: Pool
    order: Sequence[int]
    documents: Sequence[str]
    positions: int | None
    delta: float
    epsilon: float | None
    loss: Kind
    bounding: Bounding
    seed: int
    text: str

    def __repr__(self) -> str:
        """Return one short line."""
        return f"Calibration({len(self.answers)} models on {len(self.order):,} sentences of {self.pool.name})"

    def guarantees(self, models: Sequence[str]) -> list[dict[str, Any]]:
        """Return the guarantees of small models; see `guarantee`."""
        return [{"model": name, **bound.as_dict()} for name in models for bound in self.guarantees_of(name)]

    def guarantees_of(
        self,
        model: str,
        *,
        paired: bool = False,
        generated: npt.ArrayLike | None = None,
        words: Wording = OF_TUNING,
    ) -> tuple[Guarantee, ...]:
        """Return the guarantees of one small model.

        Parameters
        ----------
        paired
            Bound the change of accuracy against the tuned model too.
        generated, words
            As for `guarantee`.
        """
        tuned, answers = self.answers[TUNED], self.answers[model]
        return guarantee(
            answers.first == tuned.first, answers.correct, tuned.sentence,
            delta=self.delta, documents=self.documents, pool=self.pool, order=self.order, positions=self.positions,
            bounding=self.bounding, seed=self.seed, tuned_correct=tuned.correct if paired else None, generated=generated,
            words=words,
        )  # fmt: skip

    def choice(self, sizes: Mapping[str, int]) -> Choice:
        """Choose among nested small models, the largest first; see `choose`.

        Parameters
        ----------
        sizes
            Tickets of each model, in the order of testing.
        """
        if self.epsilon is None:
            raise ValueError("nothing was to be chosen: epsilon is not set")
        tuned, grouped = self.answers[TUNED], drawn_documents(self.pool, self.documents)
        check_positions(tuned.sentence, self.positions)
        losses = [
            unit_losses(
                self.answers[name].first != tuned.first, tuned.sentence,
                kind=self.loss, documents=grouped, order=self.order, seed=self.seed,
            )
            for name in sizes
        ]  # fmt: skip
        return choose(
            losses, list(sizes.values()), self.epsilon, self.delta,
            pool=self.pool, kind=self.loss, positions=self.positions, bounding=self.bounding,
        )  # fmt: skip

    def save(self, folder: Path) -> list[Path]:
        """Write the predictions as Parquet, and how the sentences were drawn as JSON, into a folder."""
        files: dict[str, str] = {}
        for name in self.answers:
            stem = name.replace("/", "_")
            files[name] = (
                f"{stem}.parquet" if f"{stem}.parquet" not in files.values() else f"{stem}.{len(files)}.parquet"
            )
        settings = {name: getattr(self, name) for name in _SETTINGS} | {"split_seed": self.seed}
        about = manifest("calibration", made_from={"text": self.text}, settings=settings)
        drawn = {"pool": self.pool.as_dict(), "order": list(self.order), "documents": list(self.documents)}
        write_json(folder / CALIBRATION_FILE, {**about, **drawn, "predictions": files})
        for name, file in files.items():
            self.answers[name].save(folder / file)
        return [folder / CALIBRATION_FILE, *(folder / file for file in files.values())]

    @classmethod
    def open(cls, folder: Path) -> Calibration:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            When a file is missing or damaged, or the files do not belong together.
        """
        about = read_json(folder / CALIBRATION_FILE, "calibration")
        answers = {name: Predictions.open(folder / file) for name, file in about["predictions"].items()}
        tuned = answers.get(TUNED)
        places = [] if tuned is None else [tuned.sentence, tuned.position, tuned.label]
        for name, other in answers.items():
            same = zip(places, (other.sentence, other.position, other.label), strict=False)
            if tuned is None or len(other) != len(tuned) or any((one != two).any() for one, two in same):
                raise UserError(f"{folder}: the predictions of {name} are not of the positions of the tuned model")
        settings = about["settings"]
        return cls(
            answers=answers, pool=Pool(**about["pool"]), order=about["order"], documents=about["documents"],
            seed=settings["split_seed"], text=about["made_from"]["text"], **{name: settings[name] for name in _SETTINGS},
        )  # fmt: skip


_SETTINGS = ("positions", "delta", "epsilon", "loss", "bounding")
