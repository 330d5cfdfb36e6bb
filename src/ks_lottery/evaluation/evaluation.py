"""The noun `Evaluation`: everything that was measured of one model on one text, saved in one folder."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.evaluation.comparison import Comparison
from ks_lottery.evaluation.evaluation_figures import scores_figure
from ks_lottery.evaluation.evaluation_sections import evaluation_sections
from ks_lottery.evaluation.forgetting import Forgetting
from ks_lottery.evaluation.hypotheses import (
    HYPOTHESES_FILE,
    JOURNAL_FILE,
    read_hypotheses,
    read_outputs,
    write_hypotheses,
)
from ks_lottery.evaluation.language_check import LanguageCheck
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.evaluation.scores import Scores
from ks_lottery.report.notebook import Shown
from ks_lottery.report.vega import to_altair
from ks_lottery.store.content import ByContent
from ks_lottery.store.files import read_json, write_json
from ks_lottery.store.manifest import digest_json, manifest
from ks_lottery.store.ownership import check_replaceable
from ks_lottery.store.work_folder import LOCK_FILE, is_empty, locked_folder, remove_if_empty
from ks_lottery.store.workspace import is_workspace

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from altair import Chart, LayerChart

    from ks_lottery.evaluation.outputs import Output
    from ks_lottery.report.section import Section

EVALUATION_FILE = "evaluation.json"
SCORES_FILE = "scores.json"
FIRST_LINE_FILE = "first_line.json"
PREDICTIONS_FILE = "predictions.parquet"

_KINDS = {
    EVALUATION_FILE: "evaluation", SCORES_FILE: "scores", FIRST_LINE_FILE: "scores", PREDICTIONS_FILE: "predictions",
    HYPOTHESES_FILE: "hypotheses",
}  # fmt: skip
"""Files of an evaluation, and the kind of artifact that each holds."""

_NAMES = {"base": "another model", "made": "another patch or adapter", "text": "another text"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation(ByContent, Shown):
    """What was measured; None where it was not asked for.

    Two are equal when figures, translations and predictions are.

    Parameters
    ----------
    sentences, overlong
        Number of sentences that were measured, and of those that were left out as longer than the limit.
    sources, references, hypotheses
        Translated sentences, their references and their translations, in the order of the text.
    outputs
        What the model generated for each, with its line breaks; None in files of an earlier version.
    ended
        Outputs that ended by themselves, and not at ``max_new_tokens``: ``share``, its ``interval`` at ``confidence``,
        ``count``, and ``outputs``, the number of all.
    scores, first_line
        Of the translations, and of the first line of each output alone.
    comparison
        Of these translations with those of other evaluations.
    predictions, next_token
        Next-token answers, and their summary: ``accuracy``, ``loss`` (nats a token), their intervals, ``positions``;
        ``without_end``, the same without the end-of-sentence positions; and ``first``, the number of first positions of a
        sentence that count (None for all).
    forgetting
        What tuning changed on general text.
    language, references_language
        In which language the translations are, and the references.
    made_from
        What identifies the ``base``, what was put on it (``made``), and the ``text``.
    settings
        As in `EvaluationSpec`.
    """

    sentences: int
    overlong: int = 0
    sources: Sequence[str] | None = None
    references: Sequence[str] | None = None
    hypotheses: Sequence[str] | None = None
    outputs: Sequence[Output] | None = None
    ended: Mapping[str, Any] | None = None
    scores: Scores | None = None
    first_line: Scores | None = None
    comparison: Comparison | None = None
    predictions: Predictions | None = None
    next_token: Mapping[str, Any] | None = None
    forgetting: Forgetting | None = None
    language: LanguageCheck | None = None
    references_language: LanguageCheck | None = None
    made_from: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return one short line."""
        scores = {} if self.scores is None else self.scores.metrics
        parts = [f"{name} {metric.score:.1f}" for name, metric in scores.items()]
        if self.next_token is not None:
            parts.append(f"accuracy {self.next_token['accuracy']:.4f}")
        return f"Evaluation({', '.join([f'{self.sentences:,} sentences', *parts])})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of figures, translations and predictions."""
        texts = [None if lines is None else list(lines) for lines in (self.sources, self.references, self.hypotheses)]
        texts.append(None if self.outputs is None else [output.text for output in self.outputs])
        return digest_json([self.content(), texts, None if self.predictions is None else self.predictions.fingerprint])

    def content(self) -> dict[str, Any]:
        """Return everything but the sentences and single predictions, as plain values."""
        return {
            "sentences": self.sentences,
            "overlong": self.overlong,
            "scores": None if self.scores is None else self.scores.content(),
            "first_line": None if self.first_line is None else self.first_line.content(),
            "ended": None if self.ended is None else dict(self.ended),
            "next_token": None if self.next_token is None else dict(self.next_token),
            "forgetting": None if self.forgetting is None else self.forgetting.content(),
            "language": None if self.language is None else asdict(self.language),
            "references_language": None if self.references_language is None else asdict(self.references_language),
            "comparison": None if self.comparison is None else self.comparison.content(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``evaluation.json`` into `folder`, with scores, predictions and translations beside it; return the folder.

        Raises
        ------
        UserError
            When the folder has other content, or cannot be written.
        """
        folder = Path(folder).expanduser()
        check_folder(folder, self.made_from)
        if self.scores is not None:
            self.scores.save(folder / SCORES_FILE)
        if self.first_line is not None:
            self.first_line.save(folder / FIRST_LINE_FILE)
        self.save_parts(
            summary=folder / EVALUATION_FILE,
            predictions=folder / PREDICTIONS_FILE,
            hypotheses=folder / HYPOTHESES_FILE,
        )
        return folder

    def save_parts(self, *, summary: Path, predictions: Path, hypotheses: Path) -> None:
        """Write `content` with its manifest, and what there is of predictions and translations, to files of their own.

        Parameters
        ----------
        summary, predictions, hypotheses
            The three files.
        """
        if self.hypotheses is not None:
            write_hypotheses(hypotheses, self.sources or (), self.references or (), self.hypotheses, self.outputs)
        if self.predictions is not None:
            self.predictions.save(predictions)
        about = manifest("evaluation", made_from=self.made_from, settings=self.settings)
        write_json(summary, {**about, **self.content()})

    def sections(self) -> list[Section]:
        """Return what was left out, scores, what ended, next-token accuracy and loss, forgetting, language, comparison."""
        forgotten = [] if self.forgetting is None else self.forgetting.sections()
        return [*evaluation_sections(self.content()), *forgotten]

    def plot(self) -> Chart | LayerChart:
        """Return the scores with their intervals as a chart of altair.

        Raises
        ------
        UserError
            When nothing was scored.
        """
        figure = scores_figure(self.content())
        if figure is None:
            raise UserError("the evaluation has no scores to plot: evaluate with metrics")
        return to_altair(figure.spec)

    @classmethod
    def open(cls, folder: str | Path) -> Evaluation:
        """Read what `save` wrote into `folder`.

        Raises
        ------
        UserError
            When a file is missing or damaged, or is of another kind or a newer format.
        """
        folder = Path(folder).expanduser()
        saved = read_json(folder / EVALUATION_FILE, "evaluation")
        try:
            evaluation = cls(**_parts(folder, saved))
            evaluation.sections()  # figures that cannot be shown are no figures
        except UserError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise UserError(f"{folder / EVALUATION_FILE} is damaged: evaluate again") from error
        return evaluation


def _parts(folder: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an `Evaluation` from its folder; what an earlier version did not write is None."""
    scored, summary, compared = saved["scores"], saved["next_token"], saved["comparison"]
    first, ended, forgotten = (saved.get(name) for name in ("first_line", "ended", "forgetting"))
    translated = scored is not None or saved["language"] is not None
    rows = read_hypotheses(folder) if translated else None
    return {
        "sentences": saved["sentences"],
        "overlong": saved["overlong"],
        "sources": None if rows is None else [row["source"] for row in rows],
        "references": None if rows is None else [row["reference"] for row in rows],
        "hypotheses": None if rows is None else [row["hypothesis"] for row in rows],
        "outputs": None if rows is None else read_outputs(rows),
        "ended": None if ended is None else _with_tuples(ended),
        "scores": None if scored is None else Scores.open(folder / SCORES_FILE),
        "first_line": None if first is None else Scores.open(folder / FIRST_LINE_FILE),
        "comparison": None if compared is None else Comparison.of(compared),
        "predictions": None if summary is None else Predictions.open(folder / PREDICTIONS_FILE),
        "next_token": None if summary is None else {"without_end": None, **_with_tuples(summary)},
        "forgetting": None if forgotten is None else Forgetting.of(forgotten),
        "language": _language(saved["language"]),
        "references_language": _language(saved["references_language"]),
        "made_from": saved["made_from"],
        "settings": saved["settings"],
    }


@contextmanager
def claimed_folder(folder: Path | None, made_from: Mapping[str, Any]) -> Generator[None]:
    """Keep the folder of an evaluation for this process inside a block; see `check_folder`. None is no folder."""
    if folder is None:
        yield
        return
    check_folder(folder, made_from)
    try:
        with locked_folder(folder):
            yield
    finally:
        remove_if_empty(folder)


def check_folder(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Refuse a folder whose content is something else than an evaluation of this model on this text.

    Parameters
    ----------
    made_from
        As in `Evaluation`.

    Raises
    ------
    UserError
        When there is another file, one of these names that is not ours, or the evaluation of another model, patch, adapter or
        text.
    """
    if not folder.exists() or is_empty(folder):
        return
    paths = list(folder.iterdir()) if folder.is_dir() else []
    names = {path.name for path in paths if not is_workspace(path.name)}
    if not folder.is_dir() or names - {LOCK_FILE, JOURNAL_FILE, *_KINDS}:
        raise UserError(f"{folder} is not the folder of an evaluation: give another `out`")
    for name, kind in _KINDS.items():
        check_replaceable(folder / name, kind)
    if EVALUATION_FILE in names:
        before = read_json(folder / EVALUATION_FILE, "evaluation")["made_from"]
        differing = [name for name, value in made_from.items() if before.get(name) != value]
        if differing:
            raise UserError(f"{folder} holds the evaluation of {_NAMES[differing[0]]}: give another `out`")


def _with_tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return values read from JSON, with tuples in place of lists."""
    return {
        name: tuple(value) if isinstance(value, list) else _with_tuples(value) if isinstance(value, dict) else value
        for name, value in content.items()
    }


def _language(content: Mapping[str, Any] | None) -> LanguageCheck | None:
    return None if content is None else LanguageCheck(**_with_tuples(content))
