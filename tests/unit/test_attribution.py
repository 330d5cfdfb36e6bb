"""An attribution on disk."""

from __future__ import annotations

import numpy as np

from ks_lottery import Attribution


def test_an_attribution_survives_the_disk(tmp_path):
    scores = {"lca": np.array([0.1, 1 / 3]), "gradient": np.array([4.0, 1e-300])}
    known = Attribution(np.array([3, 5]), scores, np.array([7, 1]), {"patch": "abc"}, {"seed": 0})
    again = Attribution.open(known.save(tmp_path).parent)
    assert again.ids.tolist() == [3, 5]
    assert {name: again.scores[name].tolist() for name in again.scores} == {k: v.tolist() for k, v in scores.items()}
    assert again.occurrences.tolist() == [7, 1]
    assert (again.made_from, again.settings) == ({"patch": "abc"}, {"seed": 0})
    first = (tmp_path / "attribution.parquet").read_bytes()
    known.save(tmp_path)
    assert (tmp_path / "attribution.parquet").read_bytes() == first
