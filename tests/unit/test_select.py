"""Where no row is a ticket: refused by each step, with a learning rate that is then shown to find tickets."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from ks_lottery import UserError, open_checkpoint, read_corpus, scan, select, to_merged, to_peft, tune
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.cli.main import main
from ks_lottery.models.load import load_model
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.transfer import transfer

pytestmark = pytest.mark.filterwarnings("ignore::ks_lottery.LearningRateWarning")

NONE = Tickets(rows=np.array([], dtype=np.int64), rule={"selector": "ks", "alpha": 0.05})
RATE = re.compile(r"learning rate of about ([0-9.e-]+)")


@pytest.fixture(scope="module")
def loaded(narrow_model):
    return load_model(narrow_model, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def text(text_file):
    return read_corpus(text_file, source_language="en", target_language="ca", limit=120)


@pytest.fixture(scope="module")
def slow(loaded, text):
    return tune(loaded, text, learning_rate=1e-4, epochs=1)


@pytest.fixture(scope="module")
def slow_scan(loaded, slow):
    return scan(loaded, slow)


def finds_tickets(loaded, text, rate: float) -> bool:
    return len(select(scan(loaded, tune(loaded, text, learning_rate=rate, epochs=1)), allow_empty=True)) > 0


def test_select_names_a_learning_rate_that_finds_tickets(loaded, text, slow_scan):
    with pytest.raises(UserError, match="no row is a ticket: the largest D is") as refused:
        select(slow_scan)
    rate = float(RATE.search(str(refused.value))[1])
    factor = slow_scan.power(0.05)["needed"]
    assert rate == pytest.approx(1e-4 * factor, rel=0.1)
    assert finds_tickets(loaded, text, 2 * rate)  # twice: D differs from one training to another
    assert not finds_tickets(loaded, text, rate / 4)


def test_select_says_what_it_cannot_know(loaded, slow, slow_scan):
    other = scan(loaded, dataclasses.replace(slow, settings={}))
    with pytest.raises(UserError, match=r"Tune with a learning rate, since moves [0-9.]+ times as large would do"):
        select(other)
    for call in ({"alpha": 0.001}, {"correction": "bonferroni"}):  # the factor is known for alpha 0.05 alone
        with pytest.raises(UserError, match=r"Tune with a larger learning rate \(not measured here\)") as refused:
            select(slow_scan, **call)
        assert float(RATE.search(str(refused.value))[1]) > 1e-3  # that of the base, which is on this machine
    same = dataclasses.replace(slow, values=loaded.checkpoint.rows(slow.ids))
    with pytest.raises(UserError, match="none of the 384 rows moved"):
        select(scan(loaded, same))
    with pytest.raises(UserError, match="no row is selected by selector ks, top_k 0"):
        select(slow_scan, top_k=0)
    assert len(select(slow_scan, allow_empty=True)) == 0


def test_the_command_writes_nothing_unless_it_is_asked_to(slow_scan, tmp_path, capfd):
    file, out = tmp_path / "scan.parquet", tmp_path / "tickets.json"
    slow_scan.save(file)
    assert main(["select", str(file), "--out", str(out)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert RATE.search(line)
    assert not out.exists()
    assert main(["select", str(file), "--out", str(out), "--allow-empty"]) == 0
    assert len(Tickets.open(out)) == 0


def test_tune_and_transfer_name_a_learning_rate_that_finds_tickets(loaded, text, slow):
    rates = set()
    for call in (
        lambda: tune(loaded, text, method="partial", tickets=NONE),
        lambda: tune(loaded, text, method="random", tickets=NONE),
        lambda: transfer(loaded.checkpoint, slow, NONE),
    ):
        with pytest.raises(UserError, match="the tickets are an empty set") as refused:
            call()
        rates.add(float(RATE.search(str(refused.value))[1]))
    (rate,) = rates
    assert finds_tickets(loaded, text, rate)
    with pytest.raises(UserError, match="no row is frozen"):
        tune(loaded, text, method="frozen", tickets=NONE)
    assert len(transfer(loaded.checkpoint, slow, NONE, allow_empty=True)) == 0


def test_a_patch_that_changes_no_ticket_is_refused(loaded, slow, tmp_path, capfd):
    rows = np.setdiff1d(np.arange(384), slow.ids)[:2]
    strangers = Tickets(rows=rows, rule={"selector": "given"})
    with pytest.raises(UserError, match="does not change any of the 2 tickets"):
        transfer(loaded.checkpoint, slow, strangers)
    slow.save(tmp_path / "embed")
    strangers.save(tmp_path / "tickets.json")
    words = [str(loaded.checkpoint.folder), str(tmp_path / "embed"), "--tickets", str(tmp_path / "tickets.json")]
    assert main(["transfer", *words, "--out", str(tmp_path / "small")]) == 2
    assert "does not change any of the 2 tickets" in capfd.readouterr().err
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("write", [to_peft, to_merged])
def test_a_patch_without_rows_is_not_exported(write, loaded, text, tmp_path):
    base = open_checkpoint(loaded.checkpoint.folder)
    empty = RowPatch(np.empty(0, np.int64), base.rows(np.empty(0, np.int64)), base.describe())
    with pytest.raises(UserError, match="the patch changes no row: there is nothing to export") as refused:
        write(base, empty, tmp_path / "out")
    assert finds_tickets(loaded, text, float(RATE.search(str(refused.value))[1]))
    assert not (tmp_path / "out").exists()
