"""The report: which nouns it opens, what it refuses, and that it loads no model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ks_lottery.cli.main import main
from ks_lottery.errors import UserError
from ks_lottery.recipes.page import default_out, page_of, write_report

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def scan_file(make_scan, tmp_path):
    file = tmp_path / "scan.parquet"
    make_scan([0, 3, 9, 20, 31], 32).save(file, ["'a'", "' b'", "'c'", "'дом'", "'1'"])
    return file


def test_a_report_loads_neither_torch_nor_transformers(scan_file):
    code = (
        "import sys\nfrom ks_lottery.cli.main import main\n"
        f"assert main(['report', {str(scan_file)!r}]) == 0\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'altair')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (scan_file.parent / "scan-report.html").is_file()


@pytest.mark.parametrize("folder", sorted(folder.name for folder in RESULTS.iterdir() if folder.name != "cells"))
def test_the_committed_results_have_their_tables(folder):
    page = page_of([RESULTS / folder])
    tables = [item.section for part in page.articles[0].parts for item in part.items if item.kind == "table"]
    rows = [len(section.rows) for section in tables if section.rows]
    recipe = folder.partition("-")[0]
    files = sorted((RESULTS / folder).glob("*.csv"), key=lambda file: int(file.stem.rpartition("-")[2]))
    assert rows[: len(files)] == [len(file.read_text().splitlines()) - 1 for file in files]
    assert recipe in page.articles[0].title


def test_only_a_report_is_overwritten(scan_file, tmp_path):
    out = write_report([scan_file], tmp_path / "page.html")
    before = out.read_bytes()
    assert write_report([scan_file], out).read_bytes() == before  # the same content, the same bytes
    other = tmp_path / "mine.html"
    other.write_text("<!doctype html><p>mine</p>")
    for file in (other, scan_file):
        content = file.read_bytes()
        with pytest.raises(UserError, match="give another file to write to"):
            write_report([scan_file], file)
        assert file.read_bytes() == content


def test_what_has_no_report_is_refused_in_one_line(tmp_path, capfd):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.json").write_text(json.dumps({"kind": "recipe of soup"}))
    (tmp_path / "b.txt").write_text("text")
    for name, said in (
        ("folder", "holds nothing"),
        ("a.json", "recipe of soup"),
        ("b.txt", "unknown"),
        ("none", "does not exist"),
    ):
        assert main(["report", str(tmp_path / name)]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert said in line
    with pytest.raises(UserError, match="`paths` is empty"):
        page_of([])


def test_a_damaged_file_is_named(scan_file):
    scan_file.write_bytes(scan_file.read_bytes()[:-20])
    with pytest.raises(UserError, match=re.escape(str(scan_file))):
        page_of([scan_file])


def test_where_a_report_is_written(tmp_path, scan_file):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{}")
    assert default_out([run]) == run / "report.html"
    assert default_out([scan_file]) == scan_file.with_name("scan-report.html")
    (tmp_path / "scores").mkdir()
    assert default_out([tmp_path / "scores"]) == tmp_path / "scores-report.html"
    assert default_out([run, scan_file]) == Path("report.html")
