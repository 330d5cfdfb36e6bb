"""The certificate against its definition, position by position, written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from ks_lottery.certification.algorithm import Small, certify_predictions
from ks_lottery.certification.tau import full_verification, tau_of
from ks_lottery.certification.theorem import certified
from ks_lottery.config.choices import RULES, TAUS
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.evaluation.predictions import Predictions


def predictions(seed: int, sentences: int = 12, length: int = 25) -> Predictions:
    generator = np.random.default_rng(seed)
    n = sentences * length
    top = np.sort(generator.dirichlet(np.ones(4), size=n), axis=1)[:, ::-1]
    return Predictions(
        sentence=np.repeat(np.arange(sentences), length),
        position=np.tile(np.arange(length), sentences),
        label=np.arange(n) % 7,
        log_p=-generator.random(n),
        first=np.where(generator.random(n) < 0.6, np.arange(n) % 7, 99),
        second=np.full(n, 98),
        p_first=top[:, 0],
        p_second=top[:, 1],
        made_from={"seed": seed},
    )


@pytest.fixture
def scan(make_scan):
    return make_scan(np.random.default_rng(0).integers(0, 64, 50), 64)


def by_hand(rule: str, original: Predictions, tuned: Predictions, tau: float) -> list[bool]:
    marks = []
    for i in range(len(tuned)):
        y = tuned.label[i]
        gap = tuned if rule == "theorem" else original
        answers = [tuned] if rule in {"theorem", "algorithm1"} else [tuned, original]
        marks.append(all(p.first[i] == y for p in answers) and (gap.p_first[i] - gap.p_second[i]) / 2 > tau)
    return marks


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tau", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_rules(rule, tau):
    original, tuned = predictions(1), predictions(2)
    assert certified(rule, original, tuned, tau).tolist() == by_hand(rule, original, tuned, tau)


def test_rules_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="none of theorem"):
        certified("lemma", predictions(1), predictions(2), 0.1)
    with pytest.raises(ValueError, match="different positions"):
        certified("theorem", predictions(1), predictions(2, sentences=3), 0.1)


def test_tau_empirical_is_the_largest_unselected_distance(scan):
    for alpha in (0.0, 0.01, 0.05, 0.5, 0.99, 1.0):
        left = [D for row, D in enumerate(scan.statistics) if row not in set(scan.passing(alpha).tolist())]
        assert tau_of("empirical", scan, alpha=alpha) == max(left, default=0.0)


@pytest.mark.parametrize("kind", ["exact", "table"])
def test_the_other_taus_bound_the_unselected(scan, kind):
    taus = [tau_of(kind, scan, alpha=alpha) for alpha in (0.0, 0.01, 0.05, 0.5, 1.0)]
    assert taus == sorted(taus, reverse=True)
    assert taus[-1] == 0.0
    assert taus[0] >= 1.0
    for alpha in (0.01, 0.05):
        assert tau_of("exact", scan, alpha=alpha) >= tau_of("empirical", scan, alpha=alpha)


def small(scan, seed, alpha):
    return Small(
        f"{alpha:g}", np.sort(scan.passing(alpha)), seed if isinstance(seed, Predictions) else predictions(seed), alpha
    )


def test_the_certificate_counts_what_it_says(scan):
    original, tuned = predictions(1), predictions(2)
    smalls = [small(scan, 3, 0.05), small(scan, tuned, 1.0)]
    found = certify_predictions(original, tuned, smalls, scan, config=CertifyConfig(alphas=(0.05, 1.0), positions=20))
    assert (found.positions, found.sentences) == (12 * 20, 12)
    first = [i for i in range(300) if tuned.position[i] < 20]
    for level, one in zip(found.levels, smalls, strict=True):
        answers = one.predictions
        assert tuple(level.bounds) == TAUS
        for kind, bound in level.bounds.items():
            assert bound.tau == tau_of(kind, scan, alpha=one.alpha)
            gaps = [(tuned.p_first[i] - tuned.p_second[i]) / 2 for i in first]
            assert bound.verified == pytest.approx(np.mean([gap > bound.tau for gap in gaps]))
            for rule in RULES:
                marks = by_hand(rule, original, tuned, bound.tau)
                inside = [i for i in first if marks[i]]
                wrong = [i for i in inside if answers.first[i] != answers.label[i]]
                audit = bound.rules[rule]
                assert (audit.positions, audit.violations) == (len(inside), len(wrong))
                assert audit.accuracy == pytest.approx(len(inside) / 240)
                assert audit.rate == pytest.approx(len(wrong) / max(1, len(inside)))
                if inside:
                    wanted = binomtest(len(wrong), len(inside)).proportion_ci(0.95, "exact")
                    assert audit.violation_interval == pytest.approx((wanted.low, wanted.high))
        assert level.agreement == pytest.approx(np.mean([answers.first[i] == tuned.first[i] for i in first]))
        assert level.prediction_accuracy == pytest.approx(
            np.mean([answers.first[i] == answers.label[i] for i in first])
        )
    last = found.levels[-1].bounds["empirical"].rules["theorem"]
    assert last.violations == 0
    assert last.accuracy == found.tuned_accuracy


def test_without_alpha_only_the_empirical_tau_is_defined(scan):
    rows = np.arange(0, 50, 3)
    found = certify_predictions(
        predictions(1), predictions(2), [Small("mine", rows, predictions(3))], scan, config=CertifyConfig()
    )
    (level,) = found.levels
    assert list(level.bounds) == ["empirical"]
    assert level.bounds["empirical"].tau == max(D for row, D in enumerate(scan.statistics) if row not in set(rows))
    with pytest.raises(ValueError, match="needs alpha"):
        tau_of("exact", scan, rows=rows)


@pytest.mark.parametrize("smallest", [1e-4, 0.011, 0.05, 0.2, 0.33, 0.5])
def test_full_verification_is_where_tau_falls_below_the_smallest_gap(scan, smallest):
    for kind, found in full_verification(scan, smallest).items():
        if found["above"] is None:
            below = np.nextafter(1.0, 0.0)
            assert tau_of(kind, scan, alpha=below) >= smallest
            assert found["tickets"] == len(scan)
            continue
        above = found["above"] * (1 + 1e-9) if found["above"] > 0 else 1e-300
        assert tau_of(kind, scan, alpha=above) < smallest + 1e-12
        assert found["tickets"] <= len(scan.passing(above))
        if found["above"] > 0:
            assert tau_of(kind, scan, alpha=found["above"] * (1 - 1e-9)) >= smallest - 1e-12


def test_the_certificate_survives_the_disk(scan, tmp_path):
    import pyarrow.parquet as pq

    from ks_lottery.store.files import read_json

    original, tuned = predictions(1), predictions(2)
    found = certify_predictions(original, tuned, [small(scan, 3, 0.05)], scan, config=CertifyConfig(alphas=(0.05,)))
    found.save(tmp_path)
    table = pq.read_table(tmp_path / "certificate.parquet").to_pydict()
    audit = found.levels[0].bounds["exact"].rules["both"]
    assert sum(table["both_exact"]) == audit.positions
    lines = pq.read_table(tmp_path / "certificate-levels.parquet").to_pylist()
    assert len(lines) == 9
    line = next(line for line in lines if (line["kind"], line["rule"]) == ("exact", "both"))
    assert (line["certified_accuracy"], line["violations"]) == (audit.accuracy, audit.violations)
    assert "not a guarantee" in read_json(tmp_path / "certificate.json", "certificate")["meaning"]
