"""A frozen body in 4 bits: what is quantised, and that rows and LoRA train over it as over its dequantised values."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from ks_lottery import Corpus, Tickets, open_checkpoint, read_corpus, tune
from ks_lottery.corpus.batches import collate, encode
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model
from ks_lottery.models.quantized import quantization_config
from ks_lottery.tuning.tune import TuneSpec, prepare

bnb = pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def corpus(text_file) -> Corpus:
    return read_corpus(text_file, source_language="en", target_language="ca").head(8)


@pytest.fixture(scope="module")
def quantised(untied_model):
    how = quantization_config("nf4", torch.float32)
    return load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu", quantization=how)


def hashes(lm) -> dict[str, str]:
    return {name: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for name, t in lm.state_dict().items()}


def test_every_matrix_of_the_body_is_nf4_with_double_quantisation(quantised):
    layers = [m for m in quantised.lm.model.layers.modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert isinstance(layer, bnb.nn.Linear4bit)
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
    assert quantised.lm.get_input_embeddings().weight.dtype == torch.float32


def test_loss_and_row_gradients_are_those_of_the_dequantised_values(quantised, corpus):
    from ks_lottery.models.sides import installed_rows

    plain = load_model(quantised.checkpoint, dtype="float32", device="cpu")
    for name, module in quantised.lm.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            wide = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.lm.get_submodule(name).weight.data.copy_(wide.float())
    batch = collate([e.features() for e in encode(plain.tokenizer, corpus)[0]])
    ids, found = np.array([5, 7, 40]), []
    for one in (quantised, plain):
        with installed_rows(one.lm, ids, one.checkpoint.rows(ids)) as rows:
            loss = LabelledLanguageModel(one.lm)(**batch)["loss"]
            found.append((loss.detach(), torch.autograd.grad(loss, rows.rows)[0]))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-4)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-2, atol=1e-4 * float(found[1][1].abs().max()))


@pytest.mark.parametrize("method", ["qlora", "partial", "prefix"])
def test_methods_over_four_bits_train_and_leave_the_body_alone(untied_model, corpus, method):
    tickets = Tickets(rows=np.array([5, 7, 40, 41]), rule={}) if method == "partial" else None
    settings = {"epochs": 20, "batch_size": 8, "learning_rate": 0.02}
    spec = TuneSpec(method=method, tickets=tickets, quantize="nf4", dtype="float32", device="cpu", settings=settings)
    tuning = prepare(open_checkpoint(str(untied_model)), corpus, spec)
    before = hashes(tuning.loaded.lm)
    result = tuning.run()
    assert hashes(tuning.loaded.lm) == before
    assert result.losses[-1][1] < result.losses[0][1]
    assert result.product.settings["quantize"] == "nf4"
    if method == "qlora":
        assert result.product.parameters == 2 * 16 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32))


def test_a_qlora_adapter_loads_in_peft_over_the_same_four_bits(quantised, corpus, tmp_path):
    from peft import PeftModel

    adapter = tune(quantised.checkpoint, corpus, method="qlora", epochs=20, batch_size=8, learning_rate=0.02)
    adapter.save(tmp_path / "adapter")
    batch = collate([e.features() for e in encode(quantised.tokenizer, corpus)[0]])
    with torch.no_grad():
        before = LabelledLanguageModel(quantised.lm)(**batch)["loss"]
        adapted = PeftModel.from_pretrained(quantised.lm, str(tmp_path / "adapter")).eval()
        after = LabelledLanguageModel(quantised.lm)(**batch)["loss"]
        adapted.unload()
    assert after < before - 0.1
