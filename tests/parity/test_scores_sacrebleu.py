"""Scores, signatures, intervals and paired bootstrap against sacrebleu's command line; intervals against a plain bootstrap."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from sacrebleu import __version__ as sacrebleu_version
from sacrebleu import utils
from sacrebleu.metrics.bleu import BLEU

from ks_lottery.errors import UserError
from ks_lottery.evaluation import spm
from ks_lottery.evaluation.comparison import Comparison, check_same_references, compare, paired_p_value
from ks_lottery.evaluation.metrics import draw, measure, percentile_interval
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.evaluation.scores import Scores, check_metrics, fingerprint, score

if TYPE_CHECKING:
    from pathlib import Path

WORDS = (
    *("la", "casa", "és", "vella", "i", "freda", "el", "gos", "menja", "al", "jardí"),
    *("no", "hem", "pogut", "desar", "imatge", "aquesta", "pàgina", "existeix", "ara", "avui"),
)
FILES = {"flores101": "sacrebleu_tokenizer_spm.model", "flores200": "flores200sacrebleuspm"}
"""The names that sacrebleu 2.6 looks for."""


def sentences(n: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(4, 15))) + "." for _ in range(n)]


def worsened(lines: list[str], rate: float, seed: int) -> list[str]:
    """Replace words by other ones, so that a system of a known rank comes out."""
    generator = np.random.default_rng(seed)
    return [
        " ".join(str(generator.choice(WORDS)) if generator.random() < rate else word for word in line.split())
        for line in lines
    ]


REFERENCES = sentences(60, 0)
GOOD, BAD = worsened(REFERENCES, 0.2, 1), worsened(REFERENCES, 0.35, 2)
ALIKE = [*GOOD[:-3], *worsened(GOOD[-3:], 0.3, 3)]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever asks for an address ends the test."""

    def refuse(*_, **__):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder as sacrebleu keeps one, with two small models of different sizes in it."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("sacrebleu")
    (folder / "models").mkdir()
    text = folder / "text"
    text.write_text("\n".join(sentences(400, 9)), encoding="utf-8")
    for (tokenizer, name), size in zip(FILES.items(), (36, 48), strict=True):
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(folder / tokenizer), vocab_size=size, minloglevel=2
        )
        (folder / f"{tokenizer}.model").replace(folder / "models" / name)
    return folder


@pytest.fixture
def given(folder) -> dict[str, Path]:
    return {tokenizer: folder / "models" / name for tokenizer, name in FILES.items()}


def sacrebleu(folder: Path, where: Path, systems: dict[str, list[str]], *more: str, seed: int = 12345) -> str:
    for name, lines in {**systems, "ref": REFERENCES}.items():
        (where / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    call = [sys.executable, "-m", "sacrebleu", "ref", "-i", *systems, "-w", "10", *more]
    environment = os.environ | {"SACREBLEU": str(folder), "SACREBLEU_SEED": str(seed), "NO_COLOR": "1"}
    return subprocess.run(call, capture_output=True, text=True, check=True, cwd=where, env=environment).stdout


METRIC_FLAGS = {
    "bleu": ("-m", "bleu"),
    "chrf": ("-m", "chrf", "--chrf-word-order", "2"),
    "spbleu-flores101": ("-m", "bleu", "--tokenize", "flores101"),
    "spbleu-flores200": ("-m", "bleu", "--tokenize", "flores200"),
}


def plain(signature: str) -> str:
    """Take our addition out."""
    return re.sub(r"spm:[0-9a-f]{12}\|", "", signature)


@pytest.mark.parametrize("seed", [12345, 7])
@pytest.mark.parametrize("name", METRIC_FLAGS)
def test_score_signature_and_interval_are_those_of_the_command_line(name, seed, folder, given, tmp_path):
    more = (*METRIC_FLAGS[name], "--confidence", "--confidence-n", "200", "--format", "json")
    wanted = json.loads(sacrebleu(folder, tmp_path, {"good": GOOD}, *more, seed=seed))
    found = score(GOOD, REFERENCES, metrics=[name], spm=given, resamples=200, seed=seed)[name]
    low, high = found.interval
    assert found.score == pytest.approx(wanted["score"], abs=1e-9)
    assert found.mean == pytest.approx(wanted["confidence_mean"], abs=1e-4)  # its sums are in float32
    assert (high - low) / 2 == pytest.approx(wanted["confidence_var"], abs=1e-4)
    assert 0 < low < found.score < high < 100
    assert plain(found.signature) == wanted["signature"]
    assert f"|bs:200|seed:{seed}|" in found.signature


def test_without_resamples_the_signature_is_that_of_the_plain_command_line(folder, tmp_path):
    more = ("-m", "bleu", "chrf", "--chrf-word-order", "2", "--format", "json")
    wanted = json.loads(sacrebleu(folder, tmp_path, {"bad": BAD}, *more))
    found = score(BAD, REFERENCES, metrics=["bleu", "chrf"], resamples=0)
    for one, name in zip(wanted, ("bleu", "chrf"), strict=True):
        assert found[name].score == pytest.approx(one["score"], abs=1e-9)
        assert found[name].signature == one["signature"]
        assert found[name].interval is None
        assert found[name].mean is None


def test_the_signature_names_the_model_and_another_model_scores_otherwise(given, monkeypatch, folder):
    import hashlib

    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in given.items()}
    found = score(GOOD, REFERENCES, spm=given, resamples=0)
    assert list(found.metrics) == ["spbleu-flores101", "spbleu-flores200", "bleu", "chrf"]
    for tokenizer, digest in digests.items():
        assert f"|tok:{tokenizer}|" in found[f"spbleu-{tokenizer}"].signature
        assert f"|spm:{digest[:12]}|" in found[f"spbleu-{tokenizer}"].signature
    assert "spm:" not in found["bleu"].signature
    assert found.made_from["sentencepiece"] == digests
    # In sacrebleu's folder the same files are found without being given; and a file in another's place is named as what it is.
    monkeypatch.setattr(utils, "SACREBLEU_DIR", str(folder))
    assert score(GOOD, REFERENCES, resamples=0) == found
    swapped = score(GOOD, REFERENCES, spm={"flores101": given["flores200"]}, resamples=0)["spbleu-flores101"]
    assert swapped.score == found["spbleu-flores200"].score != found["spbleu-flores101"].score
    assert f"|spm:{digests['flores200'][:12]}|" in swapped.signature


@pytest.mark.parametrize("name", METRIC_FLAGS)
def test_paired_bootstrap_is_that_of_the_command_line(name, folder, given, tmp_path):
    systems = {"good": GOOD, "bad": BAD, "alike": ALIKE}
    more = (*METRIC_FLAGS[name], "--paired-bs", "--paired-bs-n", "300", "--format", "latex")
    printed = sacrebleu(folder, tmp_path, systems, *more)
    wanted = {
        system: (float(value), float(p))
        for system, value, p in re.findall(r"^ *(\w+) & +([\d.]+) \(.*\) \(p = ([\d.]+)\)", printed, re.MULTILINE)
    }
    signature = re.search(r"^ - \S+ +(nrefs:\S+)$", printed, re.MULTILINE)[1]
    found = compare(systems, REFERENCES, metrics=[name], spm=given, resamples=300, seed=12345)
    assert found.baseline == "good"
    assert [(one.metric, one.system) for one in found.differences] == [(name, "bad"), (name, "alike")]
    for one in found.differences:
        assert one.score == pytest.approx(wanted[one.system][0], abs=1e-9)
        assert plain(one.signature) == signature
    bad, alike = found.differences
    assert bad.p_value < alike.p_value
    assert bad.interval[0] < bad.difference < bad.interval[1] < 0
    assert alike.interval[0] <= alike.difference <= alike.interval[1]
    assert bad.difference == pytest.approx(bad.score - bad.baseline_score)


def gaps_of_sacrebleu(first, second, seed, resamples):
    """Return the differences of BLEU on sentences that were drawn together, by sacrebleu's public call."""
    gaps = []
    for rows in draw(len(REFERENCES), resamples, seed):
        one, other, references = ([lines[i] for i in rows] for lines in (first, second, REFERENCES))
        metric = BLEU(force=True)
        gaps.append(metric.corpus_score(other, [references]).score - metric.corpus_score(one, [references]).score)
    return np.array(gaps)


@pytest.mark.parametrize("other", ["bad", "alike", "equal"])
def test_the_p_value_counts_the_resamples_on_the_other_side_of_0(other):
    systems = {"bad": BAD, "alike": ALIKE, "equal": worsened(REFERENCES, 0.2, 5)}
    gaps = gaps_of_sacrebleu(GOOD, systems[other], 3, 60)
    [found] = compare(
        {"good": GOOD, other: systems[other]}, REFERENCES, metrics=["bleu"], resamples=60, seed=3
    ).differences
    wanted = 2 * min((gaps <= 0).sum(), (gaps >= 0).sum()) / 60
    assert found.p_value == pytest.approx(min(1.0, max(wanted, 1 / 61)))


@hypothesis.given(st.lists(st.integers(-3, 5), min_size=20, max_size=300), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_an_interval_excludes_0_exactly_where_p_is_at_most_1_minus_its_level(gaps, confidence):
    """One method for both: no interval without 0 beside a p above its level, and no other way round."""
    values = np.array(gaps, dtype=float)
    low, high = percentile_interval(values, confidence)
    assert (low > 0 or high < 0) == (paired_p_value(values) <= 1 - confidence + 1e-9)


def test_the_interval_of_a_difference_is_that_of_sentences_drawn_together():
    """Against sacrebleu's public call on the drawn sentences themselves."""
    drawn = draw(len(REFERENCES), 40, 11)
    gaps = []
    for rows in drawn:
        good, bad, references = ([lines[i] for i in rows] for lines in (GOOD, BAD, REFERENCES))
        metric = BLEU(force=True)
        gaps.append(metric.corpus_score(bad, [references]).score - metric.corpus_score(good, [references]).score)
    [found] = compare(
        {"good": GOOD, "bad": BAD}, REFERENCES, metrics=["bleu"], resamples=40, seed=11, confidence=0.8
    ).differences
    ordered = sorted(gaps)
    assert found.interval == pytest.approx((ordered[4], ordered[-5]), abs=1e-4)


def test_the_interval_covers_the_score_of_the_population():
    """Repeated samples of sentences: the interval holds the population's score about as often as it says."""
    references = sentences(4000, 21)
    hypotheses = worsened(references, 0.3, 22)
    truth = score(hypotheses, references, metrics=["chrf"], resamples=0)["chrf"].score
    generator, inside, repeats = np.random.default_rng(23), 0, 120
    metric = measure("chrf")
    metric.against(references)
    counts = metric.statistics(hypotheses)
    for seed in range(repeats):
        sample = generator.choice(len(references), 120)
        values = metric.resampled([counts[i] for i in sample], draw(120, 200, seed))
        low, high = percentile_interval(values, 0.9)
        inside += low <= truth <= high
    assert (
        0.80 <= inside / repeats <= 0.97
    )  # 0.9 give or take 3 standard errors, less what a percentile interval falls short


def test_confidence_and_seed_are_heeded():
    wide, narrow = (score(GOOD, REFERENCES, metrics=["chrf"], confidence=c)["chrf"].interval for c in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    zero, again, other = (score(GOOD, REFERENCES, metrics=["chrf"], seed=s)["chrf"] for s in (0, 0, 1))
    assert zero == again
    assert zero.interval != other.interval
    first, second = (compare({"a": GOOD, "b": BAD}, REFERENCES, metrics=["chrf"], seed=0) for _ in range(2))
    assert first == second


def test_what_is_saved_opens_as_it_was(tmp_path, given):
    scores = score(GOOD, REFERENCES, spm=given, resamples=50, made_from={"model": "x"})
    scores.save(tmp_path / "scores.json")
    assert Scores.open(tmp_path / "scores.json") == scores
    saved = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert saved["kind"] == "scores"
    assert saved["versions"]["sacrebleu"] == sacrebleu_version
    assert saved["made_from"]["references"] == fingerprint(REFERENCES)
    assert saved["made_from"]["model"] == "x"
    comparison = compare({"good": GOOD, "bad": BAD}, REFERENCES, metrics=["bleu"], resamples=20)
    comparison.save(tmp_path / "comparison.json")
    assert Comparison.open(tmp_path / "comparison.json") == comparison
    with pytest.raises(UserError, match="is not a comparison file"):
        Comparison.open(tmp_path / "scores.json")


def test_a_missing_model_leaves_the_other_metrics_and_names_file_and_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "SACREBLEU_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(spm, "fetched", lambda url: "Name or service not known")
    found = score(GOOD, REFERENCES, resamples=0)
    assert list(found.metrics) == ["bleu", "chrf"]
    assert list(found.missing) == ["spbleu-flores101", "spbleu-flores200"]
    for tokenizer, file in FILES.items():
        line = found.missing[f"spbleu-{tokenizer}"]
        assert line.startswith(f"there is no {file} in {tmp_path / 'none' / 'models'}, and https://")
        assert "(Name or service not known)" in line
        assert "\n" not in line
    assert not (tmp_path / "none").exists()
    pairs = compare({"a": GOOD, "b": BAD}, REFERENCES, resamples=10)
    assert {one.metric for one in pairs.differences} == {"bleu", "chrf"}
    assert pairs.missing == found.missing


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(UserError, match="0 hypotheses cannot be scored against 0 references"):
        score([], [])
    with pytest.raises(UserError, match="1 hypotheses cannot be scored against 2"):
        score(["a"], ["a", "b"])
    with pytest.raises(UserError, match="accuracy is measured on a model"):
        score(["a"], ["a"], metrics=["accuracy"])
    with pytest.raises(UserError, match=r"confidence is 1.0, but must be in \(0, 1\)"):
        score(["a"], ["a"], confidence=1.0)
    with pytest.raises(UserError, match="resamples is -1, but must be 0 or more"):
        score(["a"], ["a"], resamples=-1)
    with pytest.raises(UserError, match="resamples is 0, but must be 1 or more"):
        compare({"a": ["a"], "b": ["b"]}, ["a"], resamples=0)
    with pytest.raises(UserError, match="at least two"):
        compare({"a": ["a"]}, ["a"])
    with pytest.raises(UserError, match="2 hypotheses of b cannot be scored against 1"):
        compare({"a": ["a"], "b": ["b", "c"]}, ["a"])


def test_metrics_that_do_not_exist_are_named():
    assert check_metrics(["accuracy", "spbleu-flores200", "bleu"]) == ("accuracy", "spbleu-flores200", "bleu")
    with pytest.raises(
        UserError, match=r"metric 'chrf\+\+' does not exist: use spbleu, .*accuracy; did you mean chrf\?"
    ):
        check_metrics(["bleu", "chrf++"])
    with pytest.raises(UserError, match="no metric is named"):
        check_metrics([])


def test_systems_of_different_references_are_not_compared():
    systems = {"good": GOOD, "bad": BAD}
    same = {"good": REFERENCES, "bad": list(REFERENCES)}
    assert compare(systems, same, metrics=["bleu"], resamples=5) == compare(
        systems, REFERENCES, metrics=["bleu"], resamples=5
    )
    with pytest.raises(UserError, match="bad was scored on other references than good"):
        compare(systems, {"good": REFERENCES, "bad": REFERENCES[::-1]}, metrics=["bleu"])
    scored = {name: score(lines, REFERENCES, metrics=["bleu"], resamples=0) for name, lines in systems.items()}
    check_same_references({name: one.made_from["references"] for name, one in scored.items()})


def test_empty_hypotheses_count_as_what_they_are(folder, tmp_path):
    empty = ["" for _ in REFERENCES]
    wanted = json.loads(sacrebleu(folder, tmp_path, {"empty": empty}, "-m", "chrf", "--format", "json"))
    assert wanted["score"] == 0
    found = score(empty, REFERENCES, metrics=["bleu", "chrf"], resamples=5)
    assert [(one.score, one.interval) for one in found.metrics.values()] == [(0.0, (0.0, 0.0))] * 2


def test_the_interval_resamples_sentences():
    generator = np.random.default_rng(0)
    sentence = np.repeat(np.arange(40), generator.integers(1, 30, 40))
    rate = generator.random(40)
    right = generator.random(len(sentence)) < rate[sentence]
    n = len(sentence)
    zeros = np.zeros(n, dtype=np.int64)
    found = Predictions(
        sentence=sentence, position=zeros, label=zeros, log_p=np.zeros(n), first=np.where(right, 0, 1), second=zeros,
        p_first=np.ones(n), p_second=np.zeros(n), made_from={},
    )  # fmt: skip
    low, high = found.interval(confidence=0.9, resamples=4000, seed=1)
    means = []
    for _ in range(4000):
        drawn = generator.integers(0, 40, 40)
        means.append(np.concatenate([right[sentence == s] for s in drawn]).mean())
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])), abs=0.01)
    assert found.interval(seed=1) == found.interval(seed=1)


CHINESE = ["请关掉灯光。", "这座房子又旧又冷。", "狗在花园里吃东西。"]


@pytest.mark.parametrize("language", ["zh", "zho_Hans", "Chinese", "zh_TW", "yue_Hant"])
def test_bleu_of_chinese_as_sacrebleu_computes_it(language):
    hypotheses = ["请关灯。", "这个房子又旧又冷。", "狗在花园里吃。"]
    ours = score(hypotheses, CHINESE, metrics=["bleu"], target_language=language, resamples=0)["bleu"]
    theirs = BLEU(trg_lang="zh")
    assert ours.score == theirs.corpus_score(hypotheses, [CHINESE]).score > 20
    assert "tok:zh" in ours.signature
    compared = compare(
        {"a": hypotheses, "b": CHINESE}, CHINESE, metrics=["bleu"], target_language=language, resamples=10
    )
    (difference,) = compared.differences
    assert (difference.baseline_score, difference.score) == (ours.score, pytest.approx(100))
    assert "tok:zh" in difference.signature
    plain = score(hypotheses, CHINESE, metrics=["bleu"], target_language="zh_Latn", resamples=0)["bleu"]
    assert plain.score == BLEU().corpus_score(hypotheses, [CHINESE]).score
    assert "tok:13a" in plain.signature


@pytest.mark.parametrize(("language", "tokenizer"), [("jpn_Jpan", "ja-mecab"), ("Korean", "ko-mecab")])
def test_bleu_of_a_language_whose_tokenizer_may_be_missing(language, tokenizer):
    scores = score(CHINESE, CHINESE, metrics=["bleu", "chrf"], target_language=language, resamples=0)
    assert "chrf" in scores.metrics
    try:
        BLEU(trg_lang=tokenizer[:2])
    except RuntimeError:
        assert f"pip install 'sacrebleu[{tokenizer[:2]}]'" in scores.missing["bleu"]
    else:
        assert f"tok:{tokenizer}" in scores["bleu"].signature
