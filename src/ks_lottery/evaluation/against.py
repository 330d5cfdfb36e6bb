"""A new evaluation compared with old ones of the same text: new minus old, in translations and in next-token accuracy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.evaluation.comparison import Comparison, Difference, compare, paired_p_value
from ks_lottery.evaluation.hypotheses import HYPOTHESES_FILE, read_hypotheses
from ks_lottery.evaluation.metrics import percentile_interval
from ks_lottery.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREDICTIONS_FILE = "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class OtherEvaluation:
    """What another evaluation left: translations with their references, and next-token predictions; None for none."""

    hypotheses: Sequence[str] | None = None
    references: Sequence[str] | None = None
    predictions: Predictions | None = None

    @classmethod
    def open(cls, folder: Path, *, translated: bool, predicted: bool) -> OtherEvaluation:
        """Read what is asked for of the folder of an evaluation.

        Raises
        ------
        UserError
            When translations are asked for and missing, or a file is damaged.
        """
        rows = read_hypotheses(folder) if translated or not (folder / PREDICTIONS_FILE).is_file() else None
        there = predicted and (folder / PREDICTIONS_FILE).is_file()
        return cls(
            hypotheses=None if rows is None else [row["hypothesis"] for row in rows],
            references=None if rows is None else [row["reference"] for row in rows],
            predictions=Predictions.open(folder / PREDICTIONS_FILE) if there else None,
        )


def others_of(folders: Sequence[str | Path], *, translated: bool, predicted: bool) -> dict[str, OtherEvaluation]:
    """Read evaluations by the names of their folders; see `OtherEvaluation.open`."""
    return {str(name): OtherEvaluation.open(Path(name), translated=translated, predicted=predicted) for name in folders}


def check_other(folder: Path, *, translated: bool) -> None:
    """Refuse a folder that is not that of an evaluation.

    Raises
    ------
    UserError
        When it has no translations, or where these are not asked for, no predictions either.
    """
    names = [HYPOTHESES_FILE] if translated else [HYPOTHESES_FILE, PREDICTIONS_FILE]
    if not any((folder / name).is_file() for name in names):
        raise UserError(f"{folder} holds no {names[-1]}: give the folder of an evaluation that is done")


def compare_with_each(
    name: str,
    hypotheses: tuple[Sequence[str], Sequence[str]] | None,
    predictions: Predictions | None,
    others: Mapping[str, OtherEvaluation],
    *,
    metrics: Sequence[str],
    spm: Mapping[str, Path] | None,
    target_language: str,
    resamples: int,
    seed: int,
    confidence: float,
) -> Comparison:
    """Compare one evaluation with each of several others, new minus old: translations, and next-token accuracy.

    Parameters
    ----------
    name
        What the new one is called.
    hypotheses
        Its translations and their references; None for none.
    predictions
        Its next-token predictions; None for none.
    others
        The old ones by name.
    metrics, spm, target_language, resamples, seed, confidence
        As for `compare`.

    Raises
    ------
    UserError
        When the references of one differ.
    """
    found: list[Comparison] = []
    differences, missing = list[Difference](), dict[str, str]()
    for other, content in others.items():
        if hypotheses is not None and content.hypotheses is not None and metrics:
            references = {other: content.references or (), name: hypotheses[1]}
            made = compare(
                {other: content.hypotheses, name: hypotheses[0]}, references, metrics=metrics, spm=spm,
                target_language=target_language,
                resamples=resamples, seed=seed, confidence=confidence,
            )  # fmt: skip
            found.append(made)
            differences += [replace(each, baseline=other) for each in made.differences]
            missing |= made.missing
        if predictions is not None:
            why = _not_comparable(predictions, content.predictions)
            if why or content.predictions is None:
                missing["accuracy"] = f"{other} {why}"
            else:
                gap = _accuracy(predictions, content.predictions, resamples, seed, confidence)
                differences.append(replace(gap, system=name, baseline=other))
    sentences = found[0].sentences if found else 0 if predictions is None else len(set(predictions.sentence.tolist()))
    origins = {key: value for made in found for key, value in made.made_from.items()}
    return Comparison(
        baseline=", ".join(others), differences=tuple(differences), missing=missing, sentences=sentences,
        resamples=resamples, seed=seed, confidence=confidence, made_from=origins,
    )  # fmt: skip


def _not_comparable(predictions: Predictions, other: Predictions | None) -> str:
    if other is None:
        return "has no next-token predictions"
    try:
        predictions.check_same_positions(other)
    except UserError:
        return "has those of another text, or of other positions"
    return ""


def _accuracy(new: Predictions, old: Predictions, resamples: int, seed: int, confidence: float) -> Difference:
    """Compare next-token accuracy, in percent, over the same draws of sentences."""
    gaps = 100.0 * new.resampled_difference(old, resamples=resamples, seed=seed)
    score, before = 100.0 * new.accuracy, 100.0 * old.accuracy
    return Difference(
        metric="accuracy", system="", score=score, baseline_score=before, difference=score - before,
        interval=percentile_interval(gaps, confidence), p_value=paired_p_value(gaps), signature="",
    )  # fmt: skip
