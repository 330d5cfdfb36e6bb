"""The rows of a scan as the page's table reads them: values of 16 bits, compressed; ranks are computed in the page."""

from __future__ import annotations

import gzip
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.corpus.token_kinds import KINDS
from ks_lottery.report.forms import printable
from ks_lottery.report.page_parts import RowTable
from ks_lottery.report.vega_maps import distributions
from ks_lottery.stats.null import critical_count, log_pvalues

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.tickets.scan import Scan
    from ks_lottery.tickets.span_counts import SpanCounts

MOST_MOVED, FIRST_MOVED = 50_000, 20_000
"""Rows that moved from which on only k, the move and the frequency travel beyond the first by p, and how many are the first."""

ZERO, STEPS = 32_768, 32_766
"""Code of 0, and steps of the logarithm on each side of it; code 0 is a value that is not defined."""

SCORES = {
    "cos": ("cos", 0.0), "absolute": ("absolute", 0.0), "absolute_signed": ("absolute, signed", 0.0),
    "relative": ("relative", 1.0), "kl": ("kl", 0.0),
}  # fmt: skip
"""Rival score to its name in the table, and its value in a row that did not move."""


def packed(array: npt.NDArray[Any] | bytes) -> str:
    """Return bytes, of numbers little-endian, compressed (gzip, the same bytes for the same content) and as base64."""
    raw = array if isinstance(array, bytes) else array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return b64encode(gzip.compress(raw, compresslevel=6, mtime=0)).decode()


def codes_of(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return values as codes of 16 bits: steps of a logarithm on both sides of 0; NaN and infinity have the code 0.

    The largest relative error of a value is half a step: for values from 1e-6 to 10, 0.03%.
    """
    finite = np.isfinite(values)
    size = np.abs(np.where(finite, values, 0.0))
    some = size[size > 0]
    low, high = (float(np.log(some.min())), float(np.log(some.max()))) if len(some) else (0.0, 1.0)
    step = max((high - low) / STEPS, 1e-12)
    with np.errstate(divide="ignore"):
        steps = np.clip(np.rint((np.log(size) - low) / step), 0, STEPS).astype(np.int64)
    codes = np.where(values > 0, ZERO + 1 + steps, ZERO - 1 - steps)
    codes = np.where(size == 0, ZERO, codes)
    return {"low": low, "step": step, "plain": False, "data": packed(np.where(finite, codes, 0).astype(np.uint16))}


def row_table(
    scan: Scan,
    tokens: Sequence[str] | None,
    kinds: npt.NDArray[np.uint8] | None,
    alpha: float,
    *,
    spans: SpanCounts | None = None,
    attribution: Attribution | None = None,
    more_command: str = "",
) -> RowTable:
    """Return the table of all rows of a scan of one tensor.

    Parameters
    ----------
    tokens, kinds
        Token string of each row, and its place in `KINDS`; None where they are not known.
    spans
        How often each token stands in the instruction, the source and the target of the training text.
    attribution
        What the scanned tuning recorded of each row.
    more_command
        Command that saves the distributions of more rows.
    """
    width, count = scan.width, len(scan)
    order = scan.by_pvalue()
    moved = order[scan.moved[order] > 0]
    first = moved[:FIRST_MOVED] if len(moved) > MOST_MOVED else moved
    columns: list[dict[str, Any]] = [
        {"name": "move", "title": "move", "ranked": False, "rest": 0, **codes_of(scan.spread[moved])},
        *(
            {"name": name, "title": title, "ranked": True, "rest": rest if len(first) == len(moved) else None,
             **codes_of(getattr(scan, name)[first])}
            for name, (title, rest) in SCORES.items()
            if np.isfinite(getattr(scan, name)[first]).any()
        ),
    ]  # fmt: skip
    if attribution is not None and len(attribution.ids):
        at = np.searchsorted(attribution.ids, first).clip(max=len(attribution.ids) - 1)
        known = attribution.ids[at] == first
        columns += [
            {"name": name, "title": name, "ranked": True, "rest": None, **codes_of(np.where(known, values[at], np.nan))}
            for name, values in attribution.scores.items()
        ]
    lines = [] if tokens is None else [text if text.isprintable() else printable(text) for text in tokens]
    largest = int(scan.counts.max(initial=0))
    notes = [
        "move: mean absolute change over the row's standard deviation before; rank 1 is the largest value of a score."
    ]
    if len(first) < len(moved):
        notes.append(
            f"Only the first {len(first):,} of {len(moved):,} rows that moved have ranks by the rival scores here."
        )
    payload: dict[str, Any] = {
        "count": count, "width": width, "alpha": alpha, "critical": critical_count(width, alpha),
        "log_p": [round(float(value), 6) for value in log_pvalues(width)[: largest + 1]],
        "tokens": packed("\n".join(lines).encode()), "moved": packed(moved.astype(np.uint32)),
        "counts": packed(scan.counts[moved].astype(np.uint16)), "columns": columns,
        "kinds": None if kinds is None else packed(kinds.astype(np.uint8)), "kind_names": list(KINDS),
        "spans": None if spans is None else {
            "rows": packed(spans.ids.astype(np.uint32)),
            "counts": {name: packed(values.astype(np.uint32)) for name, values in spans.counts.items()},
        },
        "quantiles": _quantiles(scan), "distributions": distributions([], []), "note": " ".join(notes),
        "more_quantiles": "The distributions of this row were not saved with the scan, which has those of its first rows by p."
        + (" This saves those of more:" if more_command else ""),
        "more_command": more_command,
    }  # fmt: skip
    return RowTable(name="rows", payload=payload)


def _quantiles(scan: Scan) -> dict[str, Any] | None:
    known = scan.quantiles
    if known is None or not len(known.units):
        return None
    return {
        "rows": known.units.tolist(), "each": int(known.before.shape[1]),
        "before": packed(known.before.astype(np.float32)), "after": packed(known.after.astype(np.float32)),
    }  # fmt: skip
