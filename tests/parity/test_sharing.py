"""Predictions that share work against the same model run whole, patch by patch, with nothing shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.batches import Example
from ks_lottery.evaluation.patches import predict_patches
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.sides import installed_patch

PREFIX = tuple(range(10, 22))


@pytest.fixture(params=["tied_model", "untied_model"])
def loaded(request):
    return load_model(open_checkpoint(str(request.getfixturevalue(request.param))), dtype="float32", device="cpu")


def texts(count: int = 17, seed: int = 0) -> list[Example]:
    generator = np.random.default_rng(seed)
    draw = lambda low, high: tuple(generator.integers(30, 380, generator.integers(low, high)).tolist())  # noqa: E731
    return [Example(PREFIX + draw(3, 9), draw(2, 8)) for _ in range(count)]


def patch_of(loaded, ids, *, seed: int = 0, side="input") -> RowPatch:
    ids = np.array(sorted(ids), dtype=np.int64)
    rows = loaded.checkpoint.rows(ids, side="output" if side == "output" else "input")
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
    return RowPatch(ids, rows + noise, loaded.checkpoint.describe(), side=side)


def by_hand(lm, patch, example):
    """Return log-probabilities at the labels' positions, from one plain forward of one sentence."""
    with installed_patch(lm, patch), torch.no_grad():
        logits = lm(input_ids=torch.tensor([example.sequence[:-1]]), use_cache=False).logits[0]
    return logits[len(example.prompt) - 1 :].double().log_softmax(-1)


def check(lm, patch, found, examples):
    for number, example in enumerate(examples):
        logs = by_hand(lm, patch, example)
        at = found.sentence == number
        assert found.label[at].tolist() == list(example.response)
        top = logs.topk(2)
        assert found.first[at].tolist() == top.indices[:, 0].tolist()
        assert found.second[at].tolist() == top.indices[:, 1].tolist()
        assert found.p_first[at] == pytest.approx(top.values[:, 0].exp().numpy(), abs=1e-5)
        assert found.p_second[at] == pytest.approx(top.values[:, 1].exp().numpy(), abs=1e-5)
        wanted = logs[torch.arange(len(example.response)), list(example.response)].numpy()
        assert found.log_p[at] == pytest.approx(wanted, abs=1e-4)


def test_every_model_answers_as_when_it_is_run_alone(loaded):
    examples = texts()
    used = sorted({t for e in examples for t in e.sequence[:-1]})
    tuned = patch_of(loaded, used)
    few, some = used[20:23], [*used[: len(used) // 2], PREFIX[4]]
    patches = {
        "original": tuned.restrict(np.array([], dtype=np.int64)),
        "few": tuned.restrict(np.array(few)),
        "some": tuned.restrict(np.array(sorted(some))),
        "other": patch_of(loaded, few, seed=5),
        "head": patch_of(loaded, few, side="output"),
        "tuned": tuned,
    }
    ticks = []
    shared = predict_patches(loaded.lm, patches, examples, batch_size=4, tick=lambda *at: ticks.append(at))
    for name, patch in patches.items():
        check(loaded.lm, patch, shared.predictions[name], examples)
    assert shared.passes == len(patches) * len(examples)
    # Sentences that hold none of the few rows are the original's; the head changes every answer.
    holding = {name: sum(bool({*few} & {*e.sequence[:-1]}) for e in examples) for name in ("few", "other")}
    assert 0 < holding["few"] < len(examples)
    assert shared.computed == len(examples) * 4 + holding["few"] + holding["other"]
    assert ticks[-1] == (shared.passes, shared.passes)
    assert [done for done, _ in ticks] == sorted(done for done, _ in ticks)


def test_a_row_that_has_the_base_values_changes_nothing(loaded):
    examples = texts(6)
    ids = np.array(sorted({t for e in examples for t in e.sequence[:-1]}), dtype=np.int64)
    same = RowPatch(ids, loaded.checkpoint.rows(ids), loaded.checkpoint.describe())
    shared = predict_patches(loaded.lm, {"none": same.restrict(ids[:0]), "same": same}, examples)
    assert shared.computed == len(examples)


def test_nothing_is_shared_where_that_is_switched_off(loaded):
    examples = texts(6)
    patches = {"a": patch_of(loaded, [31, 40]), "b": patch_of(loaded, [31, 40])}
    off = predict_patches(loaded.lm, patches, examples, share_prefix=False, share_sentences=False)
    assert off.computed == off.passes == 12
    on = predict_patches(loaded.lm, patches, examples)
    assert on.computed == 6
    for name in patches:
        assert np.array_equal(off.predictions[name].first, on.predictions[name].first)
        assert off.predictions[name].log_p == pytest.approx(on.predictions[name].log_p, abs=1e-5)


def test_the_prefix_is_run_once_for_each_version_of_its_rows(loaded):
    examples = texts(8)
    inside = patch_of(loaded, [PREFIX[2], *{t for e in examples for t in e.sequence[12:-1]}])
    patches = {"none": inside.restrict(inside.ids[:0]), "out": inside.restrict(inside.ids[1:]), "in": inside}
    lengths = []
    handle = loaded.lm.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    predict_patches(loaded.lm, patches, examples, batch_size=3)
    handle.remove()
    assert [shape for shape in lengths if shape == (1, len(PREFIX))] == [(1, len(PREFIX))] * 2
    longest = max(len(e) - 1 for e in examples) - len(PREFIX)
    assert max(length for rows, length in lengths if rows > 1) == longest


@pytest.mark.parametrize("memory", [1, 1 << 20])
def test_a_model_goes_on_from_the_first_row_that_differs(loaded, memory, monkeypatch):
    monkeypatch.setattr("ks_lottery.models.row_cache.MEMORY", memory)
    examples = texts(23, seed=3)
    tuned = patch_of(loaded, sorted({t for e in examples for t in e.sequence[:-1]}))
    # Sets that grow token by token from the back of the longest sentences, and one that starts in the prefix.
    late = [e.sequence[-2] for e in examples]
    middle = [e.sequence[len(e) // 2] for e in examples]
    sets = [[], late[:1], late[:8], late, late + middle, [*late, *middle, PREFIX[5]], tuned.ids]
    patches = {f"{number}": tuned.restrict(np.array(sorted({*ids}))) for number, ids in enumerate(sets)}
    shared = predict_patches(loaded.lm, patches, examples, batch_size=4)
    for name, patch in patches.items():
        check(loaded.lm, patch, shared.predictions[name], examples)
    whole = predict_patches(loaded.lm, patches, examples, batch_size=4, share_sentences=False)
    assert whole.computed == whole.passes == shared.passes
    assert shared.computed_tokens < 0.7 * whole.computed_tokens < 0.7 * shared.tokens


FAMILIES = {
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "OPT": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}
"""Learned positions, positions from the mask alone, and learned positions with an offset."""


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_right_after_a_padded_past(family):
    import transformers

    torch.manual_seed(0)
    special = {"vocab_size": 384, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family], **special)
    lm = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    examples = texts(9, seed=4)
    tuned = RowPatch(np.arange(384), torch.randn(384, 32), {"name": "tiny", "fingerprint": "0"})
    sets = [[], [e.sequence[-3] for e in examples], [e.sequence[len(PREFIX) + n % 3] for n, e in enumerate(examples)]]
    patches = {f"{n}": tuned.restrict(np.array(sorted({t for s in sets[: n + 1] for t in s}))) for n in range(3)}
    shared = predict_patches(lm, patches, examples, batch_size=4)
    for name, patch in patches.items():
        check(lm, patch, shared.predictions[name], examples)
    assert shared.computed_tokens < 0.5 * shared.tokens


def test_a_window_is_not_gone_on_with(tmp_path):
    import transformers

    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=384, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=6, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    lm = transformers.MistralForCausalLM(config).eval().requires_grad_(False)
    examples = texts(5)
    ids = np.array(sorted({t for e in examples for t in e.sequence[:-1]}), dtype=np.int64)
    tuned = RowPatch(ids, torch.randn(len(ids), 32), {"name": "tiny", "fingerprint": "0"})
    patches = {"some": tuned.restrict(ids[-20:]), "tuned": tuned}
    shared = predict_patches(lm, patches, examples, batch_size=2)
    for name, patch in patches.items():
        check(lm, patch, shared.predictions[name], examples)
    assert shared.computed_tokens == shared.tokens


def test_one_sentence_alone(loaded):
    examples = texts(1)
    patch = patch_of(loaded, examples[0].prompt)
    found = predict_patches(loaded.lm, {"one": patch}, examples).predictions["one"]
    check(loaded.lm, patch, found, examples)
