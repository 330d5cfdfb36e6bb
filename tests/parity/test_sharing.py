"""Predictions that share work against the same model run whole, patch by patch, with nothing shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.batches import Example
from ks_lottery.evaluation.sharing import predict_patches
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


def test_one_sentence_alone(loaded):
    examples = texts(1)
    patch = patch_of(loaded, examples[0].prompt)
    found = predict_patches(loaded.lm, {"one": patch}, examples).predictions["one"]
    check(loaded.lm, patch, found, examples)
