"""The commands scan, select and overlap, on small checkpoints of every kind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import ks_2samp, rankdata

from ks_lottery import Scan, Tickets, open_checkpoint, scan, select
from ks_lottery.cli.main import main
from ks_lottery.models.quiet import quiet


@pytest.fixture(scope="module")
def tuned(tied_model, tmp_path_factory):
    """Rows 10 to 39 moved, more and more; one matrix row and one vector moved too."""
    folder = tmp_path_factory.mktemp("tuned") / "model"
    shutil.copytree(tied_model, folder)
    tensors = load_file(folder / "model.safetensors")
    noise = torch.randn(30, 32, generator=torch.Generator().manual_seed(0))
    tensors["model.embed_tokens.weight"][10:40] += noise * torch.linspace(0.01, 2, 30).unsqueeze(1)
    tensors["model.layers.1.mlp.up_proj.weight"][3] += 5
    tensors["model.norm.weight"] *= 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def saved(tied_model, tuned, tmp_path_factory):
    file = tmp_path_factory.mktemp("scan") / "scan.parquet"
    assert main(["scan", str(tied_model), str(tuned), "--quiet", "--out", str(file)]) == 0
    return file


def printed(capfd, *command: str) -> str:
    capfd.readouterr()
    assert main(list(command)) == 0
    return capfd.readouterr().out


def fails(capfd, *command: str) -> str:
    capfd.readouterr()
    assert main(list(command)) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_the_table_and_the_sentences(tied_model, tuned, capfd):
    out = printed(capfd, "scan", str(tied_model), str(tuned), "--top", "3")
    assert "384 units of 1 tensor, compared as float32; 30 moved." in out
    assert "pass p < 0.05 (D of 0.3438)" in out
    assert len([line for line in out.splitlines() if "e-0" in line]) == 3


def test_the_saved_table_holds_everything(tied_model, tuned, saved):
    table = pq.read_table(saved).to_pydict()
    names = ["tensor", "row", "token", "count", "statistic", "pvalue", "log_pvalue", "moved", "distance", "largest", "spread",
             "cos", "absolute", "absolute_signed", "relative", "ratio", "kl", "rank_ks", "rank_cos", "rank_absolute",
             "rank_absolute_signed", "rank_relative", "rank_ratio", "rank_kl"]  # fmt: skip
    assert set(names) <= set(table)
    before, after = (open_checkpoint(str(f)).rows(np.arange(384)).double().numpy() for f in (tied_model, tuned))
    for row in range(384):
        assert table["pvalue"][row] == pytest.approx(ks_2samp(before[row], after[row]).pvalue, rel=1e-9)
    absolute = np.abs(after - before).mean(axis=1)
    np.testing.assert_allclose(table["absolute"], absolute)
    np.testing.assert_allclose(table["rank_absolute"], rankdata(-absolute) / 384)
    signed = (after - before).mean(axis=1)
    np.testing.assert_allclose(table["absolute_signed"], signed, atol=1e-12)
    assert (signed < 0).any()  # the sign is kept: such a row is less important than one that did not move
    np.testing.assert_allclose(table["rank_absolute_signed"], rankdata(-signed.round(15)) / 384)
    np.testing.assert_allclose(table["rank_ks"], rankdata(-np.array(table["count"])) / 384)
    known = ~np.isnan(np.array(table["rank_relative"], dtype=float))
    assert known.sum() == 384
    np.testing.assert_array_equal(table["rank_relative"], table["rank_ratio"])
    assert table["tensor"][0] == "model.embed_tokens.weight"
    assert table["token"][2] == "'</s>'"


def test_json_is_one_object(tied_model, tuned, capfd):
    content = json.loads(printed(capfd, "scan", str(tied_model), str(tuned), "--json", "--top", "2", "--units", "all"))
    assert content["summary"]["rows_moved"] == 32
    assert content["summary"]["tensors"] > 10
    assert len(content["top"]) == 2
    assert {"tensor", "row", "token", "count", "statistic", "log_pvalue", "cos", "kl"} <= set(content["top"][0])


def test_units_and_globs(tied_model, tuned):
    every = scan(tied_model, tuned, units="all")
    rows = scan(tied_model, tuned, units="matrix-rows")
    vectors = {part.tensor for part in every.parts} - {part.tensor for part in rows.parts}
    assert vectors == {name for name in vectors if "norm" in name}
    assert "model.norm.weight" in vectors
    assert every.only("model.norm.weight").counts.tolist() == [32]
    mlp = scan(tied_model, tuned, units="all", tensors="*.mlp.*")
    moved = {part.tensor: np.flatnonzero(mlp.only(part.tensor).moved).tolist() for part in mlp.parts}
    assert {name: rows for name, rows in moved.items() if rows} == {"model.layers.1.mlp.up_proj.weight": [3]}
    assert len(moved) == 6


def test_nothing_is_never_said_barely(tied_model, tmp_path, capfd):
    said = printed(capfd, "scan", str(tied_model), str(tied_model))
    assert "The embedding did not change; nothing else was compared: --units all compares every tensor." in said
    assert "Nothing changed." in printed(capfd, "scan", str(tied_model), str(tied_model), "--units", "all")
    small = tmp_path / "small"
    shutil.copytree(tied_model, small)
    tensors = load_file(small / "model.safetensors")
    tensors["model.embed_tokens.weight"][1:] += 1e-2
    save_file(tensors, small / "model.safetensors", metadata={"format": "pt"})
    file = tmp_path / "scan.parquet"
    out = printed(capfd, "scan", str(tied_model), str(small), "--alpha", "0.01", "--out", str(file))
    assert "Nothing passes p < 0.01: the changes are too small for the test." in out
    factor = Scan.open(file).power(0.01)["needed"]
    shown = float(out.partition("If they were ")[2].partition(" times as large, one unit would pass. This factor")[0])
    assert factor <= shown <= 1.1 * factor
    before = load_file(tied_model / "model.safetensors")["model.embed_tokens.weight"].double()
    after = before + factor * (tensors["model.embed_tokens.weight"].double() - before)
    pvalues = [ks_2samp(x.numpy(), y.numpy()).pvalue for x, y in zip(before.float(), after.float(), strict=True)]
    assert min(pvalues) < 0.01


@pytest.mark.parametrize(
    ("flags", "named"), [(["--alpha", "1.5"], "alpha is 1.5, but must be from 0 to 1"), (["--top", "-1"], "top is -1")]
)
def test_scan_refuses(tied_model, tuned, tmp_path, capfd, flags, named):
    out = tmp_path / "scan.parquet"
    assert named in fails(capfd, "scan", str(tied_model), str(tuned), "--out", str(out), *flags)
    assert not out.exists()


def test_fail_above_and_quiet(tied_model, tuned, capfd):
    capfd.readouterr()
    assert main(["scan", str(tied_model), str(tuned), "--fail-above", "0.5", "--quiet"]) == 1
    assert main(["scan", str(tied_model), str(tuned), "--fail-above", "1.0", "--quiet"]) == 0
    assert main(["scan", str(tied_model), str(tied_model), "--fail-above", "0", "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert out == err == ""


def test_corrections(tied_model, tuned, capfd):
    counts = {}
    for name in ("none", "bonferroni", "holm", "bh"):
        content = json.loads(printed(capfd, "scan", str(tied_model), str(tuned), "--json", "--correction", name))
        counts[name] = content["summary"]["rows_passing"]
    assert counts["bonferroni"] <= counts["holm"] <= counts["bh"] <= counts["none"]
    assert 0 < counts["bonferroni"] < counts["none"]


def test_more_and_fewer_rows(tied_model, tuned, tmp_path, capfd):
    larger = tmp_path / "larger"
    shutil.copytree(tuned, larger)
    tensors = load_file(larger / "model.safetensors")
    weight = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat([weight, torch.ones(5, 32)])
    save_file(tensors, larger / "model.safetensors", metadata={"format": "pt"})
    out = printed(capfd, "scan", str(tied_model), str(larger))
    assert "5 rows are only in the tuned model and not compared: 384 '', 385 ''" in out
    alone = json.loads(printed(capfd, "scan", str(tied_model), str(larger), "--json"))["rows"]
    assert alone["only_in_base"] == []
    assert [row["row"] for row in alone["only_in_tuned"]] == [384, 385, 386, 387, 388]
    assert "5 rows are only in the base model" in printed(capfd, "scan", str(larger), str(tied_model))
    np.testing.assert_array_equal(scan(tied_model, larger).counts, scan(tied_model, tuned).counts)


def test_tokenizers_that_differ(tied_model, tuned, tmp_path, capfd):
    other = tmp_path / "other"
    shutil.copytree(tuned, other)
    text = (other / "tokenizer.json").read_text(encoding="utf-8")
    (other / "tokenizer.json").write_text(text.replace('"</s>"', '"<end>"'), encoding="utf-8")
    line = fails(capfd, "scan", str(tied_model), str(other))
    assert "mean different strings by 1 ids, the first of them 2 ('</s>' and '<end>')" in line
    assert "--ignore-tokenizer" in line
    assert printed(capfd, "scan", str(tied_model), str(other), "--ignore-tokenizer")
    for file in other.glob("tokenizer*"):
        file.unlink()
    assert printed(capfd, "scan", str(tied_model), str(other))  # no tokenizer: ids alone


def test_a_hub_id_from_the_local_cache(tied_model, tuned, tmp_path, monkeypatch, capfd):
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    snapshot = cache / "models--me--tuned" / "snapshots" / "abc123"
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(tuned, snapshot)
    (cache / "models--me--tuned" / "refs").mkdir()
    (cache / "models--me--tuned" / "refs" / "main").write_text("abc123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    content = json.loads(printed(capfd, "scan", str(tied_model), "me/tuned", "--json"))
    assert content["summary"]["rows_moved"] == 30
    assert "nor in the hub's cache, and HF_HUB_OFFLINE is set" in fails(capfd, "scan", str(tied_model), "me/other")


def test_shards_files_and_gguf_are_read(tied_model, tuned, tmp_path):
    from huggingface_hub import save_torch_state_dict

    shards = tmp_path / "shards"
    shards.mkdir()
    save_torch_state_dict(load_file(tuned / "model.safetensors"), shards, max_shard_size="20KB")
    assert len(list(shards.glob("*.safetensors"))) > 2
    wanted = scan(tied_model, tuned).counts
    for source in (shards, tuned / "model.safetensors"):
        np.testing.assert_array_equal(scan(tied_model / "model.safetensors", source).counts, wanted)


def test_damaged_files_are_named(tied_model, tuned, tmp_path, capfd):
    raw = (tuned / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])

    def broken(name: str, change) -> str:
        altered = json.loads(json.dumps(header))
        change(altered)
        text = json.dumps(altered).encode()
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
        return fails(capfd, "scan", str(tied_model), str(file))

    embedding, other = "model.embed_tokens.weight", "model.norm.weight"
    first = header[embedding]["data_offsets"][0] + 4
    offsets = [first, first + 32 * 4]
    line = broken("overlap", lambda h: h[other].update(data_offsets=offsets))
    assert "overlap.safetensors: tensor model.norm.weight overlaps model.embed_tokens.weight" in line
    assert "do not fit its shape" in broken("size", lambda h: h[embedding].update(shape=[384, 31]))
    assert "truncated" in broken(
        "long", lambda h: h[embedding].update(shape=[10**6, 32], data_offsets=[0, 128 * 10**6])
    )
    assert "cannot be read" in broken("kind", lambda h: h[embedding].update(dtype="F7"))
    assert "cannot be read" in broken("negative", lambda h: h[embedding].update(shape=[-384, -32]))
    outside = tmp_path / "outside"
    outside.mkdir()
    index = {"weight_map": {embedding: "../../etc/passwd"}}
    (outside / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "passwd" in fails(capfd, "scan", str(tied_model), str(outside))
    nan = tmp_path / "nan"
    shutil.copytree(tuned, nan)
    tensors = load_file(nan / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][4, 2] = torch.nan
    save_file(tensors, nan / "model.safetensors", metadata={"format": "pt"})
    line = fails(capfd, "scan", str(tied_model), str(nan), "--units", "all")
    assert "model.layers.0.mlp.up_proj.weight" in line
    assert "NaN in row 4" in line


def test_two_processes_make_the_same_file(tied_model, tuned, tmp_path):
    call = ["scan", str(tied_model), str(tuned), "--units", "all", "--out"]
    assert main([*call, str(tmp_path / "one.parquet"), "--quiet"]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "ks_lottery", *call, str(tmp_path / "two.parquet")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("By tensor:") == 1
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize(
    ("flags", "check"),
    [
        (["--alpha", "0.05"], lambda scan, t: (scan.pvalues[t.rows] < 0.05).all()),
        (["--interval", "0.05", "0.9"], lambda scan, t: ((scan.pvalues[t.rows] >= 0.05) & (scan.pvalues[t.rows] < 0.9)).all()),
        (["--top-k", "7"], lambda scan, t: t.rows.tolist() == scan.passing(1.0)[:7].tolist()),
        (["--top-k", "7", "--by", "kl"], lambda scan, t: t.rows.tolist() == np.argsort(-scan.kl, kind="stable")[:7].tolist()),
        (["--top-k", "7", "--by", "random", "--seed", "3"], lambda scan, t: len(set(t.rows.tolist())) == 7),
    ],
)  # fmt: skip
def test_select(saved, tmp_path, flags, check):
    assert main(["select", str(saved), *flags, "--out", str(tmp_path / "t.json")]) == 0
    tickets, found = Tickets.open(tmp_path / "t.json"), Scan.open(saved)
    assert len(tickets) > 0
    assert check(found, tickets)
    if "--interval" in flags:
        inside = (found.pvalues >= 0.05) & (found.pvalues < 0.9)
        assert len(tickets) == inside.sum()


def test_select_by_text(saved, text_file, tied_model, tmp_path):
    from collections import Counter

    from ks_lottery.models.load import load_tokenizer

    tokenizer = load_tokenizer(open_checkpoint(str(tied_model)))
    targets = [line.split("\t")[1] for line in text_file.read_text(encoding="utf-8").splitlines()]
    plain = tmp_path / "plain.txt"
    plain.write_text("\n".join(targets), encoding="utf-8")
    counts = Counter(i for t in targets for i in tokenizer(t)["input_ids"])
    wanted = sorted(range(384), key=lambda row: (-counts[row], row))[:12]
    for corpus in (text_file, plain):
        call = ["select", str(saved), "--top-k", "12", "--by", "frequency", "--corpus", str(corpus), "--out"]
        assert main([*call, str(tmp_path / "f.json")]) == 0
        assert Tickets.open(tmp_path / "f.json").rows.tolist() == wanted
    for by in ("occurrence", "random-reachable"):
        call = ["select", str(saved), "--top-k", "12", "--by", by, "--corpus", str(text_file), "--out"]
        assert main([*call, str(tmp_path / f"{by}.json")]) == 0
        assert len(Tickets.open(tmp_path / f"{by}.json")) == 12


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--by", "kl", "--alpha", "0.05"], "--top-k"),
        (["--by", "frequency", "--top-k", "3"], "needs a text of the target language to count tokens in (--corpus)"),
        (["--by", "random", "--alpha", "0.5"], "give --top-k, the number of rows"),
        (["--interval", "0.5", "0.1"], "--interval 0.5 0.1: LOW must be below HIGH"),
        (["--alpha", "1.5"], "alpha is 1.5"),
        (["--top-k", "-1"], "--top-k is -1"),
        (["--top-k", "3", "--tensor", "nope"], "no tensor nope"),
        (["--alpha", "0.1", "--top-k", "3"], "--top-k and --alpha exclude each other"),
    ],
)
def test_select_refuses(saved, tmp_path, capfd, flags, named):
    assert named in fails(capfd, "select", str(saved), *flags, "--out", str(tmp_path / "t.json"))
    assert not (tmp_path / "t.json").exists()


def test_tickets_train_in_peft(saved, tied_model):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    tickets = select(Scan.open(saved))
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tied_model), tickets.to_peft_config())
    trained = [tuple(p.shape) for p in model.parameters() if p.requires_grad]
    assert trained == [(len(tickets), 32)]


def test_one_folder_has_one_manifest_however_it_is_typed(tied_model, untied_model, tmp_path, monkeypatch):
    (tmp_path / "base").symlink_to(tied_model)
    monkeypatch.chdir(tmp_path)
    files: list[bytes] = []
    for number, base in enumerate(("base", "./base", str(tmp_path / "base"), "../" + tmp_path.name + "/base")):
        assert main(["scan", base, str(untied_model), "--out", f"{number}.parquet", "--quiet"]) == 0
        files.append((tmp_path / f"{number}.parquet").read_bytes())
    assert len(set(files)) == 1


def test_standard_output_has_the_file_alone(tied_model, untied_model, tmp_path, capfdbinary):
    call = ["scan", str(tied_model), str(untied_model), "--out"]
    assert main([*call, str(tmp_path / "a.parquet"), "--quiet"]) == 0
    capfdbinary.readouterr()
    for stream in ("-", "/dev/stdout"):
        assert main([*call, stream]) == 0
        assert capfdbinary.readouterr().out == (tmp_path / "a.parquet").read_bytes()


def test_an_output_never_replaces_an_input_or_a_file_of_somebody_else(tied_model, untied_model, tmp_path, capfd):
    weights = tmp_path / "base"
    shutil.copytree(tied_model, weights)
    (tmp_path / "thesis.txt").write_text("years of work")
    before = (weights / "model.safetensors").read_bytes()
    for out in (weights / "model.safetensors", tmp_path / "thesis.txt", "/dev/null", weights):
        assert main(["scan", str(weights), str(untied_model), "--out", str(out)]) == 2
        assert "ks-lottery: " in capfd.readouterr().err
    assert (weights / "model.safetensors").read_bytes() == before
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
