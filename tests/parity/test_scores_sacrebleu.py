"""Scores against the command line of sacrebleu, and intervals against a plain bootstrap."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from ks_lottery.evaluation.next_token import Predictions
from ks_lottery.evaluation.scores import score

HYPOTHESES = ["La casa és vella i freda", "El gos menja al jardí ara", "No res"]
REFERENCES = ["La casa és molt vella i freda", "El gos menja al jardí", "Aquesta pàgina no existeix"]


def test_scores_are_those_of_the_command_line(tmp_path):
    references, hypotheses = tmp_path / "ref", tmp_path / "hyp"
    references.write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    hypotheses.write_text("\n".join(HYPOTHESES) + "\n", encoding="utf-8")
    call = [sys.executable, "-m", "sacrebleu", str(references), "-i", str(hypotheses), "-m", "bleu", "chrf",
            "--chrf-word-order", "2", "-w", "10", "--format", "json"]  # fmt: skip
    wanted = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    found = score(HYPOTHESES, REFERENCES)
    for one, name in zip(wanted, ("bleu", "chrf"), strict=True):
        assert found[name]["score"] == pytest.approx(one["score"], abs=1e-9)
        assert found[name]["signature"] == one["signature"]


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="0 hypotheses"):
        score([], [])
    with pytest.raises(ValueError, match="1 hypotheses cannot be scored against 2"):
        score(["a"], ["a", "b"])


def test_the_interval_resamples_sentences():
    generator = np.random.default_rng(0)
    sentence = np.repeat(np.arange(40), generator.integers(1, 30, 40))
    rate = generator.random(40)
    right = generator.random(len(sentence)) < rate[sentence]
    n = len(sentence)
    zeros = np.zeros(n, dtype=np.int64)
    found = Predictions(sentence, zeros, zeros, np.zeros(n), np.where(right, 0, 1), zeros, np.ones(n), np.zeros(n), {})
    low, high = found.interval(confidence=0.9, resamples=4000, seed=1)
    means = []
    for _ in range(4000):
        drawn = generator.integers(0, 40, 40)
        means.append(np.concatenate([right[sentence == s] for s in drawn]).mean())
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])), abs=0.01)
    assert found.interval(seed=1) == found.interval(seed=1)
