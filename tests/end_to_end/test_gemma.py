"""A tiny Gemma 3 as an embedded model in parts: from the index to every command, with its scale, its BOS and its terms."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from local_index import in_parts, offer
from peft import PeftModel
from tiny_gemma import write_gemma
from transformers import AutoModelForCausalLM

import ks_lottery
from ks_lottery import RowPatch, Scan, load_model, read_corpus
from ks_lottery.cli.main import main
from ks_lottery.corpus.batches import encode
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch
from ks_lottery.store.embedded_models import EMBEDDED_MODELS

NAME = "asset:tiny-gemma"
TRAINING = ["--learning-rate", "0.05", "--epochs", "1", "--template", "plain", "--limit", "48"]
RUN = [
    "--train.learning-rate", "0.2", "--train.epochs", "1", "--evaluate.translations", "2", "--evaluate.num-beams", "2",
    "--evaluate.max-new-tokens", "4", "--evaluate.resamples", "100", "--certify.alphas", "[0.5, 1.0]", "--text.min-pairs", "50",
    "--text.template", "plain",
]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ks_lottery.errors.AssetNotice")]


@pytest.fixture(scope="module")
def patching():
    with pytest.MonkeyPatch.context() as patching:
        yield patching


@pytest.fixture(scope="module")
def written(tmp_path_factory, text_file, patching):
    """The model of transformers whose file is offered in parts."""
    place = tmp_path_factory.mktemp("gemma")
    model = write_gemma(place / "model.gguf", [text_file.read_text(encoding="utf-8"), "Translate.:"])
    offer(place / "index", place / "cache", patching)
    patching.setitem(EMBEDDED_MODELS, NAME, in_parts(place / "index", (place / "model.gguf").read_bytes(), 4))
    return model


@pytest.fixture(scope="module")
def accepted(written):
    """The model before its terms are accepted; `tuned` accepts them with the first command, and nothing later has to."""
    with pytest.raises(ks_lottery.UserError, match="--accept-license"):
        load_model(NAME)
    return written


@pytest.fixture(scope="module")
def tuned(accepted, text_file, tmp_path_factory):
    """Patch folders by method, of the command."""
    place = tmp_path_factory.mktemp("tuned")
    methods = {
        "embed": [],
        "partial": ["--by", "template", "--size", "6"],
        "lora": [],
        "prompt": [],
        "token-prompt": ["--tokens", "8"],
    }
    for number, (method, more) in enumerate(methods.items()):
        words = ["tune", NAME, "--method", method, "--train", str(text_file), "--out", str(place / method)]
        once = ["--accept-license"] if number == 0 else []
        assert main([*words, *TRAINING, *more, *once]) == 0
    return place


@pytest.fixture(scope="module")
def loaded(tuned):
    return load_model(NAME, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def ran(tuned, text_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    assert main(["run", "--model.name", NAME, "--text.train", str(text_file), "--out", str(out), *RUN]) == 0
    return out


def test_the_loaded_model_is_the_one_that_was_written(loaded, accepted):
    """Norms, scale of the embedding, rotary bases and layer types survive GGUF: the logits are those of transformers."""
    tokens = torch.tensor([loaded.tokenizer("The house is old <unused7> í")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(loaded.lm(tokens).logits, accepted(tokens).logits)


def test_the_tokenizer_begins_with_bos_once_and_knows_its_reserve(loaded, text_file):
    ids = loaded.tokenizer("The <unused7>é")["input_ids"]
    names = loaded.tokenizer.convert_ids_to_tokens(ids)
    assert names == ["<bos>", "T", "h", "e", "▁", "<unused7>", "é"]
    pairs = read_corpus(text_file, source_language="en", target_language="ca")
    for example in encode(loaded.tokenizer, pairs, template="<bos>{instruction} {source}\n")[0][:5]:
        assert list(example.sequence).count(2) == 1
        assert example.prompt[0] == 2
        assert example.response[-1] == 1
        assert 1 not in example.prompt


def test_row_gradients_carry_the_scale(loaded, text_file):
    """Rows are looked up and multiplied by sqrt(d): the gradient of a row against autograd on the whole matrix."""
    whole = read_corpus(text_file, source_language="en", target_language="ca")
    corpus = replace(whole, pairs=whole.pairs[:8])
    attribution = ks_lottery.row_gradients(loaded, corpus, template="plain", batch_size=8)
    examples, _ = encode(loaded.tokenizer, corpus, template="plain")
    weight = loaded.lm.get_input_embeddings().weight
    weight.requires_grad_(requires_grad=True)
    untied = weight.detach().clone()
    total = torch.zeros_like(untied)
    try:
        for example in examples:
            tokens = torch.tensor([example.sequence])
            hidden = loaded.lm.model(tokens).last_hidden_state[0]
            logits = hidden @ untied.T  # the head keeps the base values
            first = len(example.prompt) - 1
            loss = torch.nn.functional.cross_entropy(logits[first:-1], torch.tensor(example.response), reduction="sum")
            total += torch.autograd.grad(loss, weight)[0]
    finally:
        weight.requires_grad_(requires_grad=False)
    wanted = total[torch.from_numpy(attribution.ids)].norm(dim=1).numpy()
    np.testing.assert_allclose(attribution.scores["gradient-sum"], wanted, rtol=2e-3, atol=1e-5)


def test_methods_train_what_they_say(tuned, loaded):
    reached = RowPatch.open(tuned / "embed")
    assert 0 not in reached.ids
    assert 2 in reached.ids  # the BOS is a row like any other
    assert len(RowPatch.open(tuned / "partial")) == 6
    reserve = loaded.tokenizer.convert_tokens_to_ids([f"<unused{number}>" for number in range(120)])
    prompt = RowPatch.open(tuned / "token-prompt")
    assert len(prompt) == 8
    assert set(prompt.ids.tolist()) <= set(reserve)
    about = json.loads((tuned / "partial" / "manifest.json").read_text())
    assert "Terms of Use of Tiny of 2026-01-01" in about["made_from"]["base"]["license"]


def test_scan_and_select(tuned, tmp_path, capfd):
    assert main(["scan", NAME, str(tuned / "embed"), "--alpha", "1", "--out", str(tmp_path / "scan.parquet")]) == 0
    scan = Scan.open(tmp_path / "scan.parquet")
    patch = RowPatch.open(tuned / "embed")
    assert set(np.flatnonzero(scan.moved).tolist()) <= set(patch.ids.tolist())
    assert scan.moved.sum() > 0
    words = ["select", str(tmp_path / "scan.parquet"), "--top-k", "5", "--out", str(tmp_path / "tickets.json")]
    assert main(words) == 0
    assert len(json.loads((tmp_path / "tickets.json").read_text())["rows"]) == 5


@pytest.mark.parametrize("method", ["embed", "partial", "lora", "prompt", "token-prompt"])
def test_evaluate(tuned, text_file, tmp_path, method):
    made = "--adapter" if method in {"lora", "prompt"} else "--patch"
    words = ["evaluate", NAME, made, str(tuned / method), "--data", str(text_file), "--limit", "6", "--metrics", "chrf",
             "accuracy", "--num-beams", "2", "--max-new-tokens", "4", "--out", str(tmp_path / "out")]  # fmt: skip
    template = [] if method == "token-prompt" else ["--template", "plain"]
    if method == "token-prompt":
        template = ["--template", str(RowPatch.open(tuned / method).settings["template"])]
    assert main([*words, *template]) == 0
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["ended"]["outputs"] == 6


def test_where(tuned, text_file, capfd):
    words = [
        "where",
        NAME,
        "--patch",
        str(tuned / "partial"),
        "--data",
        str(text_file),
        "--limit",
        "6",
        "--template",
        "plain",
    ]
    assert main([*words, "--resamples", "50", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)


def test_run_certifies_and_translates(ran, capfd):
    summary = json.loads((ran / "summary.json").read_text())
    assert summary["certificate"]["transfer"]["levels"]
    assert summary["methods"]["embed"]["loss"] < summary["methods"]["original"]["loss"]
    capfd.readouterr()
    assert main(["translate", str(ran), "The house is old", "--compare"]) == 0
    assert len(capfd.readouterr().out.splitlines()) >= 2


@pytest.mark.parametrize("method", ["embed", "partial", "token-prompt"])
def test_exports_answer_like_the_patch_and_bring_the_terms(tuned, loaded, tmp_path, method):
    patch = RowPatch.open(tuned / method)
    tokens = torch.tensor([[2, *patch.ids[:9].tolist(), 300, 301]])
    with torch.no_grad():
        base = loaded.lm(tokens).logits.clone()
        with installed_patch(loaded.lm, patch):
            wanted = loaded.lm(tokens).logits.clone()
    assert not torch.allclose(base, wanted)
    for to, exact in (("merged", ["--dtype", "float32"]), ("peft", [])):
        assert main(["export", str(tuned / method), "--to", to, "--out", str(tmp_path / to), *exact]) == 0
        card = (tmp_path / to / "README.md").read_text()
        assert "license: gemma" in card
        assert "Tiny is provided under its terms" in (tmp_path / to / "NOTICE").read_text()
        assert (tmp_path / to / "TERMS.html").read_bytes().startswith(b"<html>")
    with quiet(), torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        plain = AutoModelForCausalLM.from_pretrained(loaded.checkpoint.folder, dtype=torch.float32).eval()
        adapted = PeftModel.from_pretrained(plain, tmp_path / "peft").eval()
        torch.testing.assert_close(merged(tokens).logits, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(adapted(input_ids=tokens).logits, wanted, rtol=1e-4, atol=1e-4)
