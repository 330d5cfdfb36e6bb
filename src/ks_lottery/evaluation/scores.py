"""Scores of translations by sacrebleu: each with its interval and the signature that makes two numbers comparable."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import METRICS
from ks_lottery.config.groups import BootstrapOptions, SeedOption, TextSource
from ks_lottery.config.values import did_you_mean
from ks_lottery.errors import UserError
from ks_lottery.store.files import read_json, write_json
from ks_lottery.store.manifest import digest_json, manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.evaluation.metrics import Measure

SCORED = ("spbleu-flores101", "spbleu-flores200", "bleu", "chrf")
"""Metrics that are scores of hypotheses. Next-token accuracy is not: `evaluation.next_token` measures it on a model."""

DEFAULT = ("spbleu", "bleu", "chrf")
"""Default metrics of `score`."""


@dataclass(frozen=True, kw_only=True)
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
    length_ratio, length_unit
        Length of all hypotheses divided by that of their references, in ``tokens`` of the metric, which is
        sacrebleu's own ratio of BLEU, or ``characters`` without white space for chrF. None in files of an earlier version, and
        where the references are empty.
    """

    score: float
    signature: str
    mean: float | None = None
    interval: tuple[float, float] | None = None
    length_ratio: float | None = None
    length_unit: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Scores:
    """Scores of one system's hypotheses against one reference each.

    Parameters
    ----------
    metrics
        Name, as in `SCORED`, to its score.
    missing
        Name of a requested metric that could not be computed, to one sentence that says why, and what to do.
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
        """Return everything but the manifest, as plain values."""
        return {
            "sentences": self.sentences,
            "resamples": self.resamples,
            "seed": self.seed,
            "confidence": self.confidence,
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "missing": self.missing,
        }

    def __repr__(self) -> str:
        """Return one short line."""
        scores = ", ".join(f"{name} {metric.score:.2f}" for name, metric in self.metrics.items())
        return f"Scores({scores or 'none'} of {self.sentences:,} sentences)"

    def save(self, path: str | Path) -> Path:
        """Write it to `path` as JSON with its manifest, whole or not at all, and return the path."""
        path = Path(path).expanduser()
        write_json(path, {**bootstrap_manifest("scores", self.made_from, self), **self.content()})
        return path

    @classmethod
    def open(cls, path: str | Path) -> Scores:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            When the file is missing, or is of another kind or a newer format.
        """
        saved = read_json(Path(path), "scores")
        metrics = {
            name: replace(MetricScore(**metric), interval=metric["interval"] and tuple(metric["interval"]))
            for name, metric in saved["metrics"].items()
        }
        rest = {name: saved[name] for name in ("missing", "sentences", "resamples", "seed", "confidence", "made_from")}
        return cls(metrics=metrics, **rest)


def bootstrap_manifest(kind: str, made_from: Mapping[str, Any], bootstrap: Any) -> dict[str, Any]:
    """Return the manifest of an artifact with a bootstrap, with the versions of sacrebleu and SentencePiece."""
    settings = {name: getattr(bootstrap, name) for name in ("resamples", "seed", "confidence")}
    content = manifest(kind, made_from=made_from, settings=settings)
    content["versions"] |= {name: metadata.version(name) for name in ("sacrebleu", "sentencepiece")}
    return content


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the named metrics, each once, with ``spbleu`` as the two that it stands for.

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
            near = did_you_mean(name.lower(), METRICS)
            raise UserError(f"metric {name!r} does not exist: use {', '.join(METRICS)}{near}")
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
    target_language: str = TextSource.target_language,
    resamples: int = BootstrapOptions.resamples,
    seed: int = SeedOption.seed,
    confidence: float = BootstrapOptions.confidence,
    made_from: Mapping[str, Any] | None = None,
) -> Scores:
    """Score `hypotheses` against one reference each.

    Parameters
    ----------
    metrics
        ``spbleu`` for both of ``spbleu-flores101`` and ``spbleu-flores200``, ``bleu``, ``chrf`` (chrF++, word order 2).
    spm
        Path of the SentencePiece model of ``flores101`` or ``flores200``, where it is not to be that of sacrebleu's folder.
    target_language
        Code or English name of the language of the references (``ca``): ``bleu`` splits words as sacrebleu does for it, by
        ``zh``, ``ja-mecab`` or ``ko-mecab``, and by ``13a`` for all other languages. The signature says which.
    resamples
        Of the bootstrap; 0 for no intervals.
    seed
        Of the bootstrap.
    confidence
        Of the intervals, in (0, 1).
    made_from
        More fingerprints to keep.

    Raises
    ------
    UserError
        When hypotheses and references differ in number, there are none, a language is not known, a metric or setting is not as
        above, or a path in `spm` holds no model. A SentencePiece model that cannot be fetched is no error: see
        `Scores.missing`.
    """
    from ks_lottery.evaluation.metrics import draw, percentile_interval

    check_pairs("hypotheses", hypotheses, references)
    check_bootstrap(resamples, confidence, least=0)
    measures, missing = open_measures(metrics, references, spm, target_language)
    drawn = draw(len(references), resamples, seed) if resamples else None
    scores: dict[str, MetricScore] = {}
    for name, measure in measures.items():
        statistics = measure.statistics(hypotheses)
        value, signature = measure.corpus(statistics), measure.signature(resamples, seed)
        bootstrap: dict[str, Any] = {}
        if drawn is not None:
            values = measure.resampled(statistics, drawn)
            bootstrap = {"mean": float(values.mean()), "interval": percentile_interval(values, confidence)}
        ratio = measure.length_ratio(statistics)
        scores[name] = MetricScore(
            score=value, signature=signature, length_ratio=ratio, length_unit=measure.unit, **bootstrap
        )
    origin = {
        **(made_from or {}),
        "references": fingerprint(references),
        "hypotheses": fingerprint(hypotheses),
        **spm_digests(measures),
    }
    return Scores(
        metrics=scores, missing=missing, sentences=len(references), resamples=resamples, seed=seed,
        confidence=confidence, made_from=origin,
    )  # fmt: skip


def spm_digests(measures: Mapping[str, Measure]) -> dict[str, Any]:
    """Return the whole SHA-256 of each SentencePiece model that was used."""
    models = [measure.spm for measure in measures.values() if measure.spm is not None]
    return {"sentencepiece": {model.tokenizer: model.sha256 for model in models}} if models else {}


def open_measures(
    metrics: Sequence[str], references: Sequence[str], spm: Mapping[str, Path] | None, target_language: str = ""
) -> tuple[dict[str, Measure], dict[str, str]]:
    """Return sacrebleu's metrics with their references, and a sentence for each whose model is missing."""
    from ks_lottery.evaluation.metrics import measure
    from ks_lottery.evaluation.spm import MissingModelError

    measures: dict[str, Measure] = {}
    missing: dict[str, str] = {}
    for name in check_metrics(metrics):
        if name not in SCORED:
            raise UserError(f"{name} is measured on a model and is no score of hypotheses: leave it out here")
        try:
            measures[name] = measure(name, spm, target_language)
        except MissingModelError as error:
            missing[name] = str(error)
    for each in measures.values():
        each.against(references)
    return measures, missing


def missing_metrics(
    metrics: Sequence[str], spm: Mapping[str, Path] | None = None, target_language: str = ""
) -> dict[str, str]:
    """Return a sentence for each metric that this machine cannot compute: its model or tokenizer is missing."""
    from ks_lottery.evaluation.metrics import measure
    from ks_lottery.evaluation.spm import MissingModelError

    missing: dict[str, str] = {}
    for name in metrics:
        try:
            measure(name, spm, target_language)
        except MissingModelError as error:
            missing[name] = str(error)
    return missing


def check_pairs(name: str, hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Refuse hypotheses and references of different number, or none."""
    if len(hypotheses) != len(references) or not hypotheses:
        raise UserError(f"{len(hypotheses)} {name} cannot be scored against {len(references)} references")


def check_bootstrap(resamples: int, confidence: float, *, least: int) -> None:
    """Refuse a number of resamples below `least`, and a confidence outside (0, 1)."""
    if resamples < least:
        raise UserError(f"resamples is {resamples}, but must be {least} or more")
    if not 0.0 < confidence < 1.0:
        raise UserError(f"confidence is {confidence}, but must be in (0, 1)")
