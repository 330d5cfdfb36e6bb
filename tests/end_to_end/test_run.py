"""The main job on a tiny model, from the command line: what it writes, resumes, refuses."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ks_lottery.cli.main import main
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models.load import load_model
from ks_lottery.store.run_folder import RunFolder

FAST = [
    "--train.learning-rate", "0.2", "--train.epochs", "1", "--train.batch-size", "8",
    "--evaluate.translations", "2", "--evaluate.num-beams", "1", "--evaluate.max-new-tokens", "4",
    "--evaluate.resamples", "200", "--certify.alphas", "[0.05, 0.5, 1.0]", "--text.min-pairs", "50",
    "--compare", "all",
]  # fmt: skip

STAGES = 14


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def command(model: Path, text: Path, out: Path, *more: str) -> list[str]:
    return ["run", "--model.name", str(model), "--text.train", str(text), "--out", str(out), *FAST, *more]


@pytest.fixture(scope="module")
def finished(tied_model, text_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "one"
    assert main(command(tied_model, text_file, out)) == 0
    return out


def test_a_run_writes_what_it_promises(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["methods"]) == [
        "original", "embed", "partial", "transfer", "gradient-sum", "occurrence", "random", "lca", "gradient",
    ]  # fmt: skip
    for row in summary["methods"].values():
        assert {"accuracy", "interval", "loss", "chrf", "bleu", "trained_parameters", "bytes"} <= set(row)
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
    counts = {name: row["trained_parameters"] for name, row in summary["methods"].items()}
    assert counts["original"] == 0
    same = ("partial", "transfer", "gradient-sum", "occurrence", "random", "lca", "gradient")
    assert 0 < counts["partial"] < counts["embed"]
    assert {counts[name] for name in same} == {counts["partial"]}
    assert counts["partial"] == 32 * len(summary["tickets"])
    assert summary["methods"]["embed"]["loss"] < summary["methods"]["original"]["loss"]
    for name, compared in summary["comparisons"]["systems"].items():
        gap = summary["methods"][name]["accuracy"] - summary["methods"]["partial"]["accuracy"]
        assert compared["difference"] == pytest.approx(gap)
        assert compared["interval"][0] <= gap <= compared["interval"][1]
    assert list(summary["comparisons"]["systems"]) == ["gradient-sum", "occurrence", "random", "lca", "gradient"]
    for name in ("config.yaml", "timings.json", "tickets.json", "scan.parquet", "log.txt", "partial/patch.safetensors",
                 "embed/attribution.parquet",
                 "predictions/original.parquet", "hypotheses/partial.jsonl", "certificate/transfer.parquet"):  # fmt: skip
        assert (finished / name).is_file(), name


def test_random_rows_are_three_draws(finished):
    """Their rows differ; the table has their mean and its range, and only they are not translated."""
    from ks_lottery import Predictions

    summary = json.loads((finished / "summary.json").read_text())
    names = [f"random-{number}" for number in (1, 2, 3)]
    rows = [tuple(row["row"] for row in json.loads((finished / n / "rows.json").read_text())["rows"]) for n in names]
    assert len({frozenset(each) for each in rows}) == 3
    assert {len(each) for each in rows} == {len(summary["tickets"])}
    accuracies = [Predictions.open(finished / "predictions" / f"{name}.parquet").accuracy for name in names]
    random = summary["methods"]["random"]
    assert random["accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert random["range"] == pytest.approx([min(accuracies), max(accuracies)])
    assert random["chrf"] is None
    assert {path.stem for path in (finished / "hypotheses").iterdir()} == {*summary["methods"]} - {"random"}


def test_one_pass_rows_are_those_of_the_library(finished, tied_model, text_file):
    from ks_lottery import read_corpus, row_gradients, select_by_attribution
    from ks_lottery.models.load import load_model

    loaded = load_model(str(tied_model))
    train = read_corpus(finished / "text" / "train.jsonl", source_language="en", target_language="ca")
    saved = json.loads((finished / "gradient-sum" / "rows.json").read_text())
    wanted = select_by_attribution(row_gradients(loaded, train, batch_size=8), "gradient-sum", len(saved["rows"]))
    assert [row["row"] for row in saved["rows"]] == wanted.rows.tolist()
    assert saved["settings"]["measured"] == "original model"


def test_without_compare_all_a_run_has_no_recorded_rivals(finished, tied_model, text_file, tmp_path, capfd):
    """What both have is the same, byte for byte."""
    out = tmp_path / "default"
    assert main(command(tied_model, text_file, out, "--compare", "default")) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["methods"]) == [
        "original", "embed", "partial", "transfer", "gradient-sum", "occurrence", "random",
    ]  # fmt: skip
    assert list(summary["comparisons"]["systems"]) == ["gradient-sum", "occurrence", "random"]
    shown = capfd.readouterr().out
    assert "random rows, 3 draws" in shown
    assert "as many random rows (mean of 3 draws)" in shown
    assert "The accuracy of the 3 draws of random rows is from" in shown
    whole = json.loads((finished / "summary.json").read_text())
    assert {name: whole["methods"][name] for name in summary["methods"]} == summary["methods"]
    assert "compare is 'default' there and 'all' here" in fails(capfd, *command(tied_model, text_file, out))


def test_the_certificate_keeps_its_own_arithmetic(finished):
    summary = json.loads((finished / "summary.json").read_text())
    certificate = summary["certificate"]["transfer"]
    last = certificate["levels"][-1]
    assert last["alpha"] == 1.0
    assert last["bounds"]["empirical"]["tau"] == 0.0
    assert last["tickets"] == 384
    # With every row selected the small model is the tuned one.
    assert last["bounds"]["empirical"]["rules"]["theorem"]["violations"] == 0
    assert last["agreement"] == 1.0
    assert last["prediction_accuracy"] == certificate["tuned_accuracy"]
    for level in certificate["levels"]:
        for bound in level["bounds"].values():
            for audit in bound["rules"].values():
                assert audit["accuracy"] == pytest.approx(audit["positions"] / certificate["positions"])
                assert 0 <= audit["violations"] <= audit["positions"]
            assert bound["rules"]["both"]["positions"] <= bound["rules"]["algorithm1"]["positions"]
    for kind in ("empirical", "exact", "table"):
        taus = [level["bounds"][kind]["tau"] for level in certificate["levels"]]
        assert taus == sorted(taus, reverse=True)


def test_scan_of_the_run_equals_scipy(finished):
    import numpy as np
    import pyarrow.parquet as pq
    from scipy.stats import ks_2samp

    from ks_lottery import RowPatch, open_checkpoint

    table = pq.read_table(finished / "scan.parquet").to_pydict()
    patch = RowPatch.open(finished / "embed")
    before = open_checkpoint(patch.base["name"]).rows(patch.ids).numpy()
    for place, row in enumerate(patch.ids):
        wanted = ks_2samp(before[place], patch.values[place].numpy())
        assert table["count"][row] == round(wanted.statistic * 32)
        assert table["pvalue"][row] == pytest.approx(wanted.pvalue, rel=1e-9)
    tickets = {row["row"] for row in json.loads((finished / "tickets.json").read_text())["rows"]}
    assert tickets == set(np.flatnonzero(np.array(table["pvalue"]) < 0.05).tolist())


def test_the_same_config_gives_the_same_bytes(finished, tied_model, text_file, tmp_path):
    assert main(command(tied_model, text_file, tmp_path / "two")) == 0
    one, two = hashes(finished), hashes(tmp_path / "two")
    assert set(one) == set(two)
    assert {name for name in one if one[name] != two[name]} <= {"timings.json"}


def test_rows_by_attribution_are_those_that_embed_tuning_recorded(finished):
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(finished / "embed" / "attribution.parquet").to_pydict()
    losses = json.loads((finished / "embed" / "training.json").read_text())["losses"]
    assert min(table["lca"]) < 0 < max(table["lca"])  # the sign is kept
    assert min(table["gradient"]) >= 0
    assert len(losses) > 1
    for name in ("lca", "gradient"):
        rows = [row["row"] for row in json.loads((finished / name / "rows.json").read_text())["rows"]]
        best = np.argsort(-np.array(table[name]), kind="stable")[: len(rows)]
        assert rows == np.array(table["row"])[best].tolist()
    embed = json.loads((finished / "embed" / "rows.json").read_text())["rows"]
    assert table["row"] == [row["row"] for row in embed]


def test_select_by_attribution(finished, text_file, tmp_path, capfd):
    out, call = str(tmp_path / "t.json"), ["select", str(finished / "scan.parquet"), "--top-k", "9"]
    written = {}
    for name, more in {
        "found": ["--by", "lca"],
        "named": ["--by", "lca", "--attribution", str(finished / "embed")],
        "tuned": ["--by", "gradient"],
        "original": ["--by", "gradient", "--corpus", str(text_file)],
    }.items():
        assert main([*call, *more, "--out", out]) == 0
        written[name] = json.loads(Path(out).read_text())
    rows = {name: [row["row"] for row in about["rows"]] for name, about in written.items()}
    assert rows["found"] == rows["named"] != rows["tuned"]
    for name, by in (("found", "lca"), ("tuned", "gradient")):
        wanted = [row["row"] for row in json.loads((finished / by / "rows.json").read_text())["rows"]]
        assert rows[name][: len(wanted)] == wanted[:9]
        assert len(rows[name]) == 9
    assert written["original"]["settings"] == {
        "selector": "gradient", "size": 9, "measured": "original model", "batch_size": 8,
    }  # fmt: skip
    assert len(set(rows["original"])) == 9
    falling = [row["gradient"] for row in written["original"]["rows"]]
    assert falling == sorted(falling, reverse=True)
    capfd.readouterr()


def test_select_by_attribution_refuses(finished, tied_model, text_file, tmp_path, capfd):
    out, scan = ["--out", str(tmp_path / "t.json")], str(finished / "scan.parquet")
    lca = ["select", scan, "--by", "lca"]
    assert "give --top-k" in fails(capfd, *lca, "--alpha", "0.1", *out)
    assert "give --attribution" in fails(capfd, *lca, "--top-k", "3", "--corpus", str(text_file), *out)
    line = fails(capfd, *lca, "--top-k", "3", "--attribution", str(finished / "partial"), *out)
    assert "holds no attribution.parquet" in line
    both = ["--attribution", str(finished / "embed"), "--corpus", str(text_file)]
    assert "not both" in fails(capfd, "select", scan, "--by", "gradient", "--top-k", "3", *both, *out)
    alone = tmp_path / "alone.parquet"
    shutil.copy(scan, alone)
    assert "needs --attribution, the record" in fails(capfd, "select", str(alone), "--by", "lca", "--top-k", "3", *out)
    other = tmp_path / "other.parquet"
    assert main(["scan", str(tied_model), str(finished / "partial"), "--quiet", "--out", str(other)]) == 0
    line = fails(
        capfd, "select", str(other), "--by", "lca", "--top-k", "3", "--attribution", str(finished / "embed"), *out
    )
    assert "another tuning" in line
    assert not (tmp_path / "t.json").exists()


def test_another_seed_gives_another_run_and_zero_is_a_seed(finished, tied_model, text_file, tmp_path):
    assert main(command(tied_model, text_file, tmp_path / "other", "--seed", "1")) == 0
    one, other = hashes(finished), hashes(tmp_path / "other")
    assert one["embed/patch.safetensors"] != other["embed/patch.safetensors"]
    # The seed of training moves no sentence, so that seeds share one test text.
    assert {name for name in one if name.startswith("text/") and one[name] != other[name]} == set()


def test_another_split_seed_is_another_draw_from_a_pool_that_max_test_does_not_cut(
    finished, tied_model, text_file, tmp_path, capsys
):
    out = tmp_path / "split"
    more = ["--text.split-seed", "1", "--text.max-test", "6", "--text.min-pairs", "50"]
    assert main(command(tied_model, text_file, out, *more)) == 0
    one, other = (
        {
            part: (folder / "text" / f"{part}.jsonl").read_text().splitlines()
            for part in ("train", "calibration", "test")
        }
        for folder in (finished, out)
    )
    assert not set(other["calibration"]) & (set(other["test"]) | set(other["train"]))
    assert set(one["calibration"]) != set(other["calibration"])
    assert len(other["test"]) == 6
    report = json.loads((out / "text" / "report.json").read_text())
    assert report["split_seed"] == 1
    held_out = 120 - len(other["train"])
    assert report["held_out"]["calibration"] + report["held_out"]["test"] == held_out > 6 + len(other["calibration"])
    pool = json.loads((out / "certificate" / "transfer.json").read_text())["guarantees"][0]["pool"]
    assert (pool["units"], pool["counted"], pool["drawn"]) == (held_out, held_out, len(other["calibration"]))
    assert pool["seed"] == 1
    # The same two files, given to certify: the pool is the same, whose size in tokens is not known there.
    text = ["--data", str(out / "text" / "test.jsonl"), "--calibration", str(out / "text" / "calibration.jsonl")]
    capsys.readouterr()
    assert main(["certify", str(tied_model), "--tuned", str(out / "embed"), *text, "--transfer", "--json"]) == 0
    pool = json.loads(capsys.readouterr().out)["guarantees"][0]["pool"]
    assert (pool["units"], pool["counted"], pool["seed"]) == (held_out, None, 1)


def test_the_guarantees_of_a_run_are_rechecked_from_its_files(finished, tmp_path, capsys):
    assert main(["certify", "--recheck", str(finished)]) == 0
    assert "12 recomputed: all equal." in capsys.readouterr().out
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    file = copy / "certificate" / "partial.json"
    content = json.loads(file.read_text())
    content["guarantees"][1]["statement"] = content["guarantees"][1]["statement"].replace(
        "in at least ", "in at least 9"
    )
    file.write_text(json.dumps(content))
    assert main(["certify", "--recheck", str(copy)]) == 1
    assert "no: statement" in capsys.readouterr().out


def test_a_finished_run_does_nothing_again(finished, tied_model, text_file, capsys):
    before = hashes(finished)
    assert main(command(tied_model, text_file, finished)) == 0
    assert hashes(finished) == before
    assert capsys.readouterr().out.count("done before") == STAGES


def test_a_damaged_stage_alone_is_done_again(finished, tied_model, text_file, tmp_path, capsys):
    """It comes out as it was, and so the stages after it have the inputs that they had."""
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    file = out / "predictions" / "embed.parquet"
    file.write_bytes(file.read_bytes()[:100])
    assert main(command(tied_model, text_file, out)) == 0
    assert capsys.readouterr().out.count("done before") == STAGES - 1
    one, two = hashes(finished), hashes(out)
    assert {name for name in one if one[name] != two[name]} <= {"timings.json"}


def test_a_killed_run_goes_on_where_it_was(finished, tied_model, text_file, tmp_path):
    out = tmp_path / "killed"
    call = [sys.executable, "-m", "ks_lottery", *command(tied_model, text_file, out)]
    marker = out / ".stages" / "scan.json"
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert marker.exists()
    assert not (out / "summary.json").exists()
    embed = (out / "embed" / "patch.safetensors").stat().st_mtime_ns
    again = subprocess.run(call, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "done before" in again.stdout
    assert (out / "embed" / "patch.safetensors").stat().st_mtime_ns == embed
    one, two = hashes(finished), hashes(out)
    left_behind = {name for name in two if "/." in f"/{name}" and name not in one}  # half-written temporary files
    assert {name: h for name, h in two.items() if name not in left_behind and name != "timings.json"} == {
        name: h for name, h in one.items() if name != "timings.json"
    }


def fails(capfd, *arguments: str) -> str:
    """Run, expect exit code 2 and exactly one line on stderr, and return it."""
    capfd.readouterr()
    assert main(list(arguments)) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_folder_of_another_config_is_refused(finished, tied_model, text_file, capfd):
    before = hashes(finished)
    line = fails(capfd, *command(tied_model, text_file, finished, "--select.alpha", "0.1"))
    assert "select.alpha: 0.05 there, 0.1 here" in line
    assert hashes(finished) == before


def test_a_folder_that_is_no_run_is_refused(tied_model, text_file, tmp_path, capfd):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not a run" in fails(capfd, *command(tied_model, text_file, tmp_path))
    assert hashes(tmp_path).keys() == {"thesis.txt"}


def bad_inputs(tmp_path: Path, tied_model: Path) -> dict[str, tuple[list[str], str]]:
    """Each kind of bad input: flags that go over a good call, and what the one line must name."""
    (tmp_path / "empty.tsv").write_text("")
    (tmp_path / "latin.tsv").write_bytes(b"one two three four\tun dos tres quatre\ncaf\xe9 au lait hot\tx y z w\n")
    (tmp_path / "a.en").write_text("one two three four\nfive six seven eight\n")
    (tmp_path / "a.ca").write_text("un dos tres quatre\n")
    cut = tmp_path / "cut"
    shutil.copytree(tied_model, cut)
    (cut / "model.safetensors").write_bytes((tied_model / "model.safetensors").read_bytes()[:-100])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    headless = tmp_path / "headless"
    shutil.copytree(tied_model, headless)
    import torch
    from safetensors.torch import save_file

    save_file({"layer.weight": torch.zeros(2)}, headless / "model.safetensors")
    return {
        "missing file": (["--text.train", str(tmp_path / "no.tsv")], "no.tsv"),
        "empty corpus": (["--text.train", str(tmp_path / "empty.tsv")], "empty.tsv"),
        "line that is not UTF-8": (["--text.train", str(tmp_path / "latin.tsv")], "latin.tsv, line 2"),
        "different length": (
            ["--text.train", str(tmp_path / "a.en"), "--text.target", str(tmp_path / "a.ca")], "2 lines"),
        "unknown language": (["--text.target-language", "xx-unknown"], "xx-unknown"),
        "unknown key": (["--train.learnig-rate", "1"], "--train.learning-rate"),
        "wrong type": (["--train.batch-size", "many"], "--train.batch-size is 'many', but must be a whole number"),
        "out of range": (["--select.alpha", "2"], "select.alpha"),
        "missing model": (["--model.name", str(tmp_path / "nowhere")], "nowhere"),
        "truncated checkpoint": (["--model.name", str(cut)], "truncated"),
        "no embedding": (["--model.name", str(headless)], "no input embedding"),
        "pickle": (["--model.name", str(pickled)], "pickle"),
        "too little text": (["--text.min-pairs", "1000"], "usable pairs"),
    }  # fmt: skip


def test_bad_input_is_one_line_and_harms_nothing(tied_model, text_file, tmp_path, capfd):
    cases = bad_inputs(tmp_path, tied_model)
    before = hashes(tmp_path)
    for name, (flags, named) in cases.items():
        line = fails(capfd, *command(tied_model, text_file, tmp_path / "out"), *flags)
        assert named in line, (name, line)
        assert hashes(tmp_path) == before, name


def test_base_and_patch_that_do_not_belong_together(finished, untied_model, tmp_path, capfd):
    before = hashes(finished)
    patch, out = str(finished / "partial"), str(tmp_path / "adapter")
    line = fails(capfd, "export", patch, "--out", out, "--to", "peft", "--base", str(untied_model))
    assert "belongs" in line
    assert hashes(finished) == before
    assert not (tmp_path / "adapter").exists()


def test_no_space_left(tied_model, text_file, tmp_path):
    """A file size limit stands in for a full disk: the write fails in the middle, as there."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from ks_lottery.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    call = [sys.executable, "-c", code, *command(tied_model, text_file, tmp_path / "out")]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write" in done.stderr or "no space left" in done.stderr


def test_translate_and_compare(finished, capsys):
    assert main(["translate", str(finished), "Please enter a valid name", "--compare"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "source:   Please enter a valid name"
    assert "original:" in out
    assert "partial:" in out


def test_translate_takes_lines_of_standard_input(finished, capsys, monkeypatch):
    assert main(["translate", str(finished), "The house is old", "This page does not exist"]) == 0
    wanted = capsys.readouterr().out
    assert wanted.count("\n") == 2

    def give(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))

    give(b"The house is old\n\nThis page does not exist\r\n   \n")
    assert main(["translate", str(finished)]) == 0
    first, second = wanted.split("\n")[:2]
    assert capsys.readouterr().out == f"{first}\n\n{second}\n\n"
    give(b"The house\ncaf\xe9 is old\n")
    assert main(["translate", str(finished)]) == 2
    assert "standard input, line 2 is not UTF-8" in capsys.readouterr().err
    give("The house\u2028is old\x0b\x85now\nThe house".encode())
    assert main(["translate", str(finished)]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    give(b"\n\n")
    assert main(["translate", str(finished)]) == 0
    assert capsys.readouterr().out == "\n\n"
    assert main(["translate", str(finished), "The house " * 5000]) == 2
    assert "sentence 1 has" in capsys.readouterr().err
    assert main(["translate", str(finished), "The \ud800 house"]) == 2
    assert "sentence 1 is not UTF-8" in capsys.readouterr().err
    give(b"")
    assert main(["translate", str(finished)]) == 2
    assert "nothing to translate" in capsys.readouterr().err


def test_the_certificate_of_a_run_is_that_of_the_command(finished, tied_model, tmp_path, capsys):
    """Integers are equal; a probability may differ by rounding, since other models share the batches."""
    text = [
        "--data",
        str(finished / "text" / "test.jsonl"),
        "--calibration",
        str(finished / "text" / "calibration.jsonl"),
    ]
    tuned = ["--tuned", str(finished / "embed"), "--scan", str(finished / "scan.parquet"), "--max-tokens", "512"]
    call = ["certify", str(tied_model), *tuned, *text, "--alphas", "0.05", "0.5", "1", "--json"]
    small = ["--small", str(finished / "partial"), "--tickets", str(finished / "tickets.json")]
    for name, which in (("transfer", ["--transfer"]), ("partial", small)):
        assert main([*call, *which]) == 0
        command = json.loads(capsys.readouterr().out)
        saved = json.loads((finished / "certificate" / f"{name}.json").read_text())
        assert command["levels"] == saved["levels"]
        assert len(saved["levels"]) > 0
        for key in ("positions", "sentences", "original_accuracy", "tuned_accuracy", "full", "tau", "small"):
            assert command[key] == saved[key], key
        assert command["half_gap_range"] == pytest.approx(saved["half_gap_range"], rel=1e-4)
        assert [w["answers"] for w in command["worst"]] == [w["answers"] for w in saved["worst"]]
        bounds = ("model", "bounded", "lower", "observed", "n", "delta")
        rows = [[{b: g[b] for b in bounds} for g in content["guarantees"]] for content in (command, saved)]
        assert rows[0] == rows[1]
        assert len(rows[0]) == 3 * len(saved["levels"])


@pytest.mark.parametrize("what", ["model", "text"])
def test_a_run_whose_model_or_text_changed_is_refused_and_unharmed(
    finished, tied_model, untied_model, text_file, tmp_path, capfd, what
):
    out, model, text = tmp_path / "run", tmp_path / "model", tmp_path / "pairs.tsv"
    shutil.copytree(tied_model, model)
    shutil.copy(text_file, text)
    assert main(command(model, text, out)) == 0
    (out / "summary.json").unlink()
    before = hashes(out)
    if what == "model":
        shutil.copy(untied_model / "model.safetensors", model / "model.safetensors")
        shutil.copy(untied_model / "config.json", model / "config.json")
    else:
        text.write_text(text.read_text().replace("The house", "The hut"))
    assert f"was begun with another {what}" in fails(capfd, *command(model, text, out))
    assert hashes(out) == before


def test_translations_that_were_cut_off_are_named(finished, capfd):
    """Those that have as many tokens as the run allows and no end; nothing is said of blank lines."""
    assert main(["translate", str(finished), "The house is old", "This page does not exist", "--compare"]) == 0
    out, err = capfd.readouterr()
    config = RunFolder(finished).config()
    loaded = load_model(config["model"]["name"], dtype=config["model"]["dtype"])
    form = PromptForm(loaded.tokenizer, config["text"]["template"])
    order = json.loads((finished / "text" / "report.json").read_text())["instruction"]
    prompts = form.prompts([order] * 2, ["The house is old", "This page does not exist"])
    without_end = []
    for number, prompt in enumerate(prompts, start=1):
        tokens = loaded.lm.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=4, pad_token_id=0)
        if loaded.tokenizer.eos_token_id not in tokens[0, len(prompt) :].tolist():
            without_end.append(number)
    assert without_end
    numbers = ", ".join(map(str, without_end))
    named = (
        f"{len(without_end)} translation{'s' if len(without_end) > 1 else ''} of the original model cut off at 4 tokens"
    )
    assert named in err
    assert f"the run's evaluate.max_new_tokens: sentence{'s' if len(without_end) > 1 else ''} {numbers}\n" in err
    assert "warning" not in out


def test_a_run_in_place_of_something_else_is_named_as_one(finished, tied_model, text_file, tmp_path, capfd):
    """Where a command takes a model, a text, a file or a new folder."""
    run, model, text = str(finished), str(tied_model), str(text_file)
    out = ["--out", str(tmp_path / "out")]
    for words in (
        ["tune", run, "--train", text, *out],
        ["inspect", text, "--model", run],
        ["evaluate", run, "--data", text, *out],
        ["certify", run, "--tuned", f"{run}/embed", "--data", text],
    ):
        assert f"{run} is a run folder, not a model: give its base model, {model}" in fails(capfd, *words), words
    assert "give its base model" in fails(capfd, *command(finished, text_file, tmp_path / "new"))
    assert f"{run}/embed is a row patch, not a model: give its base model, {model}" in fails(
        capfd, "inspect", text, "--model", f"{run}/embed"
    )
    assert "is a run folder: give one of its patches" in fails(capfd, "scan", model, run)
    assert f"is a run folder: give one of its texts, such as {run}/text/test.jsonl" in fails(
        capfd, "inspect", run, "--model", model
    )
    scan = f"{run} is a folder: give the Parquet file of a scan, such as {run}/scan.parquet"
    assert scan in fails(capfd, "select", run, "--out", str(tmp_path / "t.json"))
    assert scan in fails(capfd, "explain", f"{run}/tickets.json", "--scan", run)
    assert f"{run} exists and is not the folder of a tuning: give another --out" in fails(
        capfd, "tune", model, "--train", text, "--out", run
    )
    assert f"{run} is not the folder of an evaluation: give another --out" in fails(
        capfd, "evaluate", model, "--data", text, "--out", run
    )
    assert "summary.json is not a tickets file" in fails(capfd, "explain", f"{run}/summary.json", "--scan", run)
    assert not (tmp_path / "out").exists()


def test_translate_errors(finished, tmp_path, capfd):
    assert "not a run folder" in fails(capfd, "translate", str(tmp_path), "Hello")
    assert "it has embed, gradient, gradient-sum, lca, occurrence, partial, random-1" in fails(
        capfd, "translate", str(finished), "Hello", "--method", "lora"
    )


def test_config_file_flags_and_print_config(tied_model, tmp_path, capfd):
    file = tmp_path / "config.yaml"
    file.write_text(f"model:\n  name: {tied_model}\ntrain:\n  epochs: 2\n")
    assert main(["run", str(file), "--train.batch_size=3", "--print-config"]) == 0
    printed = capfd.readouterr().out
    assert "epochs: 2.0" in printed
    assert "batch_size: 3" in printed
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(printed)
    assert main(["run", str(resolved), "--print-config"]) == 0
    assert capfd.readouterr().out == printed
    file.write_text("train:\n  epoch: 2\n")
    assert "did you mean train.epochs?" in fails(capfd, "run", str(file), "--out", "x")
    assert "--out" in fails(capfd, "run", str(resolved))
