"""Saved files: written whole, and refused when another kind of artifact or a newer version wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ks_lottery import Attribution, RowPatch, Scan, Tickets, UserError
from ks_lottery.certification.algorithm import Small, certify_predictions
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.store.files import read_json, read_table, replacing, write_table
from ks_lottery.store.manifest import FORMAT

KEY = b"ks-lottery"


def change_manifest(file: Path, **changes: Any) -> None:
    """Write a saved artifact again with another manifest, by the libraries of its file format alone."""
    if file.suffix == ".json":
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    elif file.suffix == ".parquet":
        table = pq.read_table(file)
        about = {**json.loads(table.schema.metadata[KEY]), **changes}
        pq.write_table(table.replace_schema_metadata({KEY: json.dumps(about)}), file)
    else:
        with safe_open(file, "pt") as opened:
            about = {**json.loads(opened.metadata()[KEY.decode()]), **changes}
        save_file(load_file(file), file, metadata={KEY.decode(): json.dumps(about)})


def predictions() -> Predictions:
    n = np.arange(6)
    columns = {"sentence": n // 3, "position": n % 3, "label": n, "first": n, "second": n + 1}
    return Predictions(
        **columns, log_p=-np.ones(6), p_first=np.full(6, 0.6), p_second=np.full(6, 0.2), made_from={"seed": 0}
    )


@pytest.fixture
def saved(make_scan, tmp_path) -> dict[str, tuple[Path, Any]]:
    """Every artifact that has a manifest: its file, and what opens it."""
    scan = make_scan([0, 9, 40, 3], 64)
    scan.save(tmp_path / "scan.parquet")
    predictions().save(tmp_path / "predictions.parquet")
    ids = np.array([1, 5])
    Attribution(ids, {"lca": np.ones(2), "gradient": np.ones(2)}, np.ones(2, dtype=np.int64)).save(tmp_path)
    Tickets(ids, {"by": "hand"}, {}).save(tmp_path / "tickets.json")
    RowPatch(ids, torch.ones(2, 4), {"name": "base"}).save(tmp_path)
    small = Small(name="transfer", rows=np.array([1]), predictions=predictions(), alpha=0.05)
    config = CertifyConfig(alphas=(0.05,))
    certify_predictions(predictions(), predictions(), [small], scan, config=config).save(tmp_path)
    openers = {
        "scan.parquet": Scan.open,
        "predictions.parquet": Predictions.open,
        "attribution.parquet": Attribution.open,
        "tickets.json": Tickets.open,
        "patch.safetensors": lambda _: RowPatch.open(tmp_path),
        "certificate.json": lambda path: read_json(path, "certificate"),
        "certificate.parquet": lambda path: read_table(path, "certificate"),
        "certificate-levels.parquet": lambda path: read_table(path, "certificate-levels"),
    }
    return {name: (tmp_path / name, opener) for name, opener in openers.items()}


NAMES = (
    "scan.parquet", "predictions.parquet", "attribution.parquet", "tickets.json", "patch.safetensors", "certificate.json",
    "certificate.parquet", "certificate-levels.parquet",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_newer_format_is_refused(saved, name):
    file, opener = saved[name]
    opener(file)
    change_manifest(file, format=FORMAT)
    opener(file)
    change_manifest(file, format=FORMAT + 1)
    with pytest.raises(UserError, match=r"written by a newer ks-lottery: update"):
        opener(file)


@pytest.mark.parametrize("name", NAMES)
def test_another_kind_is_refused(saved, name):
    file, opener = saved[name]
    change_manifest(file, kind="recipe")
    with pytest.raises(UserError, match=name):
        opener(file)


def test_a_format_that_is_no_number_is_refused(saved):
    for name in ("scan.parquet", "tickets.json"):
        file, opener = saved[name]
        change_manifest(file, format="2")
        with pytest.raises(UserError, match="newer"):
            opener(file)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_damaged_manifest_of_a_table_is_one_sentence(tmp_path, content):
    file = tmp_path / "a.parquet"
    write_table(file, {"x": [1]}, {"kind": "scan", "format": 1})
    pq.write_table(pq.read_table(file).replace_schema_metadata({KEY: content}), file)
    with pytest.raises(UserError, match=r"a\.parquet"):
        read_table(file, "scan")


@pytest.mark.parametrize("content", ["[1]", "{", "\ufeff{}"])
def test_a_file_that_is_no_json_object_is_one_sentence(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(file)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("old")

    def full(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="no space left"), replacing(file) as temporary:
        full(temporary)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
