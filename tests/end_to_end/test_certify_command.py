"""The command certify: what it prints and leaves, held against its own saved predictions, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta, binom, hypergeom

from ks_lottery import RowPatch, Tickets, UserError, certify, open_checkpoint, read_corpus, scan, select, tune
from ks_lottery.certification.certificate_sections import certificate_sections
from ks_lottery.cli.main import main
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.stats.betting import betting_upper


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


@pytest.fixture(scope="module")
def certified(narrow_model, text_file, tuned, tmp_path_factory):
    """What certify writes with a part of the text drawn for calibration."""
    out = tmp_path_factory.mktemp("certified") / "out"
    call = ["certify", str(narrow_model), "--tuned", str(tuned / "embed"), "--data", str(text_file)]
    more = ["--transfer", "--alphas", "0.05", "0.5", "1", "--calibration", "70", "--delta", "0.1", "--out", str(out)]
    assert main([*call, *more]) == 0
    return out


def copy_of(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_what_counts_is_said_and_is_what_was_measured(certified):
    """The bound counts the paper's first 20 positions, a guarantee whole sentences unless it is asked for less."""
    content = json.loads((certified / "certificate.json").read_text())
    assert content["counted"] == {"bound": 20, "guarantee": "all"}
    for one in content["guarantees"]:
        assert one["positions"] is None
        assert "first 20" not in one["statement"]
    report, calibration = (Predictions.open(certified / f / "tuned.parquet") for f in ("predictions", "calibration"))
    assert report.position.max() == 19
    assert calibration.position.max() > 19
    agree = Predictions.open(certified / "calibration" / "0.05.parquet").first == calibration.first
    whole = np.mean([agree[calibration.sentence == i].all() for i in range(70)])
    (bound,) = [g for g in content["guarantees"] if (g["model"], g["bounded"]) == ("0.05", "all_agree")]
    assert bound["observed"] == pytest.approx(whole)


def test_a_cut_calibration_says_that_it_is_cut(call, capsys):
    more = ["--transfer", "--alphas", "0.05", "--calibration", "60", "--calibration-positions", "3"]
    assert main([*call, *more, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["counted"] == {"bound": 20, "guarantee": 3}
    assert "at each of the first 3 positions in at least" in content["guarantees"][0]["statement"]
    assert "of the first 3 positions of a sentence" in content["guarantees"][1]["statement"]
    assert main([*call, *more, "--choose", "0.9", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "of the first 3 positions of a sentence" in shown.replace("\n", " ")
    assert "first 20 positions of each sentence" in shown
    assert "chosen" in shown
    assert re.search(r"\([\d,]+ tickets\)", shown) is None  # the count of no other set


def test_a_folder_is_rechecked_from_its_files_alone(certified, tmp_path, capfd):
    assert main(["certify", "--recheck", str(certified)]) == 0
    shown = capfd.readouterr().out
    assert "9 recomputed: all equal." in shown
    assert shown.split()[:2] == ["alpha", "claim"]  # one certificate, of transfers alone
    assert shown.splitlines()[1].split()[:2] == ["0.05", "all_agree"]
    assert main(["certify", "--recheck", str(certified), "--json"]) == 0
    assert all(one["same"] for one in json.loads(capfd.readouterr().out)["rechecked"])
    copy = copy_of(certified, tmp_path)
    content = json.loads((copy / "certificate.json").read_text())
    content["guarantees"][0]["lower"] += 0.001
    (copy / "certificate.json").write_text(json.dumps(content))
    assert main(["certify", "--recheck", str(copy)]) == 1
    assert "1 of them differ" in capfd.readouterr().out
    # Answers that are not those of the certificate.
    shutil.copy(certified / "certificate.json", copy / "certificate.json")
    shutil.copy(copy / "calibration" / "1.parquet", copy / "calibration" / "0.05.parquet")
    assert main(["certify", "--recheck", str(copy), "--json"]) == 1
    differing = [one for one in json.loads(capfd.readouterr().out)["rechecked"] if not one["same"]]
    assert {one["model"] for one in differing} == {"0.05"}
    # Another order of the same draw: the bets depend on it.
    shutil.copy(certified / "calibration" / "0.05.parquet", copy / "calibration" / "0.05.parquet")
    drawn = json.loads((copy / "calibration" / "calibration.json").read_text())
    drawn["order"] = drawn["order"][::-1]
    (copy / "calibration" / "calibration.json").write_text(json.dumps(drawn))
    assert main(["certify", "--recheck", str(copy), "--json"]) == 1
    differing = [one for one in json.loads(capfd.readouterr().out)["rechecked"] if not one["same"]]
    assert {one["claim"] for one in differing} <= {"agreement", "accuracy"}
    (copy / "calibration" / "tuned.parquet").unlink()
    assert "tuned.parquet" in fails(capfd, ["certify", "--recheck", copy])
    shutil.rmtree(copy / "calibration")
    assert "holds no calibration/calibration.json" in fails(capfd, ["certify", "--recheck", copy])
    assert "leave data out" in fails(capfd, ["certify", "--recheck", certified, "--data", "x.tsv"])
    assert "exclude each other" in fails(capfd, ["certify", "--recheck", certified, "--transfer"])
    assert "certify needs MODEL, --tuned, --data;" in fails(capfd, ["certify"])


def test_the_draw_is_that_of_its_own_seed(call, certified, tmp_path, capfd):
    drawn = json.loads((certified / "calibration" / "calibration.json").read_text())
    assert drawn["settings"]["split_seed"] == drawn["pool"]["seed"] == 0
    assert sorted(drawn["order"]) == list(range(70))
    assert (drawn["pool"]["units"], drawn["pool"]["counted"]) == (120, 120)
    out = tmp_path / "other"
    more = ["--transfer", "--alphas", "0.05", "--calibration", "70", "--split-seed", "1", "--out", str(out)]
    assert main([*call, *more]) == 0
    other = json.loads((out / "calibration" / "calibration.json").read_text())
    assert other["pool"]["seed"] == 1
    assert other["made_from"]["text"] != drawn["made_from"]["text"]
    assert other["pool"]["fingerprint"] == drawn["pool"]["fingerprint"]
    assert main(["certify", "--recheck", str(out)]) == 0
    assert "--seed" in fails(capfd, [*call, "--transfer", "--seed", "3"])
    assert "--split-seed is -1" in fails(capfd, [*call, "--transfer", "--split-seed", "-1"])


def test_the_statement_spelled_out_is_that_of_the_smallest_set_with_a_guarantee(certified):
    content = json.loads((certified / "certificate.json").read_text())
    shown = certificate_sections(content, "Certificate")[1].sentences[1]
    tickets = {level["name"]: level["tickets"] for level in content["levels"]}
    held = [g for g in content["guarantees"] if g["lower"] > 0]
    smallest = min(held, key=lambda g: tickets[g["model"]])
    assert smallest["model"] != "1"
    assert f"of {smallest['model']} ({tickets[smallest['model']]:,} tickets)" in shown
    assert smallest["statement"] in shown


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
    # With no disagreement in 70 of 120 the bound is the largest number of failures that such a draw misses often enough.
    last = {one["bounded"]: one for one in content["guarantees"] if one["model"] == "1"}
    missed = max(k for k in range(51) if hypergeom(120, k, 70).pmf(0) > 0.1)
    assert last["all_agree"]["lower"] == pytest.approx(1 - missed / 120, abs=1e-9)
    assert last["agreement"]["lower"] == pytest.approx(1 - betting_upper(np.zeros(70), 120, 0.1), abs=1e-9)
    assert last["agreement"]["lower"] > 0.1 ** (1 / 70)
    assert last["all_agree"]["pool"]["drawn"] == 70
    lines = pq.read_table(out / "certificate-levels.parquet").to_pylist()
    assert len(lines) == 3 * 3 * 3
    # Without the size of the pool it is the closed form delta ** (1 / n).
    assert main([*call, *more[:-2], "--bound", "independent", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    last = {one["bounded"]: one for one in content["guarantees"] if one["model"] == "1"}
    assert last["all_agree"]["lower"] == pytest.approx(0.1 ** (1 / 70), abs=1e-9)
    assert last["agreement"]["lower"] == pytest.approx(0.1 ** (1 / 70), abs=1e-6)


def test_the_guarantee_is_that_of_the_drawn_sentences(narrow_model, text_file, tuned):
    base, text = open_checkpoint(str(narrow_model)), read_corpus(text_file, source_language="en", target_language="ca")
    embed = RowPatch.open(tuned / "embed")
    found = scan(base, embed)
    settings = {"alphas": (0.05,), "calibration": 0.5, "delta": 0.05, "calibration_positions": 2}
    made = certify(base, embed, found, text, bound="independent", split_seed=3, **settings)
    (bound,) = [one for one in made.guarantees if one["bounded"] == "all_agree"]
    n, agreeing = bound["n"], round(bound["observed"] * bound["n"])
    assert n == 60
    wanted = 0.0 if agreeing == 0 else beta.ppf(0.05, agreeing, n - agreeing + 1)
    assert bound["lower"] == pytest.approx(wanted, abs=1e-6)
    finite = certify(base, embed, found, text, split_seed=3, **settings).guarantees[0]
    possible = [k for k in range(121) if hypergeom(120, k, 60).cdf(60 - agreeing) > 0.05]
    assert (finite["method"], finite["observed"]) == ("hypergeometric", bound["observed"])
    assert finite["lower"] == pytest.approx(1 - max(possible) / 120)
    other = certify(base, embed, found, text, split_seed=4, **settings)
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
    # Its own manifest says the same.
    assert main([*call, "--small", str(tuned / "partial"), "--tau", "exact", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["levels"] == content["levels"]


def test_a_patch_is_certified_with_the_rows_that_it_changes(call, narrow_model, text_file, tuned, tmp_path, capfd):
    """Each with its own: three patches of different rows and rules in one call."""
    embed, partial = (RowPatch.open(tuned / name) for name in ("embed", "partial"))
    some = partial.restrict(partial.ids[:3])
    some.save(tmp_path / "some")
    small = ["--small", str(tuned / "embed"), str(tuned / "partial"), str(tmp_path / "some")]
    assert main([*call, *small, "--json"]) == 0
    levels = {level["name"]: level for level in json.loads(capfd.readouterr().out)["levels"]}
    assert levels["embed"]["tickets"] == len(embed)
    assert levels["embed"]["bounds"]["empirical"]["tau"] == 0.0
    assert (levels["partial"]["alpha"], levels["embed"]["alpha"]) == (0.05, None)
    assert (levels["some"]["tickets"], levels["some"]["alpha"]) == (3, None)  # not all rows with p < 0.05 any more
    # A ticket file of other rows is refused, here and in the library.
    tickets = tuned / "tickets.json"
    for patch in (tuned / "embed", tmp_path / "some"):
        line = fails(capfd, [*call, "--small", patch, "--tickets", tickets])
        assert f"the tickets are not the rows that {patch.name} changes" in line
    base, text = open_checkpoint(str(narrow_model)), read_corpus(text_file, source_language="en", target_language="ca")
    with pytest.raises(UserError, match="are not the rows that mine changes"):
        certify(base, embed, scan(base, embed), text, small={"mine": embed}, tickets=Tickets.open(tickets))
    # Rows with the base's own values, bit for bit, need not be named.
    ids = np.union1d(partial.ids, [0])
    values = base.rows(ids)
    values[np.isin(ids, partial.ids)] = partial.values
    RowPatch(ids, values, partial.base).save(tmp_path / "more")
    assert main([*call, "--small", str(tmp_path / "more"), "--tickets", str(tickets), "--json"]) == 0
    (level,) = json.loads(capfd.readouterr().out)["levels"]
    assert (level["tickets"], level["alpha"]) == (len(partial), 0.05)


def test_a_transfer_knows_the_rule_of_its_tickets(call, narrow_model, tuned, tmp_path, capsys):
    arguments = [str(tuned / "embed"), "--tickets", str(tuned / "tickets.json"), "--out", str(tmp_path / "transfer")]
    assert main(["transfer", str(narrow_model), *arguments]) == 0
    capsys.readouterr()
    assert main([*call, "--small", str(tmp_path / "transfer"), "--json"]) == 0
    (level,) = json.loads(capsys.readouterr().out)["levels"]
    assert level["alpha"] == 0.05


def test_the_smallest_set_is_chosen_and_written(call, tuned, tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--transfer", "--tickets", str(tuned / "tickets.json"), "--choose", "0.9", "0.1", "--calibration", "0.5"]
    assert main([*call, *more, "--out", str(out)]) == 0
    choice = json.loads((out / "certificate.json").read_text())["choice"]
    assert f"the chosen {choice['size']:,} tickets" in choice["statement"]
    assert choice["models"][choice["chosen"]] == choice["model"]
    assert main(["certify", "--recheck", str(out)]) == 0
    assert "choice" in capsys.readouterr().out
    assert choice["sizes"] == sorted(choice["sizes"], reverse=True)
    assert choice["pvalues"][choice["chosen"]] <= 0.1
    assert len(RowPatch.open(out / "chosen")) == choice["size"] == choice["sizes"][choice["chosen"]]


def test_a_loss_that_even_the_largest_set_exceeds_is_not_chosen(call, tuned, capsys):
    """Hoeffding-Bentkus as published: the smaller of two tail bounds of the mean of n losses, here by scipy."""
    more = [
        "--transfer",
        "--tickets",
        str(tuned / "tickets.json"),
        "--calibration",
        "0.5",
        "--bound",
        "independent",
        "--json",
    ]
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


def test_what_cannot_be_certified_is_refused(call, tuned, tied_model, text_file, tmp_path, capfd, monkeypatch):
    """Before the model is loaded."""

    def load(*_args, **_more):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("ks_lottery.models.load.load_model", load)
    grid = [*call, "--transfer"]
    assert "--alphas is 1.5, but must be" in fails(capfd, [*grid, "--alphas", "1.5"])
    assert "delta is 0" in fails(capfd, [*grid, "--delta", "0", "--calibration", "30"])
    assert "--choose is 1.5" in fails(capfd, [*grid, "--choose", "0.1", "1.5", "--calibration", "30"])
    assert "51 are needed" in fails(capfd, [*grid, "--choose", "0.05", "0.05", "--calibration", "50"])
    assert "41 are needed" in fails(capfd, [*grid, "--choose", "0.05", "0.05", "--calibration", "40", "--loss", "any"])
    independent = ["--calibration", "58", "--bound", "independent"]
    assert "59 are needed" in fails(capfd, [*grid, "--choose", "0.05", "0.05", *independent])
    assert "needs calibration text" in fails(capfd, [*grid, "--choose", "0.05", "0.05"])
    assert "leaves nothing for" in fails(capfd, [*grid, "--calibration", "120"])
    assert "certified as it is" in fails(
        capfd, [*call, "--small", tuned / "partial", "--choose", "0.1", "0.1", "--calibration", "60"]
    )
    half = tmp_path / "half.tsv"
    lines = text_file.read_text().splitlines(keepends=True)
    half.write_text("".join(lines[:40]))
    assert "are also in" in fails(capfd, [*grid, "--calibration", half])
    half.write_text("".join(line.replace("number", "item") for line in lines[:40]))
    assert "Give one text with --calibration N, or --same-pool if they are" in fails(
        capfd, [*grid, "--calibration", half]
    )
    half.write_text("")
    assert str(half) in fails(capfd, [*grid, "--calibration", half])
    assert "give the base that the patch belongs to" in fails(capfd, ["certify", tied_model, *grid[2:]])
    other = tmp_path / "tickets.json"
    content = json.loads((tuned / "tickets.json").read_text())
    content["made_from"]["base"]["fingerprint"] = "0" * 64
    other.write_text(json.dumps(content))
    assert "another base" in fails(capfd, [*grid, "--tickets", other])
    assert "does not compare" in fails(capfd, [*call, "--transfer", "--scan", _scan_of(tied_model, tmp_path)])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    assert "not the folder of a certification" in fails(capfd, [*grid, "--out", tmp_path / "full"])
    assert (tmp_path / "full" / "file").read_text() == "x"
    (tmp_path / "one.tsv").write_text("only a source\n")
    assert str(tmp_path / "one.tsv") in fails(
        capfd, ["certify", call[1], *call[2:4], "--data", tmp_path / "one.tsv", "--transfer"]
    )
    (tmp_path / "long.tsv").write_text(f"{'word ' * 600}\tparaula\n")
    assert "512 tokens" in fails(capfd, [*call[:4], "--data", tmp_path / "long.tsv", "--transfer"])
    assert "tau exact is a function of alpha" in fails(capfd, [*call, "--small", tuned / "embed", "--tau", "exact"])


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
    # The size of a pool that somebody vouches for is not built on.
    assert content["guarantees"][0]["method"] == "Clopper-Pearson"
