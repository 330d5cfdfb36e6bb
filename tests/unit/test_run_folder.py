"""The folder of a run: one process at a time, one config, one model and one text; and it survives a kill at any time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ks_lottery import RunConfig, UserError
from ks_lottery.store.run_folder import CONFIG_FILE, INPUTS_FILE, RunFolder

HOLD = """
import sys
from pathlib import Path
from ks_lottery.store.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_the_first_one_ends(tmp_path):
    folder = RunFolder(tmp_path / "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process works in"), folder.locked():
            pass
    finally:
        holder.communicate()
    assert holder.returncode == 0
    with folder.locked():
        pass


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    folder = RunFolder(tmp_path / "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    with folder.locked():
        pass


@pytest.mark.parametrize("name", ["model", "text"])
def test_a_model_or_text_that_changed_in_mid_run_is_refused(tmp_path, name):
    folder = RunFolder(tmp_path)
    inputs = {"model": "aa", "text": "bb"}
    folder.claim(RunConfig(), inputs, threads=2)
    folder.claim(RunConfig(), inputs, threads=2)
    with pytest.raises(UserError, match=f"was begun with another {name}"):
        folder.claim(RunConfig(), {**inputs, name: "cc"}, threads=2)


@pytest.mark.parametrize("there", [(), (CONFIG_FILE,), (CONFIG_FILE, INPUTS_FILE)])
def test_a_run_that_was_killed_while_it_was_begun_can_be_resumed(tmp_path, there):
    """The two files are written one after the other: a kill leaves none, the first, or both."""
    folder = RunFolder(tmp_path)
    folder.claim(RunConfig(), {"model": "aa"}, threads=2)
    for name in {CONFIG_FILE, INPUTS_FILE} - set(there):
        (tmp_path / name).unlink()
    folder.claim(RunConfig(), {"model": "aa"}, threads=2)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, INPUTS_FILE}
