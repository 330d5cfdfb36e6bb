"""Tickets: their file and their set algebra."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ks_lottery import (
    RowPatch,
    Tickets,
    UserError,
    compare_tunings,
    explain,
    open_checkpoint,
    scan,
    select,
    tune,
)
from ks_lottery.cli.main import main
from ks_lottery.tuning.transfer import transfer


def test_tickets_survive_the_disk(make_scan, tmp_path):
    tickets = select(make_scan([40, 64, 40], 64))
    tickets.save(tmp_path / "tickets.json", ["'a'", "'\\n'", "'ü'"])
    again = Tickets.open(tmp_path / "tickets.json")
    assert again.rows.tolist() == tickets.rows.tolist()
    assert list(again.scores) == list(tickets.scores)
    assert again.rule == tickets.rule
    assert "'ü'" in (tmp_path / "tickets.json").read_text(encoding="utf-8")


def test_set_algebra_is_that_of_pythons_sets(make_scan):
    scan = make_scan([0, 60, 40, 50, 30], 64)
    a, b = select(scan, top_k=3), select(scan, alpha=0.001)
    assert a.rows.tolist() == [1, 3, 2]
    union, both, rest = b | a, a & b.head(2), a - b.head(2)
    assert both.rows.tolist() == [1, 3]
    assert rest.rows.tolist() == [2]
    assert set(union.rows.tolist()) == set(a.rows.tolist()) | set(b.rows.tolist())
    assert len(union.scores) == len(union)


def test_a_table_shows_what_the_selector_knew(make_scan):
    tickets = select(make_scan([40, 64, 40], 64))
    (section,) = tickets.sections({1: "'b'", 0: "'a'"}, most=2)
    assert [column.title for column in section.columns] == ["row", "token", "D", "p"]
    assert [row[:3] for row in section.rows] == [[1, "'b'", 1.0], [0, "'a'", 40 / 64]]
    (bare,) = Tickets(rows=np.array([5, 3]), rule={}).sections()
    assert bare.rows == [[5], [3]]


ABOUT = {"kind": "tickets", "format": 1, "made_from": {}, "settings": {"selector": "x"}}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "rows is None, but must be a list of tickets"),
        ({"row": 3}, "must be a list of tickets"),
        ([5], "ticket 1 is 5, but must have a row"),
        ([{"row": 1}, {"token": "a"}], "ticket 2 is .* must have a row"),
        ([{"row": -5}], "must have a row, a whole number from 0"),
        ([{"row": 1.5}], "must have a row"),
        ([{"row": True}], "must have a row"),
        ([{"row": "7"}], "must have a row"),
        ([{"row": 1 << 63}], "must have a row"),
        ([{"row": 5}, {"row": 4}, {"row": 5}], "row 5 is there twice, the second time as ticket 3"),
        ([{"row": 1, "token": 3}], "token of ticket 1 is 3, but must be a text"),
        ([{"row": 1, "statistic": "0.5"}], "statistic of ticket 1 is '0.5', but must be a number"),
        ([{"row": 1, "statistic": [1]}], "statistic of ticket 1"),
        ([{"row": 1, "log_pvalue": float("nan")}], "log_pvalue of ticket 1"),
    ],
)
def test_files_with_other_rows_are_refused(rows, message, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({**ABOUT, "rows": rows}))
    for read in (Tickets.open, Tickets.tokens):
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path / "t.json")
        assert "t.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": []}, "settings is .* must be an object"),
        ({"made_from": [1]}, "made_from is .* must be an object"),
        ({"made_from": {"base": "x"}}, "must be an object with a name and a fingerprint"),
        ({"made_from": {"base": {"fingerprint": 5}}}, "must be an object with a name and a fingerprint"),
        ({"made_from": {"compared": 3}}, "made_from does not name"),
        ({"format": "x"}, "newer"),
    ],
)
def test_files_with_another_manifest_are_refused(change, message, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({**ABOUT, "rows": [{"row": 1}], **change}))
    with pytest.raises(UserError, match=message):
        Tickets.open(tmp_path / "t.json")


def test_what_people_write_by_hand_is_taken(tmp_path):
    (tmp_path / "t.json").write_text(
        json.dumps(
            {"kind": "tickets", "format": 1, "rows": [{"row": 9, "token": "\x1b[31mX"}, {"row": 2, "pvalue": None}]}
        )
    )
    tickets = Tickets.open(tmp_path / "t.json")
    assert (tickets.rows.tolist(), tickets.rule, tickets.made_from) == ([9, 2], {}, {})
    assert Tickets.tokens(tmp_path / "t.json") == {9: "\x1b[31mX"}
    (tmp_path / "t.json").write_text(json.dumps({**ABOUT, "rows": []}))
    assert len(Tickets.open(tmp_path / "t.json")) == 0


@pytest.fixture(scope="module")
def other(tied_model, untied_model):
    """Tickets of the tied model, and what belongs to the untied one, whose rows are as many."""
    checkpoint = open_checkpoint(untied_model)
    ids = np.array([4, 9, 200])
    patch = RowPatch(ids, checkpoint.rows(ids) + 1, checkpoint.describe())
    tickets = Tickets(rows=ids, rule={}, made_from={"base": open_checkpoint(tied_model).describe()})
    return checkpoint, patch, tickets


def test_tickets_of_another_base_are_refused_wherever_they_are_taken(other, text_file):
    checkpoint, patch, tickets = other
    own = replace(tickets, made_from={"base": checkpoint.describe()})
    unknown = replace(tickets, made_from={})
    for call in (
        lambda t: tune(checkpoint, text_file, method="partial", tickets=t, epochs=0.1),
        lambda t: transfer(checkpoint, patch, t),
        lambda t: compare_tunings(patch, patch, t),
        lambda t: explain(t, scan(checkpoint, patch)),
    ):
        with pytest.raises(UserError, match=r"another base|of another base"):
            call(tickets)
        call(own)
        call(unknown)
    assert transfer(checkpoint, patch, tickets, force=True).ids.tolist() == [4, 9, 200]


def test_rows_past_the_base_are_refused_wherever_tickets_are_taken(other, text_file):
    checkpoint, patch, _ = other
    tickets = Tickets(rows=np.array([4, 384]), rule={})
    for call in (
        lambda: tune(checkpoint, text_file, method="partial", tickets=tickets),
        lambda: tune(checkpoint, text_file, method="frozen", tickets=tickets),
        lambda: transfer(checkpoint, patch, tickets),
        lambda: transfer(checkpoint, patch, tickets, force=True),
        lambda: explain(tickets, scan(checkpoint, patch)),
    ):
        with pytest.raises(UserError, match="row 384"):
            call()


def test_an_empty_set_is_not_trained(other, text_file, tmp_path, capfd):
    checkpoint, _, _ = other
    (tmp_path / "t.json").write_text(json.dumps({**ABOUT, "rows": []}))
    for method in ("partial", "random"):
        with pytest.raises(
            UserError,
            match=f"empty set, so that {method} tuning has no row to train. Embed tuning of .* needs a learning rate",
        ):
            tune(checkpoint, text_file, method=method, tickets=tmp_path / "t.json")
    words = ["tune", checkpoint.folder, "--train", text_file, "--method", "partial", "--tickets", tmp_path / "t.json"]
    assert main([str(word) for word in words]) == 2
    assert "empty set" in capfd.readouterr().err
