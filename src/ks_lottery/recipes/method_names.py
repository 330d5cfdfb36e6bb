"""What the methods of a run are called: those that every run has, and the draws of random rows."""

from __future__ import annotations

from ks_lottery.config.choices import RANDOM_DRAWS

ORIGINAL = "original"
"""The method that changes nothing."""

BASIC_METHODS = (ORIGINAL, "embed", "partial", "transfer")
"""What every run has."""

RANDOM = "random"
"""What the draws of random rows are called together."""

DRAWS = tuple(f"{RANDOM}-{number + 1}" for number in range(RANDOM_DRAWS))
"""Method of each draw."""


def methods_of(rival: str) -> tuple[str, ...]:
    """Return the methods that stand for a rival: its draws, or itself."""
    return DRAWS if rival == RANDOM else (rival,)
