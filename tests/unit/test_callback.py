"""When tickets count as settled, and which settings of the callback are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ks_lottery import KSCallback, UserError, open_checkpoint
from ks_lottery.models.rows import RowEmbedding
from ks_lottery.tuning.callback import TicketCheck, jaccard, settled_at
from ks_lottery.tuning.trained_rows import TrainedRows


def checks_of(*sets: set[int]) -> list[TicketCheck]:
    """Checks at steps 10, 20, ... with these tickets."""
    checks: list[TicketCheck] = []
    for rows in sets:
        array = np.array(sorted(rows), dtype=np.int64)
        overlap = jaccard(checks[-1].rows, array) if checks else None
        checks.append(TicketCheck(step=10 * len(checks) + 10, rows=array, largest=0.5, jaccard=overlap))
    return checks


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [({1, 2, 3}, {2, 3, 4}, 0.5), ({1}, {2}, 0.0), ({1}, set(), 0.0), (set(), set(), 1.0), ({5, 7}, {7, 5}, 1.0)],
)
def test_jaccard(one, other, wanted):
    (a, b) = (np.array(sorted(rows), dtype=np.int64) for rows in (one, other))
    assert jaccard(a, b) == jaccard(b, a) == wanted


GROWING = checks_of(set(), set(), {1, 2}, {1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4})


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"threshold": 0.6, "patience": 1}, 40),  # 2 of 3
        ({"threshold": 0.6, "patience": 2}, 50),
        ({"threshold": 0.7, "patience": 2}, 60),
        ({"threshold": 0.75, "patience": 1}, 50),  # 3 of 4 is at the threshold
        ({"threshold": 1.0, "patience": 2}, 70),
        ({"threshold": 1.0, "patience": 3}, None),
        ({"threshold": 0.6, "patience": 1, "min_tickets": 4}, 50),
        ({"threshold": 0.6, "patience": 1, "min_tickets": 5}, None),
    ],
)
def test_settled(rule, wanted):
    assert settled_at(GROWING, **rule) == wanted


def test_equal_empty_sets_never_settle_and_a_relapse_starts_anew():
    assert settled_at(checks_of(*[set()] * 9), threshold=0.1, patience=1) is None
    relapse = checks_of({1, 2}, {1, 2}, {8, 9}, {8, 9}, {8, 9})
    assert settled_at(relapse, threshold=0.9, patience=2) == 50
    assert settled_at([], patience=1) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"every": 2.5}, r"every is 2\.5"),
        ({"alpha": 0.0}, r"alpha is 0\.0"),
        ({"alpha": 1.0}, r"alpha is 1\.0"),
        ({"threshold": 0.0}, r"threshold is 0\.0"),
        ({"threshold": 1.1}, r"threshold is 1\.1"),
        ({"patience": 0}, "patience is 0"),
        ({"min_tickets": 0}, "min_tickets 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        KSCallback(**settings)


def test_there_are_no_tickets_before_a_check():
    with pytest.raises(UserError, match="no check was made yet"):
        _ = KSCallback().tickets


class Holder(nn.Module):
    """A model with nothing but an input embedding."""

    def __init__(self, embedding: nn.Module | None) -> None:
        super().__init__()
        self.embedding = embedding

    def get_input_embeddings(self) -> nn.Module | None:
        return self.embedding


def test_trained_rows_of_a_base_are_its_own_in_the_type_that_is_trained(untied_model):
    checkpoint = open_checkpoint(str(untied_model))
    whole = checkpoint.rows(np.arange(384))
    plain = TrainedRows.of(Holder(nn.Embedding(384, 32, dtype=torch.bfloat16)))
    assert plain.ids.tolist() == list(range(384))
    assert torch.equal(plain.values_in(untied_model), whole.bfloat16())
    ids = np.array([2, 7, 383])
    some = TrainedRows.of(Holder(RowEmbedding(nn.Embedding(384, 32, dtype=torch.bfloat16), ids, torch.zeros(3, 32))))
    assert some.ids.tolist() == ids.tolist()
    assert torch.equal(some.values_in(checkpoint), whole[ids])


def test_what_is_no_embedding_of_rows_is_refused():
    with pytest.raises(UserError, match="a Linear has no input embedding"):
        TrainedRows.of(nn.Linear(3, 3))
    with pytest.raises(UserError, match="the input embedding is a Linear"):
        TrainedRows.of(Holder(nn.Linear(3, 3)))
    sharded = nn.Embedding(8, 4)
    sharded.weight = nn.Parameter(torch.empty(0))
    with pytest.raises(UserError, match=r"sharded to shape \(0,\)"):
        TrainedRows.of(Holder(sharded))
