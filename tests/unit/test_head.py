"""A head multiplied in pieces against the plain layer, and the heads that are left alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ks_lottery.models import head as module
from ks_lottery.models.head import in_pieces


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 20, 100])
def test_output_and_gradient_are_those_of_the_layer(piece, bias, monkeypatch):
    monkeypatch.setattr(module, "PIECE", piece)
    torch.manual_seed(0)
    head = nn.Linear(5, 20, bias=bias, dtype=torch.float64).requires_grad_(False)
    hidden = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    plain = head(hidden)
    (wanted,) = torch.autograd.grad(plain.square().sum(), hidden)
    with in_pieces(head):
        found = head(hidden)
        (gradient,) = torch.autograd.grad(found.square().sum(), hidden)
    assert "forward" not in vars(head)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradient, wanted)


def test_heads_that_are_trained_or_of_another_kind_are_left_alone():
    class Other(nn.Linear):
        pass

    for head in (nn.Linear(2, 3), Other(2, 3).requires_grad_(False), nn.Identity()):
        with in_pieces(head):
            assert "forward" not in vars(head)
