"""The command certify: what it prints and leaves, held against its own saved predictions, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta, binom

from ks_lottery import RowPatch, Tickets, certify, open_checkpoint, read_corpus, scan, select, tune
from ks_lottery.cli.main import main
from ks_lottery.evaluation.predictions import Predictions


def fails(capfd, arguments) -> str:
    capfd.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def tuned(narrow_model, text_file, tmp_path_factory):
    """Embed tuning, its scan and tickets, and partial tuning of those."""
    folder = tmp_path_factory.mktemp("tuned")
    base = open_checkpoint(str(narrow_model))
    text = read_corpus(text_file, source_language="en", target_language="ca").head(24)
    embed = tune(base, text, epochs=2, learning_rate=1e-2)
    embed.save(folder / "embed")
    found = scan(base, embed)
    found.save(folder / "scan.parquet")
    tickets = select(found, alpha=0.05)
    assert 5 < len(tickets) < len(embed)
    tickets.save(folder / "tickets.json")
    tune(base, text, method="partial", tickets=tickets, epochs=2, learning_rate=1e-2).save(folder / "partial")
    return folder


@pytest.fixture
def call(narrow_model, text_file, tuned):
    return ["certify", str(narrow_model), "--tuned", str(tuned / "embed"), "--data", str(text_file)]


def test_a_grid_of_transfers_with_guarantees(call, tuned, tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--transfer", "--alphas", "0.05", "0.5", "1", "--calibration", "70", "--delta", "0.1", "--out", str(out)]
    assert main([*call, *more]) == 0
    shown = capsys.readouterr().out
    assert "guarantees nothing for a deep network" in shown
    assert "This is a guarantee" in shown
    content = json.loads((out / "certificate.json").read_text())
    assert content["sentences"] == 50
    answers = {p.stem: Predictions.open(p) for p in (out / "predictions").glob("*.parquet")}
    assert set(answers) == {"original", "tuned", "0.05", "0.5", "1"}
    for level in content["levels"]:
        small = answers[level["name"]]
        assert level["agreement"] == np.mean(small.first == answers["tuned"].first)
        assert set(level["bounds"]) == {"empirical", "exact", "table"}
    assert content["levels"][-1]["agreement"] == 1.0
    # With no disagreement at all the bound is the closed form delta ** (1 / n).
    last = {one["bounded"]: one for one in content["guarantees"] if one["model"] == "1"}
    assert last["all_agree"]["lower"] == pytest.approx(0.1 ** (1 / 70), abs=1e-9)
    assert last["agreement"]["lower"] == pytest.approx(0.1 ** (1 / 70), abs=1e-6)
    assert last["all_agree"]["pool"]["drawn"] == 70
    lines = pq.read_table(out / "certificate-levels.parquet").to_pylist()
    assert len(lines) == 3 * 3 * 3


def test_the_guarantee_is_that_of_the_drawn_sentences(narrow_model, text_file, tuned):
    base, text = open_checkpoint(str(narrow_model)), read_corpus(text_file, source_language="en", target_language="ca")
    embed = RowPatch.open(tuned / "embed")
    found = scan(base, embed)
    made = certify(base, embed, found, text, alphas=(0.05,), calibration=0.5, delta=0.05, seed=3)
    (bound,) = [one for one in made.guarantees if one["bounded"] == "all_agree"]
    n, agreeing = bound["n"], round(bound["observed"] * bound["n"])
    assert n == 60
    wanted = 0.0 if agreeing == 0 else beta.ppf(0.05, agreeing, n - agreeing + 1)
    assert bound["lower"] == pytest.approx(wanted, abs=1e-6)
    other = certify(base, embed, found, text, alphas=(0.05,), calibration=0.5, delta=0.05, seed=4)
    assert (
        other.positions != made.positions
        or other.columns["half_gap_tuned"].tolist() != made.columns["half_gap_tuned"].tolist()
    )


def test_partial_tuning_as_it_is(call, tuned, tmp_path, capsys):
    out = tmp_path / "out"
    tickets = str(tuned / "tickets.json")
    assert (
        main([*call, "--small", str(tuned / "partial"), "--tickets", tickets, "--tau", "exact", "--out", str(out)]) == 0
    )
    content = json.loads((out / "certificate.json").read_text())
    (level,) = content["levels"]
    assert (level["name"], level["alpha"]) == ("partial", 0.05)
    assert level["tickets"] == len(Tickets.open(tuned / "tickets.json"))
    assert content["guarantees"] == []
    assert "Certificate of small models" in capsys.readouterr().out
    assert main([*call, "--small", str(tuned / "partial"), "--json"]) == 0
    (level,) = json.loads(capsys.readouterr().out)["levels"]
    assert level["alpha"] is None
    assert set(level["bounds"]) == {"empirical"}


def test_the_smallest_set_is_chosen_and_written(call, tuned, tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--transfer", "--tickets", str(tuned / "tickets.json"), "--choose", "0.9", "0.1", "--calibration", "0.5"]
    assert main([*call, *more, "--out", str(out)]) == 0
    choice = json.loads((out / "certificate.json").read_text())["choice"]
    assert choice["sizes"] == sorted(choice["sizes"], reverse=True)
    assert choice["pvalues"][choice["chosen"]] <= 0.1
    assert len(RowPatch.open(out / "chosen")) == choice["size"] == choice["sizes"][choice["chosen"]]
    assert "chosen" in capsys.readouterr().out


def test_a_loss_that_even_the_largest_set_exceeds_is_not_chosen(call, tuned, capsys):
    """Hoeffding-Bentkus as published: the smaller of two tail bounds of the mean of n losses, here by scipy."""
    more = ["--transfer", "--tickets", str(tuned / "tickets.json"), "--calibration", "0.5", "--json"]
    verdicts = []
    for epsilon in (0.06, 0.2, 0.5, 0.9):
        assert main([*call, *more, "--choose", str(epsilon), "0.1"]) == 0
        choice = json.loads(capsys.readouterr().out)["choice"]
        n, loss = choice["n"], choice["observed"][0]
        a = min(loss, epsilon)
        relative = np.log(a / epsilon) * a if a else 0.0
        hoeffding = np.exp(-n * (relative + (1 - a) * np.log((1 - a) / (1 - epsilon))))
        bentkus = np.e * binom.cdf(np.ceil(n * loss), n, epsilon)
        assert (choice["chosen"] is not None) == (min(hoeffding, bentkus) <= 0.1)
        verdicts.append(choice["chosen"] is not None)
    assert verdicts[0] is False
    assert verdicts[-1] is True


def test_the_worst_examples_are_violations(call, capsys):
    assert main([*call, "--transfer", "--alphas", "0.01", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    bound = content["levels"][0]["bounds"]["empirical"]
    assert len(content["worst"]) == min(10, bound["rules"]["theorem"]["violations"])
    for one in content["worst"]:
        assert one["answers"]["0.01"] != one["wanted"]
        assert one["half_gap"] > one["taus"]["0.01"]
    gaps = [one["half_gap"] for one in content["worst"]]
    assert gaps == sorted(gaps, reverse=True)


def test_what_cannot_be_certified_is_refused(call, tuned, tied_model, text_file, tmp_path, capfd):
    grid = [*call, "--transfer"]
    assert "certify.alphas is" in fails(capfd, [*grid, "--alphas", "1.5"])
    assert "delta is 0" in fails(capfd, [*grid, "--delta", "0", "--calibration", "30"])
    assert "delta is 1.5" in fails(capfd, [*grid, "--choose", "0.1", "1.5", "--calibration", "30"])
    assert "59 are needed" in fails(capfd, [*grid, "--choose", "0.05", "0.05", "--calibration", "58"])
    assert "needs calibration text" in fails(capfd, [*grid, "--choose", "0.05", "0.05"])
    assert "leaves nothing for" in fails(capfd, [*grid, "--calibration", "120"])
    assert "certified as it is" in fails(
        capfd, [*call, "--small", tuned / "partial", "--choose", "0.1", "0.1", "--calibration", "60"]
    )
    half = tmp_path / "half.tsv"
    lines = text_file.read_text().splitlines(keepends=True)
    half.write_text("".join(lines[:40]))
    assert "stand in" in fails(capfd, [*grid, "--calibration", half])
    half.write_text("".join(line.replace("number", "item") for line in lines[:40]))
    assert "nobody knows whether" in fails(capfd, [*grid, "--calibration", half])
    half.write_text("")
    assert str(half) in fails(capfd, [*grid, "--calibration", half])
    assert "give the base that the patch belongs to" in fails(capfd, ["certify", tied_model, *grid[2:]])
    other = tmp_path / "tickets.json"
    content = json.loads((tuned / "tickets.json").read_text())
    content["made_from"]["base"]["fingerprint"] = "0" * 64
    other.write_text(json.dumps(content))
    assert "another base" in fails(capfd, [*grid, "--tickets", other])
    assert "no scan of" in fails(capfd, [*call, "--transfer", "--scan", _scan_of(tied_model, tmp_path)])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    assert "not an empty folder" in fails(capfd, [*grid, "--out", tmp_path / "full"])
    assert (tmp_path / "full" / "file").read_text() == "x"
    (tmp_path / "one.tsv").write_text("only a source\n")
    assert str(tmp_path / "one.tsv") in fails(
        capfd, ["certify", call[1], *call[2:4], "--data", tmp_path / "one.tsv", "--transfer"]
    )
    (tmp_path / "long.tsv").write_text(f"{'word ' * 600}\tparaula\n")
    assert "512 tokens" in fails(capfd, [*call[:4], "--data", tmp_path / "long.tsv", "--transfer"])
    assert "tau exact is a function of alpha" in fails(capfd, [*call, "--small", tuned / "partial", "--tau", "exact"])


def _scan_of(model, folder):
    base = open_checkpoint(str(model))
    ids = np.array([3, 9])
    scan(base, RowPatch(ids, base.rows(ids) + 1, base.describe())).save(folder / "other.parquet")
    return folder / "other.parquet"


def test_a_text_given_apart_needs_a_word_that_it_is_the_same_pool(call, text_file, tmp_path, capsys):
    lines = text_file.read_text().splitlines(keepends=True)
    order = np.random.default_rng(0).permutation(len(lines))
    one, two = tmp_path / "one.tsv", tmp_path / "two.tsv"
    one.write_text("".join(lines[i] for i in order[:60]))
    two.write_text("".join(lines[i] for i in order[60:]))
    more = ["--transfer", "--alphas", "1", "--calibration", str(two), "--same-pool", "--json"]
    assert main([*call[:4], "--data", str(one), *more]) == 0
    content = json.loads(capsys.readouterr().out)
    assert "user's word" in content["guarantees"][0]["pool"]["how"]
