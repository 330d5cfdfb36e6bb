"""Bad input of a run, and a run in place of something else: one line, and nothing is harmed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from running import command, fails, hashes

from ks_lottery.cli.main import main


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
