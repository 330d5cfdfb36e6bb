"""Table 6: two tunings compared, against SciPy and against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from ks_lottery import RowPatch, Tickets, UserError, compare_tunings

BASE = {"name": "base", "fingerprint": "f" * 64}


def patch(ids, seed: int, width: int = 40, base=BASE, **more) -> RowPatch:
    values = torch.randn(len(ids), width, generator=torch.Generator().manual_seed(seed))
    return RowPatch(np.array(ids, dtype=np.int64), values.round(decimals=1), base, **more)


def tickets(*rows: int, **made_from) -> Tickets:
    return Tickets(rows=np.array(rows, dtype=np.int64), rule={"selector": "test"}, made_from=made_from)


@pytest.fixture(scope="module")
def two():
    """Rows of all degrees of likeness; rows 3 and 50 are in one patch alone."""
    embed = patch([*range(20), 50], 1)
    partial = patch([i for i in range(20) if i != 3], 2)
    shift = torch.linspace(0, 2, 19).unsqueeze(1)
    return embed, replace(partial, values=embed.values[[i for i in range(20) if i != 3]] * (1 + shift) + shift)


def test_rows_are_tested_as_scipy_tests_them(two):
    embed, partial = two
    found = compare_tunings(embed, partial)
    rows = [i for i in range(20) if i != 3]
    assert found.rows.tolist() == rows
    for place, row in enumerate(rows):
        wanted = ks_2samp(
            embed.values[embed.ids == row][0].numpy(), partial.values[partial.ids == row][0].numpy(), method="exact"
        )
        assert found.statistics[place] == pytest.approx(wanted.statistic, abs=1e-12)
        assert found.pvalues[place] == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found.only_embed, found.only_partial, found.in_neither) == (2, 0, 0)
    assert found.width == 40
    assert len(set(found.counts.tolist())) > 5


def test_the_share_of_unchanged_rows_is_one_less_changed_over_all(two):
    found = {level: compare_tunings(*two, level=level) for level in (0.0, 0.01, 0.05, 0.5, 0.9, 1.0)}
    for level in (0.0, 0.01, 0.05, 0.5, 0.9):
        changed = sum(p < level for p in found[level].pvalues)
        assert found[level].unchanged == pytest.approx(1 - changed / 19)
    assert found[0.0].unchanged == 1
    assert found[1.0].unchanged == 0  # every row by definition, also the one that is the same in both
    assert 0 < found[0.05].unchanged < 1
    assert compare_tunings(*two).level == 0.05
    assert compare_tunings(*reversed(two)).unchanged == found[0.05].unchanged


def test_alpha_is_the_one_that_selected_the_tickets(two):
    """Table 6 has it; the level of the second test is another thing, and both are said."""
    embed, partial = two
    chosen = [i for i in range(20) if i != 3]
    by_p = Tickets(rows=np.array(chosen), rule={"selector": "ks", "alpha": 0.3})
    cell = compare_tunings(embed, partial, by_p, level=0.01)
    assert (cell.alpha, cell.level, cell.own_tickets) == (0.3, 0.01, True)
    (table, text, *_) = cell.sections()
    assert [column.title for column in table.columns][:2] == ["tickets at alpha", "level"]
    assert table.rows[0][:2] == [0.3, 0.01]
    assert "cell of the paper's table 6 for alpha 0.3" in text.sentences[-1]
    fewer = compare_tunings(embed, partial, replace(by_p, rows=by_p.rows[:5]))
    assert fewer.own_tickets is False
    assert "each alpha has a partial tuning of its own" in fewer.sections()[1].sentences[-1]
    for other in (None, tickets(7, 19), Tickets(rows=np.array([7]), rule={"selector": "ks", "top_k": 1})):
        cell = compare_tunings(embed, partial, other)
        assert cell.alpha is None
        said = cell.sections()[1].sentences[-1]
        assert "this is not a cell of the paper's table 6" in said
        assert ("and not by an alpha" in said) == (other is not None and "selector" in other.rule)


def test_tickets_choose_the_rows_and_the_others_are_counted(two):
    found = compare_tunings(*two, tickets(19, 3, 50, 7, 99))
    assert found.rows.tolist() == [7, 19]
    assert (found.only_embed, found.only_partial, found.in_neither) == (2, 0, 1)
    same = compare_tunings(two[0], two[0], tickets(1, 2))
    assert same.counts.tolist() == [0, 0]
    assert compare_tunings(two[0], two[0], tickets(1, 2), level=0.999).unchanged == 1


def test_wide_rows_have_an_exact_p():
    """SciPy goes over to the asymptotic p above 10,000 values; here the exact sum is asked for at any width."""
    a, b = patch([5], 1, width=10_400), patch([5], 2, width=10_400)
    found = compare_tunings(a, replace(b, values=b.values + 0.03))
    wanted = ks_2samp(a.values[0].numpy(), b.values[0].numpy() + np.float32(0.03), method="exact")
    assert found.pvalues[0] == pytest.approx(wanted.pvalue, rel=1e-6)


def test_sides_are_not_mixed():
    both = patch([1, 2], 1, side="both", output_values=torch.ones(2, 40))
    output = replace(patch([1, 2], 1), side="output")
    assert compare_tunings(both, output).side == "output"
    assert compare_tunings(both, both).side == "input"
    assert compare_tunings(both, both, side="output").counts.tolist() == [0, 0]
    with pytest.raises(UserError, match="input side and the other the output side"):
        compare_tunings(patch([1], 1), output)
    with pytest.raises(UserError, match="`side=input` was asked for"):
        compare_tunings(both, output, side="input")


@pytest.mark.parametrize(
    ("one", "other", "more", "named"),
    [
        (patch([1], 1), patch([1], 1, base={"name": "other", "fingerprint": "e" * 64}), {}, "different bases, base"),
        (patch([1], 1), patch([2], 1), {}, "no row in common: "),
        (patch([1], 1), patch([1], 1), {"tickets": tickets(4)}, "among the 1 tickets"),
        (patch([1], 1), patch([1], 1), {"level": 1.5}, "level is 1.5"),
        (patch([1], 1), patch([1], 1), {"level": float("nan")}, "level is nan"),
        (patch([1], 1), patch([1], 1, width=4), {}, "40 and 4 coordinates"),
        (patch([1], 1), patch([1], 1), {"tickets": tickets(1, base={"fingerprint": "d" * 64})}, "another base"),
        (patch([1, 7], 1), replace(patch([1, 7], 1), values=torch.tensor([[0.0] * 40, [float("nan")] * 40])), {}, "row 7"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(one, other, more, named):
    with pytest.raises(UserError, match=named):
        compare_tunings(one, other, **more)


def test_patches_and_tickets_are_opened_by_their_names(two, tmp_path):
    for name, one in zip(("embed", "partial"), two, strict=True):
        one.save(tmp_path / name)
    tickets(7, 19).save(tmp_path / "tickets.json")
    opened = compare_tunings(str(tmp_path / "embed"), tmp_path / "partial", tmp_path / "tickets.json")
    assert opened.counts.tolist() == compare_tunings(*two, tickets(7, 19)).counts.tolist()


def test_a_table_of_fewer_than_no_rows_is_refused(two):
    found = compare_tunings(*two)
    (cell, _, rows) = found.sections(3)
    assert [row[1] for row in cell.rows] == [0.05]
    assert [row[1] for row in rows.rows] == sorted(found.counts.tolist(), reverse=True)[:3]
    with pytest.raises(UserError, match="top is -1"):
        found.sections(-1)
