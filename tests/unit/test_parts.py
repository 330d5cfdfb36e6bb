"""A batch computed in parts against the whole one: loss, every gradient, and the memory that is held."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ks_lottery.models import language_model, parts
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.parts import part_rows
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_rows


def batch(lengths: list[int], prefix: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    width = max(lengths)
    ids = torch.randint(3, 380, (len(lengths), width), generator=draw)
    ids[:, :prefix] = ids[0, :prefix]
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    labels = torch.where((mask > 0) & (torch.arange(width) >= prefix + 2), ids.roll(-1, 1), -100)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("prefix", [0, 12])
@pytest.mark.parametrize("side", ["input", "both"])
def test_loss_and_gradients_are_those_of_the_whole(tied_model, monkeypatch, side, prefix):
    with quiet():
        lm = AutoModelForCausalLM.from_pretrained(tied_model).requires_grad_(False)
    inputs = batch([40, 22, 35, 18, 29], prefix)
    ids = np.unique(inputs["input_ids"].numpy())[1::2]
    values = lm.get_input_embeddings().weight[torch.from_numpy(ids)].clone()
    found = []
    with installed_rows(lm, ids, values, side=side) as rows:
        model = LabelledLanguageModel(lm)
        for tokens in (10**6, 60, 1):
            monkeypatch.setattr(parts, "TOKENS", tokens)
            if tokens == 10**6:
                monkeypatch.setattr(language_model, "fits", lambda *_: False)  # the whole, plainly
            else:
                monkeypatch.setattr(language_model, "fits", parts.fits)
            rows.rows.grad = None
            loss = model(**inputs, num_items_in_batch=7)["loss"]
            (3 * loss).backward()
            found.append((loss.detach(), rows.rows.grad.clone()))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-6, atol=0)
        assert torch.linalg.vector_norm(gradient - found[0][1]) < 1e-5 * torch.linalg.vector_norm(found[0][1])
    assert found[0][1].abs().sum() > 0
    first = int(inputs["input_ids"][0, 0])
    if prefix and first in ids:  # the gradient flows through the shared part
        assert found[2][1][np.flatnonzero(ids == first)[0]].abs().sum() > 0


def test_parts_hold_rows_of_like_length():
    assert part_rows([100, 20, 130, 90, 30]) == [[2], [0, 3], [4, 1]]
    assert part_rows([300]) == [[0]]


def peak_bytes(step) -> int:
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def test_few_activations_are_held(tied_model, monkeypatch):
    with quiet():
        lm = AutoModelForCausalLM.from_pretrained(tied_model).requires_grad_(False)
    inputs, ids = batch([120] * 16, 12), np.arange(3, 380)
    with installed_rows(lm, ids, lm.get_input_embeddings().weight[3:380].clone()):
        model = LabelledLanguageModel(lm)
        in_parts = peak_bytes(lambda: model(**inputs)["loss"].backward())  # noqa: PLW0108  (the forward is measured too)
        monkeypatch.setattr(language_model, "fits", lambda *_: False)
        whole = peak_bytes(lambda: model(**inputs)["loss"].backward())  # noqa: PLW0108  (the forward is measured too)
    assert in_parts < 0.25 * whole
