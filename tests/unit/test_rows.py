"""The row module against dense embedding tuning, which knows nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.rows import RowEmbedding, reachable_rows
from ks_lottery.models.sides import installed_rows

PAD, VOCABULARY, STEPS = 0, 384, 20


def batches() -> list[dict[str, torch.Tensor]]:
    """Random batches with padding on the right; the padding token also stands inside a sentence."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for _ in range(STEPS):
        ids = torch.randint(1, 200, (4, 24), generator=generator)
        mask = torch.ones_like(ids)
        for row, length in enumerate((24, 19, 13, 22)):
            ids[row, length:] = PAD
            mask[row, length:] = 0
        ids[0, 5] = PAD
        labels = torch.randint(1, VOCABULARY, ids.shape, generator=generator)
        labels[mask == 0] = -100
        labels[:, :4] = -100
        made.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return made


def train(model: LabelledLanguageModel, parameter: nn.Parameter, rate: float = 1e-2) -> list[float]:
    optimizer = torch.optim.Adam([parameter], lr=rate)
    norms = []
    for batch in batches():
        model(**batch)["loss"].backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([parameter], 0.5)))
        optimizer.step()
        optimizer.zero_grad()
    return norms


def test_embed_tuning_equals_dense_embed_tuning_bit_for_bit(untied_model):
    checkpoint = open_checkpoint(str(untied_model))
    sequences = [row.tolist() for batch in batches() for row in batch["input_ids"]]
    ids = np.array(sorted({t for s in sequences for t in s} - {PAD}), dtype=np.int64)

    dense = load_model(checkpoint, dtype="float32", device="cpu").lm
    embedding = dense.get_input_embeddings()
    assert embedding.padding_idx == PAD
    embedding.weight.requires_grad_(True)
    before = embedding.weight.detach().clone()
    dense_norms = train(LabelledLanguageModel(dense, share_prefix=False), embedding.weight)

    ours = load_model(checkpoint, dtype="float32", device="cpu").lm
    with installed_rows(ours, ids, checkpoint.rows(ids)) as rows:
        norms = train(LabelledLanguageModel(ours, share_prefix=False), rows.rows)

    assert max(norms) > 0.5  # clipping was at work
    assert norms == dense_norms
    assert torch.equal(rows.rows.detach(), embedding.weight.detach()[torch.from_numpy(ids)])
    untouched = np.setdiff1d(np.arange(VOCABULARY), ids)
    assert PAD in untouched
    assert torch.equal(embedding.weight.detach()[torch.from_numpy(untouched)], before[torch.from_numpy(untouched)])
    assert torch.equal(ours.get_input_embeddings().weight, before)


def test_rows_outside_the_set_stay_bit_identical(tied_model):
    checkpoint = open_checkpoint(str(tied_model))
    model = load_model(checkpoint, dtype="float32", device="cpu").lm
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = np.array([7, 30, 31], dtype=np.int64)
    with installed_rows(model, ids, checkpoint.rows(ids)) as rows:
        train(LabelledLanguageModel(model), rows.rows)
        assert not torch.equal(rows.rows.detach(), checkpoint.rows(ids))
    after = model.state_dict()
    assert set(after) == set(state)
    assert all(torch.equal(after[name], state[name]) for name in state)


def test_a_step_allocates_nothing_of_the_size_of_the_matrix():
    vocabulary, width = 50_000, 16
    frozen = nn.Embedding(vocabulary, width)
    module = RowEmbedding(frozen, np.arange(10, 20), torch.randn(10, width))
    tokens = torch.randint(0, vocabulary, (2, 32))
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module(tokens).square().sum().backward()
    largest = max((event.self_cpu_memory_usage for event in profile.events()), default=0)
    assert 0 < largest < vocabulary * width * 4 / 50
    assert frozen.weight.grad is None
    assert module.rows.grad is not None


def test_lookup_equals_a_patched_matrix():
    frozen = nn.Embedding(50, 8)
    ids, values = np.array([3, 4, 49]), torch.randn(3, 8)
    patched = frozen.weight.detach().clone()
    patched[torch.from_numpy(ids)] = values
    tokens = torch.arange(50).reshape(5, 10)
    assert torch.equal(RowEmbedding(frozen, ids, values)(tokens), patched[tokens])


def test_trained_rows_are_float32_over_a_bfloat16_body():
    frozen = nn.Embedding(50, 8, dtype=torch.bfloat16)
    module = RowEmbedding(frozen, np.array([1]), torch.zeros(1, 8))
    assert module.rows.dtype == torch.float32
    assert module(torch.tensor([[1, 2]])).dtype == torch.bfloat16


def test_no_rows_at_all_is_the_base():
    frozen = nn.Embedding(50, 8)
    module = RowEmbedding(frozen, np.array([], dtype=np.int64), torch.empty(0, 8))
    assert torch.equal(module(torch.arange(50)), frozen.weight)


def test_reachable_rows_leave_out_the_last_token_and_padding():
    assert reachable_rows([[5, 3, 9], [0, 3, 2]], padding=0).tolist() == [3, 5]


class Doubled(nn.Embedding):
    """Scales as some do, but not by what its `embed_scale` says."""

    embed_scale = 3.0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * 2.0


class Bag(nn.Module):
    """No embedding at all."""


class Holder(nn.Module):
    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (Doubled(4, 2), "Doubled, which does more than a lookup"),
        (Bag(), "a Bag, not a"),
        (nn.Embedding(4, 2, max_norm=1.0), "renormalises"),
        (nn.Embedding(4, 2, sparse=True), "thins out"),
        (None, "no single input embedding"),
    ],
)
def test_other_embeddings_are_refused(embedding, message):
    with pytest.raises(TypeError, match=message), installed_rows(Holder(embedding), np.array([0]), torch.zeros(1, 2)):
        pass
