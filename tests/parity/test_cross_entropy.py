"""The summed cross entropy against torch's own, value and gradient, and its memory."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from ks_lottery.models import cross_entropy
from ks_lottery.models.cross_entropy import summed_cross_entropy


@pytest.mark.parametrize("chunk", [1, 700, 4 << 20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_value_and_gradient_are_torchs(dtype, chunk):
    generator = torch.Generator().manual_seed(0)
    logits = (8 * torch.randn(37, 211, generator=generator, dtype=torch.float64)).to(dtype)
    logits[3, 5] = 60 if dtype == torch.float16 else 300  # far beyond what an exponential holds
    labels = torch.randint(211, (37,), generator=generator)
    ours, theirs = (logits.clone().requires_grad_(True) for _ in range(2))
    with mock.patch.object(cross_entropy, "_CHUNK_VALUES", chunk):
        found = summed_cross_entropy(ours, labels) / 3
        found.backward()
    wide = theirs if dtype == torch.float64 else theirs.float()
    wanted = F.cross_entropy(wide, labels, reduction="sum") / 3
    wanted.backward()
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradient_by_finite_differences():
    logits = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: summed_cross_entropy(x, torch.tensor([0, 6, 3, 3])), (logits,))


def test_no_wide_copy_is_made():
    """At its peak the step holds the gradient, and a chunk of rows in float32."""
    logits = torch.zeros(256, 8192, dtype=torch.bfloat16).requires_grad_(True)
    with (
        mock.patch.object(cross_entropy, "_CHUNK_VALUES", 4 * 8192),
        torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        summed_cross_entropy(logits, torch.zeros(256, dtype=torch.long)).backward()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert logits.nbytes <= peak < 1.5 * logits.nbytes


def test_no_labels_at_all():
    logits = torch.zeros(0, 5).requires_grad_(True)
    summed_cross_entropy(logits, torch.zeros(0, dtype=torch.long)).backward()
    assert logits.grad is not None
    assert logits.grad.shape == (0, 5)
