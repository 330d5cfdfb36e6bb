"""The embedded model and catalogs as they really are: SmolLM2-135M from its GGUF, and the text of four frameworks."""

from __future__ import annotations

import warnings

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import ks_2samp

from ks_lottery import RowPatch, keep_useful, open_checkpoint, scan, split, to_merged, to_peft, tune
from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.gettext import read_catalogs, usable_counts
from ks_lottery.evaluation.next_token import predict
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_rows
from ks_lottery.store.assets import catalog_files, catalog_root
from ks_lottery.store.embedded_models import model_gguf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded():
    return load_model(open_checkpoint(DEFAULT_MODEL), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def examples(loaded):
    corpus, _ = read_catalogs(catalog_files(), catalog_root(), target_language="ca")
    return encode(loaded.tokenizer, split(keep_useful(corpus)[0]).test)[0][:12]


@pytest.fixture(scope="module")
def patch(loaded, examples):
    ids = np.array(sorted({token for e in examples for token in e.response})[:40], dtype=np.int64)
    rows = loaded.checkpoint.rows(ids)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    return RowPatch(ids, rows + 0.1 * noise, loaded.checkpoint.describe())


def test_the_converted_model_holds_the_floats_of_the_gguf(loaded):
    """Against the gguf package's own dequantisation."""
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(model_gguf()).tensors}
    state = loaded.lm.state_dict()
    for theirs, ours in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight"),
        ("blk.29.attn_v.weight", "model.layers.29.self_attn.v_proj.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ):
        wanted = gguf.quants.dequantize(stored[theirs].data, stored[theirs].tensor_type)
        np.testing.assert_array_equal(state[ours].numpy(), wanted.reshape(state[ours].shape), theirs)


def test_the_default_checkpoint(loaded):
    checkpoint = loaded.checkpoint
    assert (checkpoint.vocabulary, checkpoint.width) == (49_152, 576)
    assert checkpoint.config["tie_word_embeddings"] is True
    assert torch.equal(checkpoint.rows(np.arange(500)), loaded.lm.get_input_embeddings().weight[:500])


def test_usable_pairs_by_language():
    counts = usable_counts(catalog_files(), catalog_root(), min_words=4)
    wanted = {"ca": 653, "de": 619, "es": 574, "ro": 552, "nb": 449, "pt": 291, "da": 270, "bs": 50}
    assert {language: counts[language] for language in wanted} == wanted


def test_the_shared_prefix_changes_nothing_but_rounding(loaded, examples):
    plain, shared = (
        predict(LabelledLanguageModel(loaded.lm, share_prefix=share), examples, batch_size=6) for share in (False, True)
    )
    np.testing.assert_allclose(shared.log_p, plain.log_p, atol=2e-4)
    np.testing.assert_array_equal(shared.first, plain.first)


def logits(model, examples) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(input_ids=torch.tensor([e.sequence])).logits[0] for e in examples[:4]])


def test_adapter_and_merged_folder_answer_like_ours(loaded, examples, patch, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with installed_rows(loaded.lm, patch.ids, patch.values):
        wanted = logits(loaded.lm, examples)
    assert (wanted - logits(loaded.lm, examples)).abs().max() > 0.1
    to_merged(loaded.checkpoint, patch, tmp_path / "merged", dtype="float32")
    to_peft(loaded.checkpoint, patch, tmp_path / "adapter")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        assert (logits(merged, examples) - wanted).abs().max() < 1e-4
        base = AutoModelForCausalLM.from_pretrained(loaded.checkpoint.folder, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
        assert (logits(adapted, examples) - wanted).abs().max() < 1e-4
    size = sum(file.stat().st_size for file in (tmp_path / "adapter").iterdir())
    assert size < 40 * 576 * 4 + 50_000


def test_a_float32_head_leaves_no_ties(examples):
    """In bfloat16 the two best of one position in fourteen were equal; the answer would be left to chance."""
    narrow = load_model(open_checkpoint(DEFAULT_MODEL), dtype="bfloat16", device="cpu")
    found = predict(LabelledLanguageModel(narrow.lm), examples, batch_size=6)
    assert (found.p_first > found.p_second).all()


def test_the_scan_of_a_real_tuning_is_scipys(loaded, tmp_path):
    """Rows that training moved, in float32 as a patch, and in bfloat16 as a checkpoint, where thousands of values tie."""
    corpus, _ = read_catalogs(catalog_files(), catalog_root(), target_language="ca")
    patch = tune(loaded, split(keep_useful(corpus)[0]).train.head(40), epochs=1, learning_rate=2e-2)
    assert len(patch) > 300
    found = scan(loaded.checkpoint, patch)
    before = loaded.checkpoint.rows(patch.ids)
    for place in range(0, len(patch), 5):
        wanted = ks_2samp(before[place].numpy(), patch.values[place].numpy())
        row = int(patch.ids[place])
        assert found.counts[row] == round(wanted.statistic * 576)
        assert found.pvalues[row] == pytest.approx(wanted.pvalue, rel=1e-9)
    assert found.counts.max() > 20
    assert np.count_nonzero(found.moved) <= len(patch)

    to_merged(loaded.checkpoint, patch, tmp_path / "merged")
    for file in (tmp_path / "merged").glob("*.safetensors"):
        save_file({name: t.bfloat16() for name, t in load_file(file).items()}, file, metadata={"format": "pt"})
    coarse = scan(model_gguf(), tmp_path / "merged")
    assert coarse.parts[0].compared_as == "bfloat16"
    for place in range(0, len(patch), 5):
        a, b = (side[place].bfloat16().double().numpy() for side in (before, patch.values))
        assert len(np.unique(a)) < 576  # ties
        assert coarse.counts[int(patch.ids[place])] == round(ks_2samp(a, b).statistic * 576)
