"""One tiny random model of each family: tuned, saved, loaded and exported on each side, against PEFT and plain transformers."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file

from ks_lottery.checkpoint.adapter import AdaptedCheckpoint
from ks_lottery.checkpoint.patch import SIDES, RowPatch
from ks_lottery.evaluation.translate import generate
from ks_lottery.models.applied import applied
from ks_lottery.models.export import to_merged, to_peft
from ks_lottery.models.export_lora import to_lora
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.prompt_cache import holds_keys_and_values, shared_opening
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import base_values, check_side, installed_patch, installed_rows, is_tied

if TYPE_CHECKING:
    from pathlib import Path

V, D = 400, 32
TOKENS = torch.tensor([[1, 5, 77, 300, 9, 301], [5, 5, 6, 3, 301, 2]])
IDS = np.array([5, 77, 301])
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Family:
    """A config class by name, its sizes, and whether head and embedding are one."""

    config: str
    tied: bool
    sizes: dict[str, Any] = field(default_factory=dict)


DECODER = {
    "hidden_size": D,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GEMMA = {**DECODER, "head_dim": 8}
OPT = {
    "hidden_size": 48,
    "word_embed_proj_dim": D,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2 = {"n_embd": D, "n_layer": 2, "n_head": 4, "n_positions": 64}
NEOX = {key: size for key, size in DECODER.items() if key != "num_key_value_heads"}
FAMILIES = {
    "llama": Family("LlamaConfig", tied=False, sizes=DECODER),
    "llama tied": Family("LlamaConfig", tied=True, sizes=DECODER),
    "mistral": Family("MistralConfig", tied=False, sizes={**DECODER, "sliding_window": 32}),
    "qwen2": Family("Qwen2Config", tied=True, sizes=DECODER),
    "qwen3": Family("Qwen3Config", tied=True, sizes={**DECODER, "head_dim": 8}),
    "qwen3 untied": Family("Qwen3Config", tied=False, sizes={**DECODER, "head_dim": 8}),
    "gemma": Family("GemmaConfig", tied=True, sizes=GEMMA),
    "gemma2": Family("Gemma2Config", tied=True, sizes={**GEMMA, "final_logit_softcapping": 3.0, "sliding_window": 32}),
    "gemma3": Family("Gemma3TextConfig", tied=True, sizes={**GEMMA, "sliding_window": 32}),
    "gpt2": Family("GPT2Config", tied=True, sizes=GPT2),
    "gpt2 untied": Family("GPT2Config", tied=False, sizes=GPT2),
    "gpt-neox": Family("GPTNeoXConfig", tied=False, sizes=NEOX),
    "gpt-neox tied": Family("GPTNeoXConfig", tied=True, sizes=NEOX),
    "phi": Family("PhiConfig", tied=False, sizes=DECODER),
    "phi tied": Family("PhiConfig", tied=True, sizes=DECODER),
    "bloom": Family("BloomConfig", tied=True, sizes={"hidden_size": D, "n_layer": 2, "n_head": 4}),
    "opt": Family("OPTConfig", tied=True, sizes=OPT),
    "opt untied": Family("OPTConfig", tied=False, sizes=OPT),
    "cohere": Family("CohereConfig", tied=True, sizes={**DECODER, "logit_scale": 0.25}),
    "granite": Family(
        "GraniteConfig", tied=True, sizes={**DECODER, "logits_scaling": 2.0, "embedding_multiplier": 3.0}
    ),
}
CASES = [(name, side) for name in FAMILIES for side in SIDES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, untied_model: Path) -> Any:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            family = FAMILIES[name]
            made[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
            config = getattr(transformers, family.config)(
                vocab_size=V, tie_word_embeddings=family.tied, **SPECIAL, **family.sizes
            )
            torch.manual_seed(1)
            with quiet():
                model = transformers.AutoModelForCausalLM.from_config(config)
                for parameter in model.parameters():  # biases and norms too, so that dropping one shows
                    parameter.data += 0.3 * torch.randn(parameter.shape)
                model.save_pretrained(made[name])
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(untied_model / file, made[name] / file)
        return made[name]

    return make


def tuned(loaded, side: str, ids: np.ndarray = IDS) -> RowPatch:
    """A few steps of AdamW with weight decay on random text, all other parameters being frozen."""
    inputs = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS), "labels": TOKENS.roll(-1, dims=1)}
    start = base_values(loaded, ids, side)
    with installed_rows(loaded.lm, ids, side=side, **start) as rows:
        optimizer = torch.optim.AdamW(rows.parameters(), lr=0.2, weight_decay=0.1)
        model = LabelledLanguageModel(loaded.lm)
        trained = [p for p in model.parameters() if p.requires_grad]
        assert [id(p) for p in trained] == [id(p) for p in rows.parameters()]
        for _ in range(3):
            model(**inputs)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
        return RowPatch(ids, base=loaded.checkpoint.describe(), settings={"test": True}, **rows.patch_values())


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


def plain(folder: Path):
    with quiet():
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize(("name", "side"), CASES)
def test_tuned_saved_loaded_and_exported(folder, name, side, tmp_path):
    from peft import PeftModel

    checkpoint = open_checkpoint(str(folder(name)))
    loaded = load_model(checkpoint, dtype="float32", device="cpu")
    assert is_tied(loaded.lm) == FAMILIES[name].tied
    check_side(loaded.lm, side, name)
    state = {key: tensor.clone() for key, tensor in loaded.lm.state_dict().items()}
    before = logits_of(loaded.lm)
    tuned(loaded, side).save(tmp_path)
    patch = RowPatch.open(tmp_path)
    with installed_patch(loaded.lm, patch):
        wanted = logits_of(loaded.lm)
    assert (wanted - before).abs().max() > 1e-2
    assert torch.equal(logits_of(loaded.lm), before)
    after = loaded.lm.state_dict()
    assert set(after) == set(state)
    assert all(torch.equal(after[key], state[key]) for key in state)

    to_merged(checkpoint, patch, tmp_path / "merged")
    merged = plain(tmp_path / "merged")
    assert (merged.get_output_embeddings().weight is merged.get_input_embeddings().weight) == (
        FAMILIES[name].tied and side == "both"
    )
    assert torch.allclose(logits_of(merged), wanted, atol=1e-4, rtol=1e-4)
    only_these_rows_differ(checkpoint, tmp_path / "merged", side, tied=FAMILIES[name].tied)
    losses_agree(loaded.lm, merged, patch)

    to_peft(checkpoint, patch, tmp_path / "adapter")
    to_lora(checkpoint, patch, tmp_path / "lora")
    for made in ("adapter", "lora"):
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = PeftModel.from_pretrained(plain(checkpoint.folder), str(tmp_path / made)).eval()
        assert torch.allclose(logits_of(adapted), wanted, atol=1e-4, rtol=1e-4), made
    scans_agree(checkpoint, patch, tmp_path)


def scans_agree(checkpoint, patch: RowPatch, made: Path) -> None:
    """Patch, adapter and merged folder are three ways to say the same, read without a model."""
    ways = [
        AdaptedCheckpoint.of_patch(patch, checkpoint),
        AdaptedCheckpoint.open(made / "adapter", checkpoint),
        open_checkpoint(str(made / "merged")),
    ]
    for side in ("input", "output"):
        wanted = checkpoint.rows(np.arange(V), side=side)
        rows = patch.values_of(side)
        if rows is not None:
            wanted[IDS] = rows
        for way in ways:
            tensor = way.embedding if side == "input" else way.head
            assert torch.equal(way.block(tensor, 0, V).float(), wanted)
        touched = ways[0].changed(ways[0].embedding if side == "input" else ways[0].head)
        assert touched.tolist() == ([] if rows is None else IDS.tolist())


def only_these_rows_differ(checkpoint, merged: Path, side: str, *, tied: bool) -> None:
    """AdamW decays what it is given; what it is not given keeps its bits."""
    before, after = load_file(checkpoint.folder / "model.safetensors"), load_file(merged / "model.safetensors")
    head = "lm_head.weight" if "lm_head.weight" in after else checkpoint.head
    changed = {"input": {checkpoint.embedding}, "output": {head}, "both": {checkpoint.embedding, head}}[side]
    assert set(after) - set(before) == ({head} if tied and side != "both" else set())
    rest = np.setdiff1d(np.arange(V), IDS)
    for name, tensor in after.items():
        base = before.get(name, before[checkpoint.embedding])
        assert torch.equal(tensor[rest] if name in changed else tensor, base[rest] if name in changed else base), name
        assert name not in changed or not (tensor[IDS] == base[IDS]).all(dim=1).any()


def losses_agree(lm, merged, patch: RowPatch) -> None:
    """Logits at labels alone, with and without the shared prefix, against the plain loss of the merged folder."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, V, (3, 20), generator=generator)
    ids[:, :10], ids[:, 4], ids[1:, 12:14] = ids[0, :10], 77, 301
    mask = torch.ones_like(ids)
    mask[1, 17:] = 0
    labels = ids.roll(-1, dims=1)
    labels[:, :11] = -100
    labels[mask == 0] = -100
    with torch.no_grad():
        logits = merged(input_ids=ids, attention_mask=mask, use_cache=False).logits
        wanted = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        with installed_patch(lm, patch):
            for share in (False, True):
                loss = LabelledLanguageModel(lm, share_prefix=share)(ids, mask, labels)["loss"]
                assert torch.allclose(loss, wanted, rtol=1e-4), share
            options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False, "pad_token_id": 0}
            ours = lm.generate(ids[:, :12], attention_mask=mask[:, :12], **options)
    assert torch.equal(ours, merged.generate(ids[:, :12], attention_mask=mask[:, :12], **options))


@pytest.mark.parametrize("name", FAMILIES)
def test_translations_are_those_of_generate(folder, name):
    """Token by token: prompts of unequal length (in some families longer than their window), with and without rows."""
    lm = load_model(open_checkpoint(str(folder(name))), dtype="float32", device="cpu")
    draw = np.random.default_rng(2)
    prefix = draw.integers(3, V, 10).tolist()
    prompts = [prefix + draw.integers(3, V, count).tolist() for count in (28, 3, 12, 13, 25)]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = (torch.arange(width) >= torch.tensor([[width - len(prompt)] for prompt in prompts])).long()
    assert holds_keys_and_values(lm.lm)

    def agree(beams: int) -> list[list[int]]:
        settings = {
            "do_sample": False, "num_beams": beams, "max_new_tokens": 16, "eos_token_id": [2, 7, 9], "pad_token_id": 0,
            "no_repeat_ngram_size": 2,
        }  # fmt: skip
        with torch.inference_mode(), quiet():
            wanted = lm.lm.generate(input_ids=ids, attention_mask=mask, **settings)[:, width:].tolist()
        for shared in (10, 0):
            assert generate(lm.lm, prompts, settings, shared_opening(lm.lm, prefix[:shared])) == wanted, (beams, shared)
        return wanted

    found = [agree(1), agree(4)]
    with installed_patch(
        lm.lm, tuned(lm, "input", np.array(sorted({token for prompt in prompts for token in prompt[-9:]})))
    ):
        assert [agree(1), agree(4)] != found


@pytest.mark.parametrize("name", ["llama", "llama tied", "phi"])
@pytest.mark.parametrize("side", ["output", "both"])
def test_every_row_of_the_head_can_be_exported(folder, name, side, tmp_path):
    """The softmax reaches them all, so this is what output tuning leaves."""
    from peft import PeftModel

    checkpoint = open_checkpoint(str(folder(name)))
    loaded = load_model(checkpoint, dtype="float32", device="cpu")
    patch = tuned(loaded, side, np.arange(V))
    with installed_patch(loaded.lm, patch):
        wanted = logits_of(loaded.lm)
    to_merged(checkpoint, patch, tmp_path / "merged")
    assert torch.allclose(logits_of(plain(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4)
    to_peft(checkpoint, patch, tmp_path / "adapter")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = PeftModel.from_pretrained(plain(checkpoint.folder), str(tmp_path / "adapter")).eval()
    assert torch.allclose(logits_of(adapted), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "side"), CASES)
def test_new_tokens_beyond_the_matrix_are_those_of_resized_ones(folder, tmp_path, name, side):
    """More tokens than spare rows: beside the weights, in the resized weights of transformers, merged, and in PEFT."""
    from peft import PeftModel

    checkpoint = open_checkpoint(str(folder(name)))
    loaded = load_model(checkpoint, dtype="float32", device="cpu")
    tied = is_tied(loaded.lm)
    ids = np.array([5, 384, 399, 400, 401])
    random = torch.Generator().manual_seed(2)
    width = checkpoint.width
    values, second = (torch.randn(len(ids), width, generator=random) for _ in range(2))
    first = len(loaded.tokenizer)  # some tokenizers have a token more than their file
    texts = [f"<n{i}>" for i in range(402 - first)]
    about = {"new_tokens": {"texts": texts, "ids": list(range(first, 402)), "base_rows": V}}
    apart = side == "both" and not tied
    patch = RowPatch(ids, values, checkpoint.describe(), about, side, second if apart else None)
    tokens = torch.tensor([[1, 5, 384, 400, 77, 401], [5, 390, 6, 3, 399, 2]])
    with installed_patch(loaded.lm, patch), torch.no_grad():
        wanted = loaded.lm(tokens).logits
    assert wanted.shape[-1] == 402
    to_merged(checkpoint, patch, tmp_path / "merged")
    to_peft(checkpoint, patch, tmp_path / "peft")
    applied(patch, loaded, permanently=True)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        base = transformers.AutoModelForCausalLM.from_pretrained(folder(name), dtype=torch.float32)
        base.resize_token_embeddings(402, mean_resizing=False)
        adapted = PeftModel.from_pretrained(base, str(tmp_path / "peft")).eval()
    with torch.no_grad():
        for lm in (loaded.lm, merged, adapted):
            torch.testing.assert_close(lm(input_ids=tokens).logits, wanted, atol=1e-4, rtol=1e-4)
