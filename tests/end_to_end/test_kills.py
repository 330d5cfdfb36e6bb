"""Every command survives a kill before any of its file events: the same command then ends with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killing.py")
WRITING = {
    "embed", "scan", "select", "partial", "run", "lora", "full", "transfer", "peft", "merged", "explain", "alike", "certify",
    "agree", "evaluate",
}  # fmt: skip


@pytest.mark.slow
def test_a_command_that_was_killed_anywhere_ends_with_the_same_bytes(narrow_model, text_file, tmp_path):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(narrow_model), str(text_file), str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    outcome = json.loads(result.stdout)
    assert set(outcome) == WRITING
    assert {name: tried["failed"] for name, tried in outcome.items() if tried["failed"]} == {}
    assert all(tried["states"] >= 3 for tried in outcome.values())


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0
    if sys.platform == "linux"
    else True,
    reason="a disk of a chosen size needs Linux with user namespaces",
)
def test_a_command_whose_disk_was_full_says_so_and_ends_with_the_same_bytes(narrow_model, text_file, tmp_path):
    script = SCRIPT.with_name("filling.py")
    result = subprocess.run(
        ["unshare", "-rm", sys.executable, str(script), str(narrow_model), str(text_file), str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    outcome = json.loads(result.stdout)
    assert set(outcome) == WRITING
    assert {name: tried["failed"] for name, tried in outcome.items() if tried["failed"]} == {}
    assert all(tried["full"] >= 1 for tried in outcome.values())
