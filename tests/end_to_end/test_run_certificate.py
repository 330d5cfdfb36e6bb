"""The certificate of a run and its guarantees: their arithmetic, their pool, and that the command `certify` gives the same."""

from __future__ import annotations

import json
import shutil

import pytest
from running import command

from ks_lottery.cli.main import main


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


@pytest.mark.slow
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
