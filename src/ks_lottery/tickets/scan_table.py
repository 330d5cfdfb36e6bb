"""A scan as one table: the columns of its file and of its data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.config.choices import SCORES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.tickets.scan import Scan

MEASURED = ("moved", "zeros", "distance", "largest", "spread", "cos", "absolute", "absolute_signed", "relative", "kl")
"""Columns that the file has as the scan has them."""


def table_columns(scan: Scan, tokens: Sequence[str] | None = None) -> dict[str, Any]:
    """Return one entry a unit: tensor, row, token where the strings are given, k, D, p, log p, moves, rivals and ranks."""
    import pyarrow as pa

    names = pa.array([part.tensor for part in scan.parts])
    place = np.concatenate([np.full(part.count, i, dtype=np.int32) for i, part in enumerate(scan.parts)])
    columns: dict[str, Any] = {"tensor": pa.DictionaryArray.from_arrays(place, names), "row": scan.rows}
    if tokens is not None:
        columns["token"] = [text for part in scan.parts for text in scan.tokens_of(part, tokens)]
    return columns | {
        "count": scan.counts,
        "statistic": scan.statistics,
        "pvalue": scan.pvalues,
        "log_pvalue": scan.log_pvalues,
        **{name: getattr(scan, name) for name in MEASURED},
        "ratio": scan.ratio,
        **{f"rank_{name.replace('-', '_')}": scan.rank(name) for name in SCORES},
    }
