"""`select` by what the embed tuning of a run recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from running import fails

from ks_lottery.cli.main import main


def test_select_by_attribution(finished, text_file, tmp_path, capfd):
    out, call = str(tmp_path / "t.json"), ["select", str(finished / "scan.parquet"), "--top-k", "9"]
    written = {}
    for name, more in {
        "found": ["--by", "lca"],
        "named": ["--by", "lca", "--attribution", str(finished / "embed")],
        "tuned": ["--by", "gradient"],
        "original": ["--by", "gradient", "--corpus", str(text_file)],
        "summed": ["--by", "gradient-sum", "--corpus", str(text_file)],
        "template": ["--by", "template", "--corpus", str(text_file)],
    }.items():
        assert main([*call, *more, "--out", out]) == 0
        written[name] = json.loads(Path(out).read_text())
    rows = {name: [row["row"] for row in about["rows"]] for name, about in written.items()}
    assert rows["found"] == rows["named"] != rows["tuned"]
    for name, by in (("found", "lca"), ("tuned", "gradient")):
        wanted = [row["row"] for row in json.loads((finished / by / "rows.json").read_text())["rows"]]
        assert rows[name][: len(wanted)] == wanted[:9]
        assert len(rows[name]) == 9
    assert written["original"]["settings"] == {
        "selector": "gradient", "size": 9, "measured": "original model", "batch_size": 8,
    }  # fmt: skip
    assert len(set(rows["original"])) == len(set(rows["summed"])) == len(set(rows["template"])) == 9
    assert written["summed"]["settings"]["selector"] == "gradient-sum"
    most = [row["occurrences"] for row in written["template"]["rows"]]
    assert most == sorted(most, reverse=True)
    falling = [row["gradient"] for row in written["original"]["rows"]]
    assert falling == sorted(falling, reverse=True)
    capfd.readouterr()


def test_select_by_attribution_refuses(finished, tied_model, text_file, tmp_path, capfd):
    out, scan = ["--out", str(tmp_path / "t.json")], str(finished / "scan.parquet")
    lca = ["select", scan, "--by", "lca"]
    assert "give --top-k" in fails(capfd, *lca, "--alpha", "0.1", *out)
    assert "give --attribution" in fails(capfd, *lca, "--top-k", "3", "--corpus", str(text_file), *out)
    line = fails(capfd, *lca, "--top-k", "3", "--attribution", str(finished / "partial"), *out)
    assert "holds no attribution.parquet" in line
    both = ["--attribution", str(finished / "embed"), "--corpus", str(text_file)]
    assert "not both" in fails(capfd, "select", scan, "--by", "gradient", "--top-k", "3", *both, *out)
    alone = tmp_path / "alone.parquet"
    shutil.copy(scan, alone)
    assert "needs --attribution, the record" in fails(capfd, "select", str(alone), "--by", "lca", "--top-k", "3", *out)
    other = tmp_path / "other.parquet"
    assert main(["scan", str(tied_model), str(finished / "partial"), "--quiet", "--out", str(other)]) == 0
    line = fails(
        capfd, "select", str(other), "--by", "lca", "--top-k", "3", "--attribution", str(finished / "embed"), *out
    )
    assert "another tuning" in line
    assert not (tmp_path / "t.json").exists()
