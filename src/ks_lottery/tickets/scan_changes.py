"""What fine-tuning changed, in numbers: moves by kind of token, rows that did not move, how far the others did, and layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.corpus.token_kinds import KINDS, kinds_of_shown
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ks_lottery.tickets.scan import Scan

SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Quantiles of the moves that are listed."""

MOST_STILL = 30
"""Rows that did not move which are listed."""

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|block)\.(\d+)\.")
"""Where the name of a tensor has the number of its layer."""

NO_LAYER = "outside"


def changes(
    scan: Scan, alpha: float, tokens: Sequence[str] | None = None, kinds: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return what changed, in plain values.

    Parameters
    ----------
    tokens, kinds
        Token string of each row of a vocabulary, and what kind of text it is; where only the strings are known, the kinds are
        read from them.

    Returns
    -------
    dict
        ``moves``: quantiles (`SHARES`) of move / spread of the units that moved. ``by_kind``: for each kind of token of the
        first vocabulary its ``rows``, ``moved``, ``share`` of moved rows, ``median_move`` of those (move / spread; None where
        none moved) and ``passing``, rows with p < alpha; None without token strings. ``still``: ``rows`` of the vocabulary that
        did not move at all, their ``share``, and the ``first`` of them with their tokens; None without a vocabulary.
        ``layers``: for each tensor its ``layer``, ``module``, ``units``, ``moved``, ``passing`` and the ``share`` that passes.
    """
    spread = scan.spread[np.isfinite(scan.spread) & (scan.moved > 0)]
    passes = np.zeros(len(scan), dtype=bool)
    passes[scan.passing(alpha)] = True
    vocabulary = next((part for part in scan.parts if scan.is_vocabulary(part)), None)
    by_kind, still = None, None
    if vocabulary is not None:
        units = scan.units(vocabulary)
        moved = scan.moved[units] > 0
        rows = np.flatnonzero(~moved)
        named = None if tokens is None or len(tokens) < vocabulary.count else tokens
        still = {
            "rows": len(rows), "share": float(len(rows) / len(moved)),
            "first": [
                {"row": row, **({} if named is None else {"token": named[row]})} for row in rows[:MOST_STILL].tolist()
            ],
        }  # fmt: skip
        if kinds is None and named is not None:
            kinds = kinds_of_shown(named)
        if kinds is not None:
            by_kind = _by_kind(kinds[: vocabulary.count], moved, scan.spread[units], passes[units])
    return {
        "moves": {f"{share:g}": float(value) for share, value in zip(SHARES, np.quantile(spread, SHARES), strict=True)}
        if len(spread)
        else {},
        "by_kind": by_kind,
        "still": still,
        "layers": [
            {
                "tensor": part.tensor, **dict(zip(("layer", "module"), place_of(part.tensor), strict=True)),
                "units": part.count, "moved": int(np.count_nonzero(scan.moved[scan.units(part)])),
                "passing": int(passes[scan.units(part)].sum()), "share": float(passes[scan.units(part)].mean()),
            }
            for part in scan.parts
        ],
    }  # fmt: skip


def _by_kind(
    kinds: Sequence[str], moved: npt.NDArray[np.bool_], spread: npt.NDArray[np.float64], passes: npt.NDArray[np.bool_]
) -> list[dict[str, Any]]:
    codes = codes_of_kinds(kinds)
    found: list[dict[str, Any]] = []
    for code, kind in enumerate(KINDS):
        of = codes == code
        if not of.any():
            continue
        moves = spread[of & moved & np.isfinite(spread)]
        found.append(
            {
                "kind": kind, "rows": int(of.sum()), "moved": int((of & moved).sum()), "share": float(moved[of].mean()),
                "median_move": float(np.median(moves)) if len(moves) else None, "passing": int(passes[of].sum()),
            }
        )  # fmt: skip
    return found


def codes_of_kinds(kinds: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the place of each kind in `KINDS`; a kind that this version does not know counts as no token."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return np.array([places.get(kind, len(KINDS) - 1) for kind in kinds], dtype=np.uint8)


def place_of(tensor: str) -> tuple[str, str]:
    """Return the layer of a tensor, and its module inside of the layer.

    >>> place_of("model.layers.11.self_attn.q_proj.weight"), place_of("model.embed_tokens.weight")
    (('11', 'self_attn.q_proj'), ('outside', 'embed_tokens'))
    """
    found = LAYER.search(tensor)
    rest = tensor[found.end() :] if found else tensor.removeprefix("model.").removeprefix("transformer.")
    return (found[1] if found else NO_LAYER), rest.removesuffix(".weight")


def kinds_section(changed: Mapping[str, Any], *, moved_alone: bool = False) -> Section:
    """Return the moves by kind of token as a table; empty where no token strings are known.

    Parameters
    ----------
    moved_alone
        Whether kinds of which no row moved are named in a sentence, and not in the table.
    """
    columns = [
        Column(title="kind of token"), Column(title="rows", form="integer"), Column(title="moved", form="integer"),
        Column(title="share moved", form="percent"), Column(title="median move", form=".3g"),
        Column(title="tickets", form="integer"),
    ]  # fmt: skip
    names = ("kind", "rows", "moved", "share", "median_move", "passing")
    kinds = changed["by_kind"] or ()
    rows = [[kind[name] for name in names] for kind in kinds if kind["moved"] or not moved_alone]
    others = [kind["kind"] for kind in kinds if not kind["moved"] and moved_alone]
    said = [f"No row moved of: {', '.join(others)}."] if others and rows else []
    return Section(title="Moves by kind of token", columns=columns, rows=rows, sentences=said) if rows else Section()


def still_sentence(changed: Mapping[str, Any]) -> str:
    """Say how many rows of the vocabulary did not move at all, and what that tells."""
    still = changed["still"]
    if still is None:
        return ""
    named = ", ".join(f"{row['row']} {row.get('token', '')}".strip() for row in still["first"][:8])
    more = f", such as {named}" if still["rows"] else ""
    return (
        f"{still['rows']:,} rows of the vocabulary ({still['share']:.1%}) did not move at all{more}. Where no weight decay "
        "acts, these are the tokens that the training never saw."
    )
