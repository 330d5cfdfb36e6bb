"""The commands alike, explain and overlap, from a tuning to their tables, and what they refuse."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.stats import ks_2samp, rankdata

from ks_lottery import RowPatch, Scan, Tickets
from ks_lottery.cli.main import main


def printed(capfd, *command: str) -> str:
    capfd.readouterr()
    assert main(list(command)) == 0
    return capfd.readouterr().out


def fails(capfd, *command: str) -> str:
    capfd.readouterr()
    assert main(list(command)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def tuned(model, text, out, *more: str) -> None:
    flags = ["--dtype", "float32", "--learning-rate", "0.02", "--batch-size", "4", "--epochs", "2", "--out", str(out)]
    assert main(["tune", str(model), "--train", str(text), *flags, *more]) == 0


@pytest.fixture(scope="module")
def run(narrow_model, text_file, tmp_path_factory):
    """Embed tuning, its scan and tickets, partial tuning of those; over a base that is moved away afterwards."""
    folder = tmp_path_factory.mktemp("run")
    base = folder / "base"
    shutil.copytree(narrow_model, base)
    short = folder / "pairs.tsv"
    short.write_text("".join(text_file.read_text(encoding="utf-8").splitlines(keepends=True)[:24]), encoding="utf-8")
    tuned(base, short, folder / "embed", "--method", "embed")
    scan, tickets = str(folder / "scan.parquet"), str(folder / "tickets.json")
    assert main(["scan", str(base), str(folder / "embed"), "--quiet", "--out", scan]) == 0
    assert main(["select", scan, "--top-k", "20", "--out", tickets]) == 0
    assert main(["select", scan, "--top-k", "20", "--by", "kl", "--out", str(folder / "kl.json")]) == 0
    tuned(base, short, folder / "partial", "--method", "partial", "--tickets", tickets)
    corpus = folder / "mono.ca"
    corpus.write_text("La casa és vella\nEl gos menja al jardí\nLa casa és freda\n", encoding="utf-8")
    (folder / "gone").mkdir()
    base.rename(folder / "gone" / "base")
    return folder


def bare(file, out, **changes):
    """Copy a tickets file without its token strings."""
    content = json.loads(file.read_text(encoding="utf-8"))
    for row in content["rows"]:
        row.pop("token", None)
    out.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return str(out)


def test_alike_is_table_6(run, capfd, tmp_path):
    call = ["alike", str(run / "embed"), str(run / "partial"), "--tickets", str(run / "tickets.json")]
    file = tmp_path / "alike.json"
    content = json.loads(printed(capfd, *call, "--level", "0.9", "--json", "--out", str(file)))
    embed, partial = RowPatch.open(run / "embed"), RowPatch.open(run / "partial")
    pvalues = {
        int(row): ks_2samp(
            embed.values[embed.ids == row][0].numpy(), partial.values[partial.ids == row][0].numpy()
        ).pvalue
        for row in Tickets.open(run / "tickets.json").ids
    }
    assert {row["row"]: pytest.approx(row["pvalue"], rel=1e-9) for row in content["rows"]} == pvalues
    assert content["unchanged"] == pytest.approx(1 - sum(p < 0.9 for p in pvalues.values()) / 20)
    assert (content["alpha"], content["level"], content["own_tickets"]) == (None, 0.9, True)  # selected by --top-k
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert saved["kind"] == "compared-tunings"
    assert saved["made_from"]["embed"] == embed.content
    assert saved["rows"] == content["rows"]
    assert [row["count"] for row in content["rows"]] == sorted((row["count"] for row in content["rows"]), reverse=True)
    assert all(row["token"] for row in content["rows"])
    out = printed(capfd, *call, "--top", "3")
    assert "20 rows of the input embedding compared, 32 coordinates each" in out
    assert "... and 17 more that differ less" in out
    assert "Not compared" not in out


def test_alike_without_tickets_or_tokens_or_base(run, capfd):
    out = printed(capfd, "alike", str(run / "embed"), str(run / "partial"))
    more = len(RowPatch.open(run / "embed")) - 20
    assert f"Not compared: {more} that only the first patch changes." in out
    assert "token" not in out  # the base is gone, and with it the strings


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--level", "1.5"], "level is 1.5, but must be from 0 to 1"),
        (["--level", "-1"], "level is -1.0"),
        (["--level", "x"], "--level is 'x', but must be a number"),
        (["--alpha", "0.05", "0.5"], "--alpha is --level now"),
        (["--side", "output"], "--side output was asked for"),
        (["--top", "-1"], "top is -1"),
        (["--tickets", "nowhere.json"], "nowhere.json does not exist"),
    ],
)
def test_alike_refuses(run, capfd, tmp_path, flags, named):
    out = tmp_path / "out.json"
    assert named in fails(capfd, "alike", str(run / "embed"), str(run / "partial"), "--out", str(out), *flags)
    assert not out.exists()


def test_alike_refuses_other_patches(run, capfd, tmp_path):
    assert "holds no patch.safetensors" in fails(capfd, "alike", str(run / "embed"), str(tmp_path))
    embed = RowPatch.open(run / "embed")
    other = RowPatch(embed.ids, embed.values, {"name": "other", "fingerprint": "0" * 64})
    other.save(tmp_path / "other")
    assert "different bases" in fails(capfd, "alike", str(run / "embed"), str(tmp_path / "other"))
    embed.restrict(embed.ids[:0]).save(tmp_path / "none")
    assert "no row in common" in fails(capfd, "alike", str(run / "embed"), str(tmp_path / "none"))


def test_explain_is_table_3(run, capfd, tmp_path):
    file = tmp_path / "explain.json"
    call = [
        "explain",
        str(run / "tickets.json"),
        "--corpus",
        str(run / "mono.ca"),
        "--model",
        str(run / "gone" / "base"),
    ]
    content = json.loads(printed(capfd, *call, "--json", "--out", str(file)))
    scan, tickets = Scan.open(run / "scan.parquet"), Tickets.open(run / "tickets.json")
    assert [row["row"] for row in content["rows"]] == tickets.rows.tolist()
    strings = Tickets.tokens(run / "tickets.json")
    assert {row["row"]: row["token"] for row in content["rows"]} == strings
    from tokenizers import Tokenizer

    core = Tokenizer.from_file(str(run / "gone" / "base" / "tokenizer.json"))
    lines = (run / "mono.ca").read_text(encoding="utf-8").splitlines()
    often = np.bincount([i for line in lines for i in core.encode(line).ids], minlength=384)
    assert content["corpus"] == {"text": str(run / "mono.ca"), "sentences": 3, "tokens": int(often.sum())}
    for row in content["rows"]:
        assert row["frequency_rank"] == rankdata(-often)[row["row"]]
        assert row["ranks"]["kl"] == pytest.approx((rankdata(-scan.kl) / 384)[row["row"]])
        assert {"lca", "gradient"} <= set(row["ranks"])  # a run keeps them beside the scan
    assert content["agreement"]["frequency"]["shared"] == sum(
        row in np.argsort(-often, kind="stable")[:20] for row in tickets.rows
    )
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert saved["kind"] == "explanation"
    assert saved["agreement"] == content["agreement"]
    out = printed(capfd, *call, "--top", "4")
    assert "... and 16 more" in out
    assert f"among {often.sum()} tokens of 3 sentences" in out
    assert max(len(line) for line in out.splitlines() if "0." in line and "rank /" not in line) <= 100


def test_explain_without_a_text_needs_no_base(run, capfd):
    out = printed(capfd, "explain", str(run / "tickets.json"), "--scan", str(run / "scan.parquet"))
    assert "freq." not in out
    assert "lca" in out
    line = fails(capfd, "explain", str(run / "tickets.json"), "--corpus", str(run / "mono.ca"))
    assert "does not exist" in line
    assert "--model names a model" in line


def test_explain_leaves_a_foreign_attribution_beside_the_scan_out_and_says_so(run, capfd, tmp_path):
    for name in ("scan.parquet", "tickets.json"):
        shutil.copy(run / name, tmp_path / name)
    out = printed(capfd, "explain", str(tmp_path / "tickets.json"))
    assert "lca" not in out
    from ks_lottery import Attribution

    found = Attribution.open(run / "embed")
    (tmp_path / "embed").mkdir()
    Attribution(found.ids, found.scores, found.occurrences, {"patch": "0" * 64}).save(tmp_path / "embed")
    out = printed(capfd, "explain", str(tmp_path / "tickets.json"))
    assert "Without lca and gradient: " in out
    assert "attribution of another tuning" in out
    line = fails(capfd, "explain", str(tmp_path / "tickets.json"), "--attribution", str(tmp_path / "embed"))
    assert "attribution of another tuning" in line


def test_explain_refuses(run, capfd, tmp_path, tied_model):
    tickets, scan = str(run / "tickets.json"), str(run / "scan.parquet")
    alone = bare(run / "tickets.json", tmp_path / "alone.json")
    assert "no scan.parquet lies beside" in fails(capfd, "explain", alone)
    assert "does not exist" in fails(capfd, "explain", alone, "--scan", str(tmp_path / "no.parquet"))
    assert "is not a tickets" in fails(capfd, "explain", str(run / "embed" / "training.json"))
    other = bare(run / "tickets.json", tmp_path / "other.json", made_from={"base": {"fingerprint": "0" * 64}})
    assert "another base than the scan" in fails(capfd, "explain", other, "--scan", scan)
    assert "top is -2" in fails(capfd, "explain", tickets, "--top", "-2")
    assert "no tensor nope" in fails(capfd, "explain", tickets, "--tensor", "nope")
    assert "text file" in fails(
        capfd, "explain", tickets, "--corpus", "nothing.txt", "--model", str(run / "gone" / "base")
    )
    foreign = tmp_path / "foreign"
    shutil.copytree(tied_model, foreign)
    text = (foreign / "tokenizer.json").read_text(encoding="utf-8")
    (foreign / "tokenizer.json").write_text(text.replace('"</s>"', '"<end>"'), encoding="utf-8")
    line = fails(capfd, "explain", tickets, "--corpus", str(run / "mono.ca"), "--model", str(foreign))
    assert "row 2 is '</s>' in the scan and '<end>' in" in line


def test_overlap_is_table_8(run, capfd, tmp_path):
    a, b = Tickets.open(run / "tickets.json"), Tickets.open(run / "kl.json")
    names = [f"ca={run / 'tickets.json'}", f"kl={run / 'kl.json'}"]
    content = json.loads(printed(capfd, "overlap", *names, "--json"))
    both = sorted(set(a.rows.tolist()) & set(b.rows.tolist()))
    assert [row["row"] for row in content["in_all"]] == both
    assert content["pairs"][0]["shared"] == len(both) > 0
    assert (content["pairs"][0]["one"], content["pairs"][0]["other"]) == ("ca", "kl")
    assert content["by_sets"] == {"2": len(both), "1": 40 - 2 * len(both)}
    for row in content["rows"]:
        places = {n: t.rows.tolist().index(row["row"]) + 1 for n, t in (("ca", a), ("kl", b)) if row["row"] in t.rows}
        assert row["places"] == places
        assert row["token"] == {**Tickets.tokens(run / "tickets.json"), **Tickets.tokens(run / "kl.json")}[row["row"]]
    out = printed(capfd, "overlap", *names, "--top", "5")
    lines = out.splitlines()
    assert lines[0].split() == ["one", "other", "rows", "of", "one", "rows", "of", "other", "shared", "Jaccard"]
    assert lines[1].split() == ["ca", "kl", "20", "20", str(len(both)), f"{len(both) / (40 - len(both)):.3f}"]
    assert lines[3].split() == ["row", "token", "sets", "ca", "kl"]
    assert f"{len(both)} of {40 - len(both)} rows are in all 2 sets: {both[0]} " in out


def test_overlap_names_files_by_what_tells_them_apart(run, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ca", "de"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        bare(run / "tickets.json", tmp_path / "runs" / name / "tickets.json")
    out = printed(capfd, "overlap", "runs/ca/tickets.json", "runs/de/tickets.json")
    assert out.splitlines()[1].split()[:2] == ["runs/ca/tickets.json", "runs/de/tickets.json"]
    assert out.splitlines()[3].split() == ["row", "sets", "ca", "de"]  # no token strings, and no base to ask
    base = json.loads((tmp_path / "runs/ca/tickets.json").read_text(encoding="utf-8"))["made_from"]["base"]
    there = {"made_from": {"base": {**base, "name": str(run / "gone" / "base")}}}
    bare(run / "tickets.json", tmp_path / "runs/ca/tickets.json", **there)
    assert "token" in printed(capfd, "overlap", "runs/ca/tickets.json", "runs/de/tickets.json")


def test_overlap_of_one_set_is_refused(run, capfd):
    assert "Give the files of two sets or more" in fails(capfd, "overlap", str(run / "tickets.json"))


def test_overlap_refuses_other_bases_unless_forced(run, capfd, tmp_path):
    mine = str(run / "tickets.json")
    other = bare(run / "tickets.json", tmp_path / "other.json", made_from={"base": {"fingerprint": "0" * 64}})
    line = fails(capfd, "overlap", mine, f"other={other}")
    assert "are tickets of different bases" in line
    assert "--force" in line
    assert "1.000" in printed(capfd, "overlap", mine, other, "--force")
    silent = bare(run / "tickets.json", tmp_path / "silent.json", made_from={})
    said = f"{silent} does not record the fingerprint of its base, so it was not checked"
    assert said in printed(capfd, "overlap", mine, silent)
    assert "is not the name of a set" in fails(capfd, "overlap", f"={mine}")
    assert "two sets are called x" in fails(capfd, "overlap", f"x={mine}", f"x={other}")
    assert "does not exist" in fails(capfd, "overlap", "x=nothing.json", mine)
    assert "top is -1" in fails(capfd, "overlap", f"x={mine}", f"y={mine}", "--top", "-1")
