"""Nothing that was there before is lost: what is overwritten is ours and of the same kind, modes and links stay."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ks_lottery import RowPatch, Tickets, UserError
from ks_lottery.store.files import new_folder, replacing, write_json, write_json_lines
from ks_lottery.store.ownership import check_not_input, check_replaceable, kind_of
from ks_lottery.store.workspace import is_workspace, workspace

OURS = {"kind": "tickets", "format": 1}


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_the_kind_of_a_file_is_what_it_says(tmp_path, make_scan):
    ids = np.arange(3)
    RowPatch(ids, torch.zeros(3, 2), {"name": "x", "fingerprint": "y"}).save(tmp_path)
    Tickets(rows=ids, rule={}).save(tmp_path / "t.json")
    make_scan([1, 2], 4).save(tmp_path / "s.parquet")
    write_json_lines(tmp_path / "h.jsonl", [{"source": "a", "reference": "b", "hypothesis": "c"}])
    (tmp_path / "theirs.json").write_text('{"a": 1}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "half.json").write_text('{"kind": "tickets"')
    (tmp_path / "text.txt").write_text("years of work")
    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "patch.safetensors": "row-patch", "t.json": "tickets", "s.parquet": "scan", "h.jsonl": "hypotheses",
        "theirs.json": None, "list.json": None, "half.json": None, "text.txt": None, "weights.safetensors": None,
    }  # fmt: skip


@pytest.mark.parametrize("content", ['{"a": 1}', "text", '{"kind": "scan", "format": 1}', "[]"])
def test_a_file_that_is_not_of_the_same_kind_is_never_overwritten(tmp_path, content):
    file = tmp_path / "f.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"f\.json exists and"):
        write_json(file, {**OURS, "rows": []})
    assert file.read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_an_artifact_of_the_same_kind_and_an_empty_file_are_overwritten(tmp_path):
    for before in ("", json.dumps(OURS)):
        (tmp_path / "f.json").write_text(before)
        write_json(tmp_path / "f.json", {**OURS, "rows": [1]})
        assert json.loads((tmp_path / "f.json").read_text())["rows"] == [1]


def test_devices_pipes_and_folders_are_refused_and_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", type(tmp_path)("/dev/null")):
        before = path.stat().st_mode
        with pytest.raises(UserError, match="give another file to write to"):
            check_replaceable(path, "tickets")
        with pytest.raises(UserError, match="give another file to write to"):
            write_json(path, {**OURS})
        assert path.stat().st_mode == before


def test_mode_and_link_stay_and_a_new_file_has_the_mode_of_the_umask(tmp_path, umask):
    target, link = tmp_path / "real.json", tmp_path / "link.json"
    write_json(target, {**OURS})
    assert mode(target) == 0o666 & ~umask
    target.chmod(0o600)
    link.symlink_to(target)
    write_json(link, {**OURS, "rows": [7]})
    assert link.is_symlink()
    assert mode(target) == 0o600
    assert json.loads(target.read_text())["rows"] == [7]
    with new_folder(tmp_path / "out") as folder:
        save_file({"a": torch.zeros(2)}, folder / "a.safetensors")
        (folder / "deep").mkdir()
        (folder / "deep" / "b").touch(mode=0o600)
    assert mode(tmp_path / "out") == 0o777 & ~umask
    assert {mode(path) for path in (tmp_path / "out").rglob("*") if path.is_file()} == {0o666 & ~umask}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", "no space left to write"),
        ("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0", "the disk may be full"),
        ("basic_ios::clear: iostream error", "the disk may be full"),  # torch.save at the end of its file
    ],
)
def test_a_library_that_cannot_write_is_one_sentence(error, said, tmp_path):
    def fail() -> None:
        with replacing(tmp_path / "a.safetensors"):
            raise RuntimeError(error)

    with pytest.raises(UserError, match=said):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_an_input_is_refused(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for out in (tmp_path / "a", tmp_path / "link", tmp_path / "." / "a"):
        with pytest.raises(UserError, match="`out` is .*, which is also `base`"):
            check_not_input(out, {"base": str(tmp_path / "a")}, stream=True)
    check_not_input(tmp_path / "b", {"base": str(tmp_path / "a"), "hub": "owner/model", "odd": "\0"}, stream=True)
    check_not_input("-", {}, stream=True)
    with pytest.raises(UserError, match="a folder is written"):
        check_not_input("/dev/stdout", {}, stream=False)


def test_only_the_workspaces_of_killed_processes_are_removed(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from ks_lottery.store.workspace import workspace\n"
        "with workspace(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", script, str(out)], check=False)
    killed = [path.name for path in tmp_path.iterdir()]
    assert len(killed) == 1
    assert is_workspace(killed[0])
    (tmp_path / ".out.mine").mkdir()
    with workspace(out) as first, workspace(out) as second:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".out.mine", first.name, second.name])
    assert [path.name for path in tmp_path.iterdir()] == [".out.mine"]
