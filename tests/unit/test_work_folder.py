"""A result is whole or not there; unfinished work belongs to one process, and only the same work resumes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ks_lottery import UserError
from ks_lottery.store.work_folder import WorkFolder, locked_folder

ABOUT = {
    "kind": "tuning",
    "format": 1,
    "made_from": {"text": "a"},
    "settings": {"seed": 0, "epochs": 1},
    "versions": {},
}


def other(**settings) -> dict:
    return {**ABOUT, "settings": {**ABOUT["settings"], **settings}}


@pytest.fixture
def work(tmp_path):
    return WorkFolder(tmp_path / "out")


def test_a_result_is_published_whole_with_its_manifest_and_what_it_keeps(work):
    with work.claimed(ABOUT) as unfinished:
        (unfinished / "logs").mkdir()
        (unfinished / "logs" / "events").write_text("x")
        (unfinished / "checkpoint").write_text("y")
        assert not work.is_done(ABOUT)
        with work.publish(ABOUT, keep=["logs", "never"]) as folder:
            (folder / "patch").write_text("z")
            assert not work.out.exists()
    assert sorted(str(file.relative_to(work.out)) for file in work.out.rglob("*") if file.is_file()) == [
        "logs/events", "manifest.json", "patch",
    ]  # fmt: skip
    assert json.loads((work.out / "manifest.json").read_text()) == ABOUT
    assert not work.unfinished.exists()
    assert work.is_done(ABOUT)


def test_an_error_while_publishing_leaves_no_result_and_keeps_the_work(work):
    def publish():
        with work.claimed(ABOUT) as unfinished, work.publish(ABOUT) as folder:
            (unfinished / "checkpoint").write_text("y")
            (folder / "half").write_text("z")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        publish()
    assert not work.out.exists()
    assert (work.unfinished / "checkpoint").read_text() == "y"
    assert [path.name for path in work.out.parent.iterdir()] == [work.unfinished.name]


def test_the_same_work_resumes_and_other_work_is_refused_by_name(work):
    with work.claimed(ABOUT) as unfinished:
        (unfinished / "checkpoint").write_text("y")
    with work.claimed(ABOUT) as unfinished:
        assert (unfinished / "checkpoint").read_text() == "y"
    with pytest.raises(UserError, match="`epochs`: 1 there, 2 here"), work.claimed(other(epochs=2)):
        pass
    with pytest.raises(UserError, match="`layers`: not set there, '3' here"), work.claimed(other(layers="3")):
        pass


def test_another_result_or_other_files_are_refused(work):
    work.out.mkdir()
    assert not work.is_done(ABOUT)
    with work.publish(ABOUT):
        pass
    with pytest.raises(UserError, match="`seed`: 0 there, 1 here"):
        work.is_done(other(seed=1))
    (work.out / "manifest.json").unlink()
    (work.out / "mine").write_text("x")
    with pytest.raises(UserError, match="is not the folder of a tuning"):
        work.is_done(ABOUT)


def test_another_process_is_kept_out_until_this_one_is_done(work):
    script = (
        "import sys; from pathlib import Path\n"
        "from ks_lottery.store.work_folder import locked_folder\n"
        "with locked_folder(Path(sys.argv[1])): print('mine')\n"
    )
    call = [sys.executable, "-c", script, str(work.unfinished)]
    with locked_folder(work.unfinished):
        refused = subprocess.run(call, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "another process works in" in refused.stderr
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "mine\n"
