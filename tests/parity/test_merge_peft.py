"""Merged exports of adapters against PEFT's merge_and_unload, and the type and size in which models are written."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ks_lottery import UserError, read_corpus, to_merged, to_peft, tune
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.cli.main import main
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.quiet import quiet

TOKENS = torch.tensor([[1, 5, 77, 300, 9, 301], [5, 5, 6, 0, 301, 2]])


def peft_merged(base, adapter):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()


def loaded_from(folder, **more):
    from transformers import AutoModelForCausalLM

    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, **more)


def lora(base, text_file, method="lora"):
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=24)
    loaded = load_model(base, dtype="float32", device="cpu")
    return tune(loaded, text, method=method, learning_rate=3e-2, epochs=1)


def types_of(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118 (not a dict)


@pytest.mark.parametrize("fixture", ["tied_model", "untied_model"])
def test_a_merged_lora_answers_like_pefts(fixture, text_file, tmp_path, request):
    base = request.getfixturevalue(fixture)
    adapter = lora(base, text_file)
    adapter.save(tmp_path / "adapter")
    to_merged(base, tmp_path / "adapter", tmp_path / "merged")
    to_merged(base, adapter, tmp_path / "from-memory")
    with torch.inference_mode():
        wanted = peft_merged(base, tmp_path / "adapter")(TOKENS).logits
        original = loaded_from(base, dtype=torch.float32)(TOKENS).logits
        for name in ("merged", "from-memory"):
            model = loaded_from(tmp_path / name, dtype=torch.float32)
            assert torch.allclose(model(TOKENS).logits, wanted, atol=1e-5)
            assert model.config.tie_word_embeddings is (fixture == "tied_model")
    assert not torch.allclose(original, wanted, atol=1e-2)


def test_other_kinds_of_adapters_are_merged_like_pefts(untied_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=3, lora_alpha=7, task_type="CAUSAL_LM", target_modules=["embed_tokens", "lm_head", "down_proj"], use_rslora=True
    )  # fmt: skip
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(loaded_from(untied_model, dtype=torch.float32), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        model.save_pretrained(tmp_path / "adapter")
    to_merged(untied_model, tmp_path / "adapter", tmp_path / "merged")
    with torch.inference_mode():
        wanted = peft_merged(untied_model, tmp_path / "adapter")(TOKENS).logits
        assert torch.allclose(loaded_from(tmp_path / "merged", dtype=torch.float32)(TOKENS).logits, wanted, atol=1e-5)


@pytest.fixture
def patch(tied_model):
    checkpoint = open_checkpoint(tied_model)
    ids = np.array([5, 77, 301])
    return RowPatch(ids, torch.randn(3, 32, generator=torch.Generator().manual_seed(1)), checkpoint.describe())


@pytest.mark.parametrize(("dtype", "stored"), [("auto", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")])
def test_a_merged_model_has_the_type_that_is_asked_for(dtype, stored, tied_model, patch, tmp_path):
    told = []
    to_merged(tied_model, patch, tmp_path / "merged", dtype=dtype, tell=told.append)
    assert types_of(tmp_path / "merged") == {f"torch.{stored}"}
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == stored
    assert loaded_from(tmp_path / "merged", dtype="auto").dtype == getattr(torch, stored)
    wanted = loaded_from(tied_model, dtype=torch.float32).get_input_embeddings().weight.detach().clone()
    wanted[torch.from_numpy(patch.ids)] = patch.values
    merged = loaded_from(tmp_path / "merged", dtype=torch.float32).get_input_embeddings().weight
    assert torch.equal(merged, wanted.to(getattr(torch, stored)).float())
    (line,) = told
    assert f" parameters in {stored}" in line
    shown = int(line.rpartition(": ")[2].removesuffix(" kB")) * 1000
    assert shown == pytest.approx((tmp_path / "merged" / "model.safetensors").stat().st_size, rel=0.1)
    assert ("rounded to" in (tmp_path / "merged" / "README.md").read_text()) == (stored != "float32")


def test_a_base_from_a_gguf_file_is_written_in_16_bits(tied_model, patch, tmp_path):
    base = shutil.copytree(tied_model, tmp_path / "base")
    (base / "gguf.json").write_text('{"source": "m.gguf", "sha256": "0"}')
    told = []
    to_merged(base, patch, tmp_path / "merged", tell=told.append)
    assert types_of(tmp_path / "merged") == {"torch.bfloat16"}
    assert "the base is a GGUF file" in told[0]
    to_merged(base, patch, tmp_path / "float", dtype="float32")
    assert types_of(tmp_path / "float") == {"torch.float32"}
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("merged", "float")]
    assert sizes[1] / sizes[0] > 1.9


def test_the_command_merges_an_adapter_and_says_its_size_first(tied_model, text_file, tmp_path, capfd):
    lora(tied_model, text_file).save(tmp_path / "adapter")
    words = ["export", str(tmp_path / "adapter"), "--to", "merged", "--out", str(tmp_path / "merged")]
    assert main([*words, "--dtype", "bfloat16"]) == 0
    first, last = capfd.readouterr().out.splitlines()
    assert first.startswith("writing ")
    assert f"holds an adapter of {tied_model} (merged, " in last
    assert types_of(tmp_path / "merged") == {"torch.bfloat16"}
    assert main([*words, "--dtype", "float32"]) == 2  # another export than the one that is there
    assert main(["export", str(tmp_path / "adapter"), "--to", "peft", "--out", str(tmp_path / "x")]) == 2
    assert "is a PEFT adapter already" in capfd.readouterr().err
    assert main(["export", str(tmp_path / "merged"), "--to", "merged", "--out", str(tmp_path / "x")]) == 2
    assert "is a whole model already" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_merged_is_refused_in_words(tied_model, untied_model, text_file, tmp_path):
    lora(tied_model, text_file, "prefix").save(tmp_path / "prefix")
    with pytest.raises(UserError, match="of kind PREFIX_TUNING: its virtual tokens .* cannot be merged"):
        to_merged(tied_model, tmp_path / "prefix", tmp_path / "out")
    lora(tied_model, text_file).save(tmp_path / "lora")
    with pytest.raises(UserError, match="give the base that the adapter belongs to"):
        to_merged(untied_model, tmp_path / "lora", tmp_path / "out")
    (tmp_path / "run" / "partial").mkdir(parents=True)
    (tmp_path / "run" / "partial" / "patch.safetensors").touch()
    for write in (to_merged, to_peft):
        with pytest.raises(UserError, match="is a run folder: give one of its patches"):
            write(tied_model, tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
