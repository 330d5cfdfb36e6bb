"""Saved distributions: quantiles against NumPy, and D of the test within what 128 quantiles can tell."""

from __future__ import annotations

import numpy as np
import pytest

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.load import open_checkpoint
from ks_lottery.store.files import write_table
from ks_lottery.tickets.compare import scan
from ks_lottery.tickets.distributions import NUMBER, quantiles_of_rows
from ks_lottery.tickets.scan import Scan


@pytest.fixture(scope="module")
def scanned(tied_model):
    import torch

    base = open_checkpoint(str(tied_model))
    ids = np.arange(5, 30)
    values = base.rows(ids).float()
    moved = values + 0.5 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    return scan(base, RowPatch(ids, moved, base.describe()), quantile_rows=10), values.numpy(), moved.numpy()


def test_quantiles_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=(4, 1000))
    wanted = np.quantile(values, (np.arange(NUMBER) + 0.5) / NUMBER, axis=1, method="inverted_cdf").T
    assert np.abs(quantiles_of_rows(values) - wanted).max() <= np.diff(np.sort(values, axis=1)).max()


def test_a_scan_has_the_distributions_of_its_first_rows(scanned, tmp_path):
    found, before, after = scanned
    first = np.sort(found.by_pvalue()[:10])
    assert found.quantiles.units.tolist() == first.tolist()
    assert np.array_equal(found.quantiles.before, quantiles_of_rows(before[first - 5]))
    assert np.array_equal(found.quantiles.after, quantiles_of_rows(after[first - 5]))
    again = Scan.open(found.save(tmp_path / "scan.parquet"))
    assert again == found
    assert np.array_equal(again.quantiles.units, first)
    assert np.array_equal(again.quantiles.after, found.quantiles.after)
    one = found.only(found.parts[0].tensor)
    assert np.array_equal(one.quantiles.before, found.quantiles.before)


def test_a_scan_without_distributions_opens(scanned, tmp_path):
    from dataclasses import replace

    old = replace(scanned[0], quantiles=None)
    assert Scan.open(old.save(tmp_path / "old.parquet")).quantiles is None


@pytest.mark.parametrize("damage", [[1.0, 0.0], [np.nan], ["a"]])
def test_damaged_distributions_are_refused(scanned, tmp_path, damage):
    import json

    import pyarrow.parquet as pq

    file = scanned[0].save(tmp_path / "scan.parquet")
    table = pq.read_table(file)
    about = json.loads(table.schema.metadata[b"ks-lottery"])
    columns = {name: table[name] for name in table.column_names}
    columns["before_quantiles"] = [damage if one is not None else None for one in table["before_quantiles"].to_pylist()]
    write_table(file, columns, about)
    with pytest.raises(UserError, match="quantiles are not"):
        Scan.open(file)
