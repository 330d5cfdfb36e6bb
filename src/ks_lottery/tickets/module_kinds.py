"""Kinds of modules in a scan of a whole model: what changed in attention, feed-forward layers, LayerNorm and embeddings."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.stats.null import critical_count
from ks_lottery.tickets.power import check_alpha

if TYPE_CHECKING:
    from ks_lottery.tickets.scan import Scan

KINDS = {
    "LayerNorm": r"norm|(^|\.)ln_",
    "attention": r"attn|attention",
    "feed-forward": r"mlp|feed_forward|ffn|(^|\.)fc\d|expert|gate",
    "embedding": r"embed|(^|\.)w[tp]e\b|lm_head",
}
"""Kind of a module to a pattern for the names of its tensors; the first that matches counts: a norm in attention is a norm."""


def kind_of(tensor: str) -> str:
    """Return the kind of the module that a tensor belongs to, by its name; ``other`` where no pattern matches.

    >>> kind_of("model.layers.3.self_attn.q_proj.weight"), kind_of("model.layers.3.input_layernorm.weight")
    ('attention', 'LayerNorm')
    >>> kind_of("h.0.mlp.c_fc.weight"), kind_of("transformer.wte.weight"), kind_of("rotary.inv_freq")
    ('feed-forward', 'embedding', 'other')
    """
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, tensor.lower())), "other")


def by_kind(scan: Scan, alpha: float) -> list[dict[str, Any]]:
    """Return what a scan found in each kind of module, in plain values, in the order of `KINDS`.

    Returns
    -------
    list
        For each kind that the scan has: ``kind``, ``units``, ``moved``, ``passing`` (units with p < alpha), the smallest p as
        ``log_pvalue``, and of the unit with that p ``statistic`` (D), ``width`` and ``critical_statistic`` (the smallest D with
        p < alpha at this width; None where no D passes) and ``tensor``.

    Raises
    ------
    UserError
        When alpha is not in [0, 1].
    """
    check_alpha(alpha)
    log_p, statistics = scan.log_pvalues, scan.statistics
    passes = np.zeros(len(scan), dtype=bool)
    passes[scan.passing(alpha)] = True
    units: dict[str, list[np.ndarray[Any, np.dtype[np.int64]]]] = {}
    for part in scan.parts:
        units.setdefault(kind_of(part.tensor), []).append(np.arange(part.start, part.start + part.count))
    found: list[dict[str, Any]] = []
    for kind in (*KINDS, "other"):
        if kind not in units:
            continue
        own = np.concatenate(units[kind])
        first = int(own[np.lexsort((-statistics[own], log_p[own]))[0]])
        part = scan.part_of(first)
        critical = critical_count(part.width, alpha)
        found.append(
            {
                "kind": kind, "units": len(own), "moved": int(np.count_nonzero(scan.moved[own])),
                "passing": int(passes[own].sum()),
                "log_pvalue": float(log_p[first]) if math.isfinite(log_p[first]) else None,
                "statistic": float(statistics[first]), "width": part.width,
                "critical_statistic": critical / part.width if critical <= part.width else None, "tensor": part.tensor,
            }
        )  # fmt: skip
    return found
