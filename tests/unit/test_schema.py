"""Saved tables and manifests that somebody changed: one sentence that names file and column, and never a wrong figure."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ks_lottery import Attribution, Certificate, Scan, UserError
from ks_lottery.certification.algorithm import Small, certify_predictions
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.tickets.origin import saved_tokens


def predictions(seed=0):
    rng = np.random.default_rng(seed)
    sentence = np.repeat(np.arange(3), 4)
    first = rng.random(12) / 2 + 0.5
    return Predictions(
        sentence=sentence, position=np.tile(np.arange(4), 3), label=np.arange(12) % 3, log_p=-rng.random(12),
        first=rng.integers(0, 3, 12), second=rng.integers(3, 6, 12), p_first=first, p_second=(1 - first) * rng.random(12),
        made_from={"patch": "p"},
    )  # fmt: skip


def certificate(make_scan):
    scan, tuned = make_scan([0, 10, 40, 64], 64), predictions(1)
    small = [Small(f"{n} rows", np.arange(n), predictions(n), 0.5) for n in (1, 2)]
    return certify_predictions(predictions(0), tuned, small, scan, config=CertifyConfig())


@pytest.fixture(scope="module")
def saved(make_scan, tmp_path_factory):
    """One file of each kind, and how it is opened."""
    folder = tmp_path_factory.mktemp("saved")
    ids = np.array([2, 5, 9])
    scores = {"lca": np.array([0.1, -2.0, 3.0]), "gradient": np.array([1.0, 2.0, 3.0])}
    Attribution(ids, scores, np.array([1, 0, 7]), {"patch": "p"}, {"seed": 0}).save(folder)
    predictions().save(folder / "predictions.parquet")
    make_scan([0, 10, 40, 64], 64).save(folder / "scan.parquet", ["'a'", "'b'", "'c'", "'d'"])
    certificate(make_scan).save(folder)
    return {
        "scan": (folder / "scan.parquet", Scan.open),
        "attribution": (folder / "attribution.parquet", Attribution.open),
        "predictions": (folder / "predictions.parquet", Predictions.open),
        "certificate": (folder / "certificate.parquet", lambda file: Certificate.open(file.parent)),
    }


def changed(source, folder, change):
    """Copy a table, its columns and manifest changed."""
    for file in source.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    table = pq.read_table(source)
    about = json.loads(table.schema.metadata[b"ks-lottery"])
    columns = {name: table[name] for name in table.column_names}
    change(columns, about)
    made = pa.table(columns).replace_schema_metadata({"ks-lottery": json.dumps(about)})
    pq.write_table(made, folder / source.name)
    return folder / source.name


def column(name, values):
    return lambda columns, _: columns.update({name: values})


def without(name):
    return lambda columns, _: columns.pop(name)


def about(**more):
    return lambda _, content: content.update(more)


def setting(**more):
    return lambda _, content: content["settings"].update(more)


def part(**more):
    return lambda _, content: content["settings"]["parts"][0].update(more)


BAD = {
    "scan": [
        *((without(name), name) for name in ("row", "count", "moved", "zeros", "distance", "spread", "cos", "kl", "relative")),
        (column("count", [0, 10, 40, 65]), "count holds 65"),
        (column("count", [0, -1, 40, 64]), "count holds -1"),
        (column("count", [0.0, 10.0, 40.0, 64.0]), "count is of type float64"),
        (column("count", pa.array([0, None, 40, 64])), "count is of type float64"),
        (column("count", ["0", "10", "40", "64"]), "count is of type object"),
        (column("moved", [0, 0, 1, 1]), "did not move has a count above 0"),
        (column("moved", [0, 1, 1, 65]), "moved holds 65"),
        (column("row", [0, 1, 2, 4]), "does not count the units"),
        (column("distance", [0.0, math.nan, 1.0, 1.0]), "distance holds nan"),
        (column("spread", [0.0, 1.0, -1.0, 1.0]), "spread holds -1"),
        (column("cos", [0, 1, 1, 1]), "cos is of type int64"),
        (column("kl", [[0.0]] * 4), "kl is of type object"),
        (about(settings=3), "settings is 3, but must be an object"),
        (about(made_from=None), "made_from is None"),
        (setting(parts=[]), "parts is"), (setting(parts=[7]), "has no tensor"), (setting(parts={}), "parts is"),
        (part(width="64"), "width is '64'"), (part(width=1 << 40), "wider than those of any model"),
        (part(width=0), "width is 0"), (part(count=5), "has 4 rows, but its parts have 5"),
        (part(count=-4), "count is -4"), (part(start=1), "do not follow"), (part(more=1), "do not follow"),
        (part(tensor=None), "tensor is None"),
        (setting(vocabulary="x"), "vocabulary is not a list"), (setting(only_in_base=[1]), "only_in_base is not a list"),
        (setting(shortfall=3), "shortfall is not"), (setting(shortfall={"alpha": 2}), "shortfall is not"),
        (setting(shortfall=None, vocabulary=[1]), "vocabulary"), (setting(matched=[1]), "matched is not"),
        (setting(elsewhere="x"), "elsewhere is not"),
    ],
    "attribution": [
        *((without(name), f"has no column {name}") for name in ("row", "occurrences")),
        (column("row", [2, 9, 5]), "not in ascending order"), (column("row", [2, 2, 5]), "there twice"),
        (column("row", [-1, 2, 5]), "row holds -1"), (column("row", [1.0, 2.0, 5.0]), "row is of type float64"),
        (column("lca", [1, 2, 3]), "lca is of type int64"), (column("lca", [1.0, math.nan, 3.0]), "lca holds nan"),
        (column("gradient", [1.0, math.inf, 3.0]), "gradient holds inf"),
        (column("occurrences", [1, -1, 3]), "occurrences holds -1"),
        (lambda columns, _: [columns.pop(name) for name in ("lca", "gradient")], "has none of the columns"),
        (about(settings=[]), "settings"), (about(made_from={"base": 3}), "its base is 3"),
    ],
    "predictions": [
        *((without(name), f"has no column {name}") for name in ("sentence", "label", "log_p", "first", "p_second")),
        (column("p_first", np.full(12, 1.1)), "p_first holds 1.1"), (column("p_second", np.full(12, -0.1)), "p_second holds"),
        (column("p_second", np.full(12, 0.99)), "more probable than the first"),
        (column("p_first", np.full(12, math.nan)), "p_first holds nan"), (column("log_p", np.full(12, 0.5)), "log_p holds 0.5"),
        (column("log_p", np.full(12, math.nan)), "log_p holds nan"),
        (column("sentence", np.full(12, 1 << 40)), "sentence holds"), (column("sentence", np.arange(12)[::-1]), "not in order"),
        (column("position", np.zeros(12, dtype=np.int64)), "there twice"), (column("first", np.full(12, -1)), "first holds -1"),
        (column("label", np.full(12, 0.5)), "label is of type float64"), (about(made_from=3), "made_from is 3"),
    ],
    "certificate": [
        *((without(name), name) for name in ("model", "sentence", "half_gap_tuned", "theorem_empirical")),
        (column("half_gap_tuned", np.full(24, 2.0)), "half_gap_tuned holds 2"),
        (column("alpha", np.full(24, 7.0)), "alpha holds 7"),
        (column("small", np.full(24, -3)), "small holds -3"), (column("model", ["x"] * 24), "12 positions of each small model"),
        (column("theorem_empirical", [1] * 24), "no column theorem_empirical of true and false"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change", "message"), [(kind, *case) for kind, cases in BAD.items() for case in cases]
)
def test_a_changed_table_is_refused(kind, change, message, saved, tmp_path):
    source, read = saved[kind]
    file = changed(source, tmp_path, change)
    with pytest.raises(UserError, match=message) as caught:
        read(file)
    assert type(caught.value) is UserError
    assert file.name in str(caught.value)


@pytest.mark.parametrize("kind", BAD)
def test_an_unchanged_table_and_narrower_types_are_read(kind, saved, tmp_path):
    source, read = saved[kind]
    narrower = {"scan": "count", "attribution": "occurrences", "predictions": "first", "certificate": "small"}[kind]
    file = changed(source, tmp_path, lambda columns, _: columns.update({narrower: columns[narrower].cast(pa.int16())}))
    assert read(file) == read(source)


def test_tokens_need_their_tensor(saved, tmp_path):
    file = changed(saved["scan"][0], tmp_path, without("tensor"))
    with pytest.raises(UserError, match="has no column tensor"):
        saved_tokens(file, "embed_tokens.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (lambda c, key=key: c.pop(key), f"has no {key}")
            for key in ("small", "levels", "worst", "guarantees", "choice", "made_from", "positions", "full", "tau")
        ),
        (lambda c: c.update(positions=-1), "positions is -1"),
        (lambda c: c.update(original_accuracy=1.5), "original_accuracy is 1.5"),
        (lambda c: c.update(levels=[]), "empirical tau"),
        (lambda c: c.update(levels=[3]), "entry 1 of levels is 3, but must be an object"),
        (lambda c: c["levels"][0].pop("bounds"), "has no bounds in entry 1 of levels"),
        (lambda c: c["levels"][0]["bounds"].pop("empirical"), "empirical tau"),
        (lambda c: c["levels"][0]["bounds"]["empirical"].update(tau="x"), "tau is 'x'"),
        (lambda c: c["levels"][0]["bounds"]["empirical"]["rules"]["both"].update(rate=3), "rate is 3"),
        (lambda c: c["levels"][0]["bounds"]["empirical"]["rules"].pop("both"), "has no both"),
        (lambda c: c["levels"][0].update(alpha="0.5"), "alpha is '0.5'"),
        (lambda c: c.update(tau="other"), "tau is 'other', but it has no results for this tau"),
        (lambda c: c.update(half_gap_range=[1]), "half_gap_range"),
        (lambda c: c.update(worst=[{}]), "has no source"),
        (lambda c: c.update(guarantees=[1]), "entry 1 of guarantees"),
        (lambda c: c.update(choice=3), "choice is 3"),
        (lambda c: c.update(positions=1 << 60), "positions of each small model"),
    ],
)
def test_changed_sums_of_a_certificate_are_refused(change, message, saved, tmp_path):
    for file in saved["certificate"][0].parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "certificate.json").read_text())
    change(content)
    (tmp_path / "certificate.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        Certificate.open(tmp_path)
    assert type(caught.value) is UserError
