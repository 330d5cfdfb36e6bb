"""What a scan compares with what: tensors by name, under another prefix, and what is left without a partner."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ks_lottery import RowPatch, Scan, UserError, open_checkpoint, scan
from ks_lottery.checkpoint.wrappers import WRAPPERS
from ks_lottery.cli.main import main
from ks_lottery.models.quiet import quiet
from ks_lottery.tickets.renaming import PREFIXES


@pytest.fixture(scope="module")
def tensors(untied_model):
    return load_file(untied_model / "model.safetensors")


def stored(folder, tensors, kind="llama"):
    folder.mkdir()
    save_file({name: t.clone().contiguous() for name, t in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


def command(capfd, *words):
    capfd.readouterr()
    code = main(["scan", *map(str, words)])
    out = capfd.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "base_model.model.model."])
def test_a_known_prefix_is_no_other_tensor(prefix, tensors, untied_model, tmp_path, capfd):
    tuned = {prefix + name: t.clone() for name, t in tensors.items()}
    tuned[prefix + "model.layers.1.self_attn.q_proj.weight"][3] += 1
    found = scan(untied_model, stored(tmp_path / "tuned", tuned), units="all", ignore_tokenizer=True)
    assert len(found.parts) == len(tensors)
    assert found.uncompared == []
    assert [(row["tensor"], row["row"]) for row in found.top(9)] == [("model.layers.1.self_attn.q_proj.weight", 3)]
    assert found.settings["matched"] == {name: prefix + name for name in tensors}
    _, out, _ = command(capfd, untied_model, tmp_path / "tuned", "--units", "all", "--ignore-tokenizer")
    assert f"{len(tensors)} tensors matched by name without prefix" in out


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_module_that_wraps_a_layer_or_the_embedding_is_no_other_tensor(wrapper, tensors, untied_model, tmp_path):
    tuned = {
        n.replace("layers.0.", f"layers.0.{wrapper}.").replace("embed_tokens.", f"embed_tokens.{wrapper}."): t.clone()
        for n, t in tensors.items()
    }
    tuned[f"model.embed_tokens.{wrapper}.weight"][7] += 1
    folder = stored(tmp_path / "tuned", tuned)
    assert scan(untied_model, folder, ignore_tokenizer=True).top(9)[0]["row"] == 7
    found = scan(untied_model, folder, units="all", ignore_tokenizer=True)
    assert (len(found.parts), found.uncompared) == (len(tensors), [])
    assert [(row["tensor"], row["row"]) for row in found.top(9)] == [("model.embed_tokens.weight", 7)]


def test_a_head_that_is_absent_is_not_compared_with_the_embedding(tensors, untied_model, tmp_path, capfd):
    folder = stored(tmp_path / "body", {n: t for n, t in tensors.items() if n != "lm_head.weight"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": False}))
    found = scan(untied_model, folder, units="all", ignore_tokenizer=True)
    assert (found.settings["only_in_base"], int((found.moved > 0).sum())) == (["lm_head.weight"], 0)
    with pytest.raises(UserError, match="body has no output embedding"):
        scan(untied_model, folder, units="output", ignore_tokenizer=True)
    code, _, err = command(capfd, untied_model, folder, "--units", "all", "--fail-above", "0.9", "--ignore-tokenizer")
    assert (code, "no verdict" in err) == (2, True)


def test_a_renamed_middle_as_of_transformers_is_matched(tensors, untied_model, tmp_path, capfd):
    tuned = {
        n if n == "lm_head.weight" else n.replace("model.", "model.language_model.", 1): t.clone()
        for n, t in tensors.items()
    }
    for name in tuned:
        if "q_proj" in name:
            tuned[name] += 1
    stored(tmp_path / "tuned", tuned)
    words = (untied_model, tmp_path / "tuned", "--units", "all", "--ignore-tokenizer", "--fail-above")
    assert command(capfd, *words, "0.9")[0] == 1
    assert "Nothing changed" not in command(capfd, *words, "1")[1]


def test_what_is_ambiguous_or_of_another_shape_is_not_matched(tensors, untied_model, tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    rest = {n: t for n, t in tensors.items() if n != name}
    two = {**rest, "module." + name: tensors[name], "transformer." + name: tensors[name]}
    found = scan(untied_model, stored(tmp_path / "two", two), units="all", ignore_tokenizer=True)
    assert found.uncompared == [name, "module." + name, "transformer." + name]
    other = {**rest, "module." + name: tensors[name][:-1]}
    found = scan(untied_model, stored(tmp_path / "other", other), units="all", ignore_tokenizer=True)
    assert found.uncompared == [name, "module." + name]


def test_no_verdict_while_tensors_stand_uncompared(tensors, untied_model, tmp_path, capfd):
    tuned = {("other." + n if "layers.0" in n else n): t for n, t in tensors.items()}
    stored(tmp_path / "tuned", tuned)
    words = (untied_model, tmp_path / "tuned", "--units", "all", "--ignore-tokenizer")
    number = sum("layers.0" in name for name in tensors)
    code, out, err = command(capfd, *words)
    assert (code, err) == (0, "")
    assert "Nothing changed." not in out
    assert "Nothing changed in what was compared." in out
    assert f"{number} tensors are only in the base model and not compared: model.layers.0." in out
    code, _, err = command(capfd, *words, "--fail-above", "1", "--quiet", "--out", tmp_path / "scan.parquet")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{2 * number} tensors not compared" in err
    assert "--fail-above has no verdict" in err
    assert len(Scan.open(tmp_path / "scan.parquet").uncompared) == 2 * number
    assert command(capfd, *words, "--fail-above", "1", "--tensors", "*layers.1*")[0] == 0
    tuned["model.norm.weight"] = tensors["model.norm.weight"] + torch.arange(32)
    stored(tmp_path / "moved", tuned)
    assert command(capfd, untied_model, tmp_path / "moved", *words[2:], "--fail-above", "0.5")[0] == 1


def test_one_tensor_of_another_shape_leaves_the_others_compared(tensors, untied_model, tmp_path, capfd):
    tuned = {name: t.clone() for name, t in tensors.items()}
    tuned["model.layers.0.mlp.up_proj.weight"] = tuned["model.layers.0.mlp.up_proj.weight"][:-2]
    tuned["model.layers.1.mlp.up_proj.weight"][5] -= 3
    stored(tmp_path / "tuned", tuned)
    found = scan(untied_model, tmp_path / "tuned", units="all", ignore_tokenizer=True)
    assert found.uncompared == ["model.layers.0.mlp.up_proj.weight"]
    assert len(found.parts) == len(tensors) - 1
    assert [(row["tensor"], row["row"]) for row in found.top(9)] == [("model.layers.1.mlp.up_proj.weight", 5)]
    words = (untied_model, tmp_path / "tuned", "--units", "all", "--ignore-tokenizer", "--fail-above", "1")
    code, out, err = command(capfd, *words)
    assert "1 tensor has another shape on each side and not compared: model.layers.0.mlp.up_proj.weight" in out
    assert (code, "1 tensor not compared" in err) == (2, True)


def test_tensors_of_integers_count_as_compared_when_their_bytes_are_the_same(tensors, tmp_path):
    codes = torch.arange(64, dtype=torch.int8).reshape(8, 8)
    base = stored(
        tmp_path / "base",
        {**tensors, "a.relative_index": codes, "b.relative_index": codes, "rotary_emb.inv_freq": torch.ones(4)},
    )
    tuned = stored(
        tmp_path / "tuned",
        {**tensors, "a.relative_index": codes, "b.relative_index": codes + 1, "c.position_ids": codes},
    )
    assert scan(base, base, units="all").uncompared == []
    assert scan(base, tuned, units="all").uncompared == ["b.relative_index"]
    torch.save({**tensors, "a.relative_index": codes, "b.relative_index": codes.int()}, tmp_path / "tuned.bin")
    assert scan(base, tmp_path / "tuned.bin", units="all").uncompared == ["b.relative_index"]


def test_a_mask_that_old_versions_saved_is_no_weight(tensors, tmp_path):
    base = stored(
        tmp_path / "base", {**tensors, "h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.0.attn.masked_bias": torch.ones(())}
    )
    assert scan(base, stored(tmp_path / "tuned", tensors), units="all").uncompared == []
    base = stored(tmp_path / "biased", {**tensors, "h.0.attn.bias": torch.ones(4)})
    assert scan(base, tmp_path / "tuned", units="all").uncompared == ["h.0.attn.bias"]


@pytest.mark.parametrize("swap", [False, True])
def test_a_head_that_one_side_ties_is_compared_with_the_embedding(tensors, swap, tmp_path):
    tied = {name: t for name, t in tensors.items() if name != "lm_head.weight"}
    sides = [stored(tmp_path / "tied", tied), stored(tmp_path / "untied", tensors)]
    found = scan(*(sides[::-1] if swap else sides), units="all")
    assert found.uncompared == []
    embedding, head = tensors["model.embed_tokens.weight"], tensors["lm_head.weight"]
    wanted = np.flatnonzero((embedding != head).any(dim=1).numpy())
    np.testing.assert_array_equal(np.flatnonzero(found.only("lm_head.weight").moved), wanted)


def lora(folder, out, *modules, zero=False, **more):
    with quiet():
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=2, target_modules=list(modules), **more)
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name and not zero:
                parameter.data += 1
        model.save_pretrained(out)
    return out


def test_what_an_adapter_changes_elsewhere_is_said(untied_model, tmp_path, capfd):
    adapter = lora(untied_model, tmp_path / "adapter", "q_proj", "v_proj")
    assert (
        "The embedding did not change; 4 other tensors did: --units all compares them."
        in command(capfd, untied_model, adapter)[1]
    )
    assert scan(untied_model, adapter, units="all").settings["elsewhere"] == 0
    idle = lora(untied_model, tmp_path / "idle", "q_proj", zero=True)
    assert "Nothing changed.\n" in command(capfd, untied_model, idle)[1]
    saved = lora(untied_model, tmp_path / "saved", "q_proj", zero=True, modules_to_save=["lm_head"])
    assert scan(untied_model, saved).settings["elsewhere"] == 0
    (section,) = scan(untied_model, adapter).sections()[1:]
    assert section.sentences[-1].endswith("did: `units=all` compares them.")


def test_what_a_patch_changes_on_the_other_side_is_said(untied_model):
    checkpoint = open_checkpoint(untied_model)
    ids = np.array([3, 8])
    rows = {side: checkpoint.rows(ids, side=side) for side in ("input", "output")}
    patch = RowPatch(ids, rows["input"], checkpoint.describe(), side="both", output_values=rows["output"] + 1)
    found = scan(checkpoint, patch)
    assert not found.moved.any()
    assert found.settings["elsewhere"] == 1


def test_nothing_in_common_is_refused(tensors, untied_model, tmp_path):
    with pytest.raises(UserError, match="no tensor is in both"):
        scan(
            untied_model,
            stored(tmp_path / "a", {f"x.{n}": t for n, t in tensors.items()}),
            units="all",
            ignore_tokenizer=True,
        )
    cut = {n: torch.cat([t, t], dim=-1) for n, t in tensors.items()}
    with pytest.raises(UserError, match="cannot be compared unit by unit"):
        scan(untied_model, stored(tmp_path / "b", cut), units="all", ignore_tokenizer=True)
