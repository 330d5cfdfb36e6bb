"""Paired bootstrap: whether two systems that translated the same sentences differ by more than the draw of sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.groups import BootstrapOptions, SeedOption, TextSource
from ks_lottery.errors import UserError
from ks_lottery.evaluation.scores import (
    DEFAULT,
    bootstrap_manifest,
    check_bootstrap,
    check_pairs,
    fingerprint,
    open_measures,
    spm_digests,
)
from ks_lottery.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One system compared with the first, by one metric.

    Parameters
    ----------
    metric, system
        Which metric, ``accuracy`` among them; which system.
    score, baseline_score
        Of that system and of the one that it is compared with, from 0 to 100.
    difference, interval
        `score` minus `baseline_score`, and the percentile interval of that difference over the resamples.
    p_value
        Two-sided, of the same resamples (`paired_p_value`): at most 1 - confidence exactly where `interval` excludes 0.
    signature
        sacrebleu's, with the ``spm:`` of spBLEU; empty for accuracy.
    baseline
        What it is compared with; empty for the comparison's `baseline`.
    """

    metric: str
    system: str
    score: float
    baseline_score: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    signature: str
    baseline: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """The first of several systems compared with each other one.

    Parameters
    ----------
    baseline
        Name of the first.
    differences
        One entry a metric and system, metric by metric.
    missing
        Name of a requested metric that could not be computed, to one sentence that says why.
    sentences
        Number of sentences that all systems translated.
    resamples, seed, confidence
        Of the bootstrap; all systems and metrics share its draws of sentences.
    made_from
        Fingerprints of ``references``, of the ``hypotheses`` of each system, and of the SentencePiece models.
    """

    baseline: str
    differences: tuple[Difference, ...]
    missing: dict[str, str]
    sentences: int
    resamples: int
    seed: int
    confidence: float
    made_from: dict[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return everything but the manifest, as plain values."""
        return {
            "baseline": self.baseline,
            "sentences": self.sentences,
            "resamples": self.resamples,
            "seed": self.seed,
            "confidence": self.confidence,
            "differences": [asdict(difference) for difference in self.differences],
            "missing": self.missing,
        }

    def __repr__(self) -> str:
        """Return one short line."""
        systems = ", ".join(dict.fromkeys(difference.system for difference in self.differences))
        return f"Comparison({self.baseline} with {systems or 'none'} on {self.sentences:,} sentences)"

    def save(self, path: str | Path) -> Path:
        """Write it to `path` as JSON with its manifest, whole or not at all, and return the path."""
        path = Path(path).expanduser()
        write_json(path, {**bootstrap_manifest("comparison", self.made_from, self), **self.content()})
        return path

    @classmethod
    def open(cls, path: str | Path) -> Comparison:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            When the file is missing, or is of another kind or a newer format.
        """
        saved = read_json(Path(path), "comparison")
        return cls.of(saved, saved["made_from"])

    @classmethod
    def of(cls, content: Mapping[str, Any], made_from: Mapping[str, Any] | None = None) -> Comparison:
        """Return the comparison with this `content()`."""
        names = ("baseline", "missing", "sentences", "resamples", "seed", "confidence")
        differences = tuple(
            replace(Difference(**each), interval=tuple(each["interval"])) for each in content["differences"]
        )
        fields = {name: content[name] for name in names}
        return cls(differences=differences, made_from=dict(made_from or {}), **fields)


def check_same_references(fingerprints: Mapping[str, str]) -> None:
    """Refuse systems that were scored on different references.

    Parameters
    ----------
    fingerprints
        Name of each system to the fingerprint of its references, as ``Scores.made_from["references"]`` has it.

    Raises
    ------
    UserError
        When one differs from the first's.
    """
    first = next(iter(fingerprints), "")
    for name, digest in fingerprints.items():
        if digest != fingerprints[first]:
            raise UserError(
                f"{name} was scored on other references than {first} ({digest[:12]}, not {fingerprints[first][:12]}): "
                "translate the same text with both"
            )


def compare(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    metrics: Sequence[str] = DEFAULT,
    spm: Mapping[str, Path] | None = None,
    target_language: str = TextSource.target_language,
    resamples: int = BootstrapOptions.resamples,
    seed: int = SeedOption.seed,
    confidence: float = BootstrapOptions.confidence,
) -> Comparison:
    """Compare the first system with each other one by a paired bootstrap.

    Parameters
    ----------
    systems
        Name to hypotheses, at least two; the first is what the others are compared with.
    references
        One a sentence; or, by name of the system, those that were saved with its hypotheses, which must be the same for all.
    metrics, spm, target_language, seed, confidence
        As for `score`.
    resamples
        At least 1; a p-value cannot be below 1 / (resamples + 1). The draws are sacrebleu's.

    Raises
    ------
    UserError
        When there are fewer than two systems, their references differ, or as for `score`.
    """
    from ks_lottery.evaluation.metrics import draw, percentile_interval

    names = list(systems)
    if len(names) < 2:
        raise UserError(f"{len(names)} system(s) cannot be compared: give the hypotheses of at least two")
    if isinstance(references, Mapping):
        check_same_references({name: fingerprint(references[name]) for name in names})
        common = references[names[0]]
    else:
        common = references
    for name in names:
        check_pairs(f"hypotheses of {name}", systems[name], common)
    check_bootstrap(resamples, confidence, least=1)
    measures, missing = open_measures(metrics, common, spm, target_language)
    drawn = draw(len(common), resamples, seed)
    differences: list[Difference] = []
    for metric, measure in measures.items():
        counts = {name: measure.statistics(systems[name]) for name in names}
        values = {name: measure.corpus(counts[name]) for name in names}
        resampled = {name: measure.resampled(counts[name], drawn) for name in names}
        signature = measure.signature(resamples, seed)
        base = values[names[0]]
        for name in names[1:]:
            gaps = resampled[name] - resampled[names[0]]
            differences.append(
                Difference(
                    metric=metric,
                    system=name,
                    score=values[name],
                    baseline_score=base,
                    difference=values[name] - base,
                    interval=percentile_interval(gaps, confidence),
                    p_value=paired_p_value(gaps),
                    signature=signature,
                )
            )
    origin = {
        "references": fingerprint(common),
        "hypotheses": {name: fingerprint(lines) for name, lines in systems.items()},
        **spm_digests(measures),
    }
    return Comparison(
        baseline=names[0], differences=tuple(differences), missing=missing, sentences=len(common),
        resamples=resamples, seed=seed, confidence=confidence, made_from=origin,
    )  # fmt: skip


def paired_p_value(gaps: npt.NDArray[Any]) -> float:
    """Return the two-sided p-value of a paired bootstrap: the level at which the percentile interval begins to exclude 0.

    p = 2 min(#{r : gap_r <= 0}, #{r : gap_r >= 0}) / R, at most 1 and not below 1 / (R + 1) (Efron & Tibshirani 1993, chapter
    15.4). So an interval of `percentile_interval` excludes 0 exactly where p is at most 1 - confidence, as far as there are
    at least 1 / (1 - confidence) resamples. sacrebleu's own p, which counts how far the gaps stray from their mean, does not
    have this property.

    Parameters
    ----------
    gaps
        Difference of the two systems' scores in each resample, shape (R,).

    Examples
    --------
    >>> paired_p_value(np.array([-1.0, 1.0, 4.0, 2.0])), paired_p_value(np.array([1.0, 2.0, 3.0]))
    (0.5, 0.25)
    """
    fewer = min(int(np.sum(gaps <= 0)), int(np.sum(gaps >= 0)))
    return min(1.0, max(2 * fewer / len(gaps), 1 / (len(gaps) + 1)))
