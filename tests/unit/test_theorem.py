"""The certificate against its definition, position by position, written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest, ks_2samp

from ks_lottery.certification.algorithm import Small, certify_predictions
from ks_lottery.certification.tau import full_verification, tau_of
from ks_lottery.certification.theorem import certified, half_gap
from ks_lottery.config.choices import RULES, TAUS
from ks_lottery.config.settings import ALPHA_GRID, CertifyConfig
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.stats.null import log_pvalues


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
            for rule in RULES:
                marks = by_hand(rule, original, tuned, bound.tau)
                inside = [i for i in first if marks[i]]
                wrong = [i for i in inside if answers.first[i] != answers.label[i]]
                audit = bound.rules[rule]
                assert (audit.positions, audit.violations) == (len(inside), len(wrong))
                by = tuned if rule == "theorem" else original  # whose gap the rule compares with tau
                gaps = [(by.p_first[i] - by.p_second[i]) / 2 for i in first]
                assert audit.verified == pytest.approx(np.mean([gap > bound.tau for gap in gaps]))
                assert audit.verified >= audit.accuracy
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


GAPS = [1e-4, 0.011, 0.05, 0.2, 0.33, 0.5]
GAPS += [gap for k in (2, 5, 9, 31) for gap in (k / 64, np.nextafter(k / 64, 0.0), np.nextafter(k / 64, 1.0))]


@pytest.mark.parametrize("smallest", GAPS)
@pytest.mark.parametrize("kind", TAUS)
def test_full_verification_is_what_a_search_over_alpha_finds(scan, kind, smallest):
    """Alphas just above the p of each count and around the table's formula: the fewest tickets with tau below the gap."""
    p = np.exp(log_pvalues(64) + 1e-12)
    edges = np.unique(np.concatenate([p, [2 * np.exp(-64 * smallest**2)]]).clip(0, 1))
    near = np.concatenate([edges, np.nextafter(edges, 2.0), edges * (1 + 1e-14), edges * (1 + 1e-9)])
    alphas = np.unique(near[(near > 0) & (near < 1)])
    verifying = [alpha for alpha in alphas.tolist() if tau_of(kind, scan, alpha=alpha) < smallest]
    found = full_verification(scan, smallest)[kind]
    if not verifying:
        assert (found["above"], found["tickets"]) == (None, len(scan))
        return
    assert found["tickets"] == min(len(scan.passing(alpha)) for alpha in verifying)
    assert found["above"] == pytest.approx(min(verifying), rel=1e-12)
    assert all((alpha > found["above"] * (1 + 1e-13)) <= (alpha in verifying) for alpha in alphas.tolist())


@pytest.mark.parametrize(("smallest", "count"), [(0.08, 46), (0.05, 28)])
def test_a_gap_between_two_counts_counts_the_rows_of_the_lower_one(make_scan, smallest, count):
    """At d = 576 the largest D below 0.08 is 46/576: rows with exactly that count are selected too."""
    scan = make_scan([0, count - 1, count, count, count + 1, 100], 576)
    found = full_verification(scan, smallest)["exact"]
    assert (found["count"], found["tickets"]) == (count, 4)
    assert tau_of("exact", scan, alpha=np.nextafter(found["above"], 1.0)) == count / 576 < smallest


def test_the_gaps_of_the_original_choose_alpha_for_the_rules_that_go_by_them(scan):
    original, tuned = predictions(1), predictions(2)
    found = certify_predictions(original, tuned, [small(scan, 3, 0.05)], scan, config=CertifyConfig(alphas=(0.05,)))
    for model, gaps, full in (
        (tuned, found.half_gap_range, found.full),
        (original, found.original_half_gap_range, found.original_full),
    ):
        half = half_gap(model.head(20))
        assert gaps == (half.min(), half.max())
        assert full == full_verification(scan, half.min())


def test_alpha_0_leaves_the_original(scan, make_scan):
    """Table 7's first line: nothing is selected. Its certified accuracy above 0 needs an empirical tau: the others are 1."""
    assert ALPHA_GRID[0] == 0.0
    assert len(scan.passing(0.0)) == 0
    assert [tau_of(kind, scan, alpha=0.0) for kind in ("exact", "table")] == [1.0, 1.0]
    assert tau_of("empirical", scan, alpha=0.0) == scan.statistics.max()


def test_parity_breaks_theorem_2():
    """Interleaved values have D = 1/d, and a function of their parity changes whatever the gap is."""
    original, tuned = np.arange(1, 129, 2), np.arange(0, 128, 2)
    tau, d = 1.5 / 64, len(original)
    answers = [int(value) % 2 for value in (tuned[0], original[0])]
    p_first = np.mean(tuned % 2 == answers[0])  # the proof's p_A: over the values of the row
    assert ks_2samp(original, tuned).statistic == 1 / d < tau < (p_first - 0.0) / 2 == 0.5
    assert (original % 2 != tuned % 2).all()
    assert answers[0] != answers[1]


def test_a_permutation_breaks_theorem_2():
    """D does not see the order of coordinates, a dot product does."""
    tuned = np.arange(-8.0, 8.0)
    original = tuned[::-1].copy()
    logits = [np.array([row @ np.arange(16.0), 0.0]) / 10 for row in (tuned, original)]
    p = softmax(logits[0])
    assert ks_2samp(original, tuned).statistic == 0.0 < (p.max() - p.min()) / 2
    assert p.max() > 0.99
    assert logits[0].argmax() != logits[1].argmax()


def test_the_gap_of_a_softmax_is_not_the_gap_of_the_proof():
    """One coordinate of 64 moves far: D = 1/64 is below the half gap of the softmax, and the answer flips."""
    original = np.zeros(64)
    tuned = np.where(np.arange(64) == 0, 9.0, 0.0)
    logits = [np.array([row.sum() - 4.0, 0.0]) for row in (tuned, original)]
    p = softmax(logits[0])
    tau = 1.5 / 64
    assert ks_2samp(original, tuned).statistic == 1 / 64 < tau < (p.max() - p.min()) / 2
    assert logits[0].argmax() != logits[1].argmax()


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
