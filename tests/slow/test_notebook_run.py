"""docs/notebook.ipynb, executed on the smoke demo's run: its text is what it keeps. KS_LOTTERY_NOTEBOOK=1 keeps new outputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"

THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""With which the kept outputs were made: sums are rounded in another order with more."""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook, executed where `make smoke` was."""
    place = tmp_path_factory.mktemp("smoke")
    demo = [sys.executable, "-m", "ks_lottery", "demo", "--budget", "smoke", "--out", "runs/smoke"]
    subprocess.run(demo, cwd=place, env={**os.environ, **THREADS}, check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patching:
        for name, value in THREADS.items():
            patching.setenv(name, value)
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(
            notebook, timeout=600, record_timing=False, resources={"metadata": {"path": str(place)}}
        ).execute()
    assert (place / "adapter" / "adapter_config.json").is_file()
    if os.environ.get("KS_LOTTERY_NOTEBOOK"):
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, NOTEBOOK)
    return notebook


def texts(notebook):
    """Return the text of each output of each cell; of a chart, which is a picture, only that it is there."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                shown.append("picture")
            else:
                parts = [data.get("text/plain"), data.get("text/html"), output.get("text")]
                shown.append("\n".join(part for part in parts if part))
    return shown


def test_the_kept_text_is_that_of_a_new_execution(executed):
    kept = nbformat.read(NOTEBOOK, as_version=4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in executed.cells]
    assert texts(kept) == texts(executed)
    assert texts(kept).count("picture") == 4
    assert "<table" in "".join(texts(kept))


def test_it_says_nothing_of_the_machine():
    content = NOTEBOOK.read_text(encoding="utf-8")
    nbformat.validate(nbformat.reads(content, as_version=4))
    assert not re.search(r"/(home|root|tmp|work|usr|Users)/|Warning|Traceback", content)
    assert "stderr" not in content
