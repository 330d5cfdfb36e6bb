"""Scores of translations through sacrebleu: each with its interval and the signature that makes two numbers comparable.

Must never compute a score of its own, nor put one metric in the place of another.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.files import digest_json, manifest, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ks_lottery.evaluation.metrics import Measure

METRICS: dict[str, tuple[str, ...]] = {
    "spbleu": ("spbleu-flores101", "spbleu-flores200"),
    "spbleu-flores101": ("spbleu-flores101",),
    "spbleu-flores200": ("spbleu-flores200",),
    "bleu": ("bleu",),
    "chrf": ("chrf",),
    "accuracy": ("accuracy",),
}
"""Metrics that can be asked for, each with those that it stands for."""

SCORED = ("spbleu-flores101", "spbleu-flores200", "bleu", "chrf")
"""Those that are scores of hypotheses. Next-token accuracy is none: `evaluation.next_token` measures it on a model."""

DEFAULT = ("spbleu", "bleu", "chrf")
"""What is scored unless something else is asked for."""


@dataclass(frozen=True)
class MetricScore:
    """One metric.

    Parameters
    ----------
    score
        From 0 to 100.
    signature
        sacrebleu's, with the ``spm:`` of spBLEU.
    mean, interval
        Mean of the resamples' scores and the percentile interval of them; None without resamples. sacrebleu prints the mean,
        and half the interval's width behind a plus-minus.
    """

    score: float
    signature: str
    mean: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of one system's hypotheses against one reference each.

    Parameters
    ----------
    metrics
        Name, as in `SCORED`, to its score.
    missing
        Metric that was asked for to one sentence that says why it is not there, and how it can be.
    sentences
        Number of hypotheses.
    resamples, seed, confidence
        Of the bootstrap, which resamples sentences.
    made_from
        Fingerprints of ``references`` and ``hypotheses``, SHA-256 of each SentencePiece model, and what the caller added.
    """

    metrics: dict[str, MetricScore]
    missing: dict[str, str]
    sentences: int
    resamples: int
    seed: int
    confidence: float
    made_from: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> MetricScore:
        """Return the score of a metric."""
        return self.metrics[name]

    def content(self) -> dict[str, Any]:
        """Return everything but the manifest, as it is saved and as `report.scores_table` shows it."""
        return {
            "sentences": self.sentences,
            "resamples": self.resamples,
            "seed": self.seed,
            "confidence": self.confidence,
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "missing": self.missing,
        }

    def save(self, path: Path) -> None:
        """Write it as JSON with its manifest, whole or not at all."""
        write_json(path, {**about("scores", self.made_from, self), **self.content()})

    @classmethod
    def open(cls, path: Path) -> Scores:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            When the file is missing or holds something else.
        """
        saved = read_json(path, "scores")
        metrics = {
            name: MetricScore(m["score"], m["signature"], m["mean"], m["interval"] and tuple(m["interval"]))
            for name, m in saved["metrics"].items()
        }
        rest = {name: saved[name] for name in ("missing", "sentences", "resamples", "seed", "confidence", "made_from")}
        return cls(metrics, **rest)


def about(kind: str, made_from: Mapping[str, Any], bootstrap: Any) -> dict[str, Any]:
    """Return the manifest of an artifact with a bootstrap, versions of sacrebleu and SentencePiece included."""
    settings = {name: getattr(bootstrap, name) for name in ("resamples", "seed", "confidence")}
    found = manifest(kind, made_from=made_from, settings=settings)
    found["versions"] |= {name: metadata.version(name) for name in ("sacrebleu", "sentencepiece")}
    return found


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics that are asked for, each once, with ``spbleu`` as the two that it stands for.

    Raises
    ------
    UserError
        When one is not known, or none is named.

    Examples
    --------
    >>> check_metrics(["chrf", "spbleu", "chrf"])
    ('chrf', 'spbleu-flores101', 'spbleu-flores200')
    """
    if not names:
        raise UserError(f"no metric is named; there is {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            near = difflib.get_close_matches(name.lower(), METRICS, n=1)
            hint = f" (the nearest is {near[0]})" if near else ""
            raise UserError(f"metric {name!r} does not exist{hint}; there is {', '.join(METRICS)}")
    return tuple(dict.fromkeys(metric for name in names for metric in METRICS[name]))


def fingerprint(lines: Sequence[str]) -> str:
    """Return the SHA-256 of sentences in their order."""
    return digest_json(list(lines))


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    metrics: Sequence[str] = DEFAULT,
    spm: Mapping[str, Path] | None = None,
    resamples: int = 1000,
    seed: int = 12345,
    confidence: float = 0.95,
    made_from: Mapping[str, Any] | None = None,
) -> Scores:
    """Score `hypotheses` against one reference each.

    Parameters
    ----------
    metrics
        ``spbleu`` for both of ``spbleu-flores101`` and ``spbleu-flores200``, ``bleu``, ``chrf`` (chrF++, word order 2).
    spm
        Path of the SentencePiece model of ``flores101`` or ``flores200``, where it is not to be that of sacrebleu's folder.
    resamples
        Of the bootstrap; 0 for no intervals.
    seed
        Of the bootstrap; 0 is a seed.
    confidence
        Of the intervals, in (0, 1).
    made_from
        More fingerprints to keep.

    Raises
    ------
    UserError
        When hypotheses and references differ in number, there are none, a metric or setting is not as above, or a path in
        `spm` holds no model. A SentencePiece model that is merely absent ends nothing: see `Scores.missing`.
    """
    from ks_lottery.evaluation.metrics import draw, percentile_interval

    check_pairs("hypotheses", hypotheses, references)
    check_bootstrap(resamples, confidence, least=0)
    measures, missing = open_measures(metrics, references, spm)
    drawn = draw(len(references), resamples, seed) if resamples else None
    found: dict[str, MetricScore] = {}
    for name, measure in measures.items():
        statistics = measure.statistics(hypotheses)
        value, signature = measure.corpus(statistics), measure.signature(resamples, seed)
        if drawn is None:
            found[name] = MetricScore(value, signature)
            continue
        values = measure.resampled(statistics, drawn)
        found[name] = MetricScore(value, signature, float(values.mean()), percentile_interval(values, confidence))
    origin = {
        **(made_from or {}),
        "references": fingerprint(references),
        "hypotheses": fingerprint(hypotheses),
        **spm_digests(measures),
    }
    return Scores(found, missing, len(references), resamples, seed, confidence, origin)


def spm_digests(measures: Mapping[str, Measure]) -> dict[str, Any]:
    """Return the whole SHA-256 of each SentencePiece model that was used."""
    models = [measure.spm for measure in measures.values() if measure.spm is not None]
    return {"sentencepiece": {model.tokenizer: model.sha256 for model in models}} if models else {}


def open_measures(
    metrics: Sequence[str], references: Sequence[str], spm: Mapping[str, Path] | None
) -> tuple[dict[str, Measure], dict[str, str]]:
    """Return sacrebleu's metrics with their references, and a sentence for each that cannot be had."""
    from ks_lottery.evaluation.metrics import measure
    from ks_lottery.evaluation.spm import MissingModelError

    measures: dict[str, Measure] = {}
    missing: dict[str, str] = {}
    for name in check_metrics(metrics):
        if name not in SCORED:
            raise UserError(f"{name} is measured on a model and is no score of hypotheses: leave it out here")
        try:
            measures[name] = measure(name, spm)
        except MissingModelError as error:
            missing[name] = str(error)
    for one in measures.values():
        one.against(references)
    return measures, missing


def check_pairs(name: str, hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Refuse what does not pair up."""
    if len(hypotheses) != len(references) or not hypotheses:
        raise UserError(f"{len(hypotheses)} {name} cannot be scored against {len(references)} references")


def check_bootstrap(resamples: int, confidence: float, *, least: int) -> None:
    """Refuse settings that no bootstrap can have."""
    if resamples < least:
        raise UserError(f"resamples is {resamples}, but must be {least} or more")
    if not 0.0 < confidence < 1.0:
        raise UserError(f"confidence is {confidence}, but must be in (0, 1)")
