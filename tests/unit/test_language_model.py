"""Loss, shared prefix and labelled logits against the plain forward of transformers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.prefix import shared_length


@pytest.fixture
def lm(untied_model):
    return load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu").lm


def batch(seed: int = 0, shared: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 384, (3, 30), generator=generator)
    ids[:, :shared] = ids[0, :shared]
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    labels = torch.randint(3, 384, ids.shape, generator=generator)
    labels[:, :16] = -100
    labels[mask == 0] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def plain_loss(lm, inputs):
    logits = lm(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), inputs["labels"].flatten())


def test_loss_is_that_of_the_plain_forward(lm):
    inputs = batch()
    assert torch.allclose(LabelledLanguageModel(lm, share_prefix=False)(**inputs)["loss"], plain_loss(lm, inputs))


def test_loss_obeys_the_number_of_items(lm):
    inputs = batch()
    count = int((inputs["labels"] != -100).sum())
    model = LabelledLanguageModel(lm)
    assert torch.allclose(model(**inputs)["loss"] * count, model(**inputs, num_items_in_batch=7)["loss"] * 7)


def test_head_runs_on_labelled_positions_alone(lm):
    inputs = batch()
    seen = []
    handle = lm.get_output_embeddings().register_forward_hook(lambda m, i, o: seen.append(o.shape))
    LabelledLanguageModel(lm)(**inputs)
    handle.remove()
    assert seen == [torch.Size([int((inputs["labels"] != -100).sum()), 384])]


def test_shared_prefix_gives_the_same_loss_and_gradient(lm):
    inputs = batch()
    assert shared_length(**inputs) == 12
    weight = lm.get_input_embeddings().weight.requires_grad_(True)
    results = []
    for share in (False, True):
        weight.grad = None
        loss = LabelledLanguageModel(lm, share_prefix=share)(**inputs)["loss"]
        loss.backward()
        results.append((loss.detach(), weight.grad.clone()))
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-6)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-7)
    prefix = inputs["input_ids"][0, 2]
    assert results[1][1][prefix].abs().sum() > 0  # the gradient flows through the shared part


@pytest.mark.parametrize(
    ("change", "expected"),
    [("none", 12), ("label", 10), ("padding", 0), ("one row", 0)],
)
def test_shared_length(change, expected):
    inputs = batch()
    if change == "label":
        inputs["labels"][2, 10] = 5
    if change == "padding":
        inputs["attention_mask"][0, 0] = 0
    if change == "one row":
        inputs = {name: tensor[:1] for name, tensor in inputs.items()}
    assert shared_length(**inputs) == expected
