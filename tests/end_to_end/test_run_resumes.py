"""A run that is begun again: the same bytes, what is resumed, what is made again, and what is refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest
from running import STAGES, command, fails, hashes

from ks_lottery.cli.main import main


def test_the_same_config_gives_the_same_bytes(finished, tied_model, text_file, tmp_path):
    assert main(command(tied_model, text_file, tmp_path / "two")) == 0
    one, two = hashes(finished), hashes(tmp_path / "two")
    assert set(one) == set(two)
    assert {name for name in one if one[name] != two[name]} <= {"timings.json"}


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


def test_a_folder_of_another_config_is_refused(finished, tied_model, text_file, capfd):
    before = hashes(finished)
    line = fails(capfd, *command(tied_model, text_file, finished, "--select.alpha", "0.1"))
    assert "select.alpha: 0.05 there, 0.1 here" in line
    assert hashes(finished) == before


def test_a_folder_that_is_no_run_is_refused(tied_model, text_file, tmp_path, capfd):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not a run" in fails(capfd, *command(tied_model, text_file, tmp_path))
    assert hashes(tmp_path).keys() == {"thesis.txt"}


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
