"""What a reader of parallel text is asked for, and what it returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ks_lottery.corpus.corpus import Pair

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What a reader is asked for.

    Parameters
    ----------
    path
        File to read.
    target
        The other one of two line-aligned files.
    source_language, target_language
        Codes or English names.
    source_column, target_column
        Names of columns or keys; numbers from 1 for a table without a header.
    """

    path: Path
    target: Path | None
    source_language: str
    target_language: str
    source_column: str | None
    target_column: str | None


Reader = Callable[[Request, Counter[str]], Iterable[Pair]]
"""Reads the pairs of a file in their order, and counts by reason what in it is no pair."""


def shortened(text: object, most: int = 200) -> str:
    """Return what another library says, for an error: its first characters.

    >>> shortened("well-formed", 4)
    'well…'
    """
    said = str(text)
    return said if len(said) <= most else f"{said[:most]}…"


def listed(names: Iterable[str]) -> str:
    """Return names for an error: the first 20, each cut to 40 characters.

    >>> listed(["source", "t" * 50])
    'source, tttttttttttttttttttttttttttttttttttttttt…'
    """
    every = [shortened(name, 40) for name in names]
    shown = every[:20]
    return ", ".join([*shown, *([f"and {len(every) - 20:,} more"] if len(every) > 20 else [])])
