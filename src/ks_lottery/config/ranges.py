"""Ranges of numbers: declared beside a setting, checked when settings are made, and named in errors and help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ks_lottery.errors import UserError, shortened

MOST = 2**31 - 1
"""Largest whole number of any setting but a seed: what NumPy, torch and file formats take everywhere."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`; NaN and infinity are in no range.

    Parameters
    ----------
    kind
        ``int`` for whole numbers alone; a ``float`` may be whole.
    low, high
        Bounds.
    above, below
        Whether the lower bound, or the upper one, is itself outside.
    """

    kind: type = float
    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        """Say whether a number is in the range."""
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under and value not in {math.inf, -math.inf}

    @property
    def is_limit(self) -> bool:
        """Whether the upper bound is so high that only a mistyped number is above it."""
        return not self.below and self.high >= 1e6

    @property
    def is_obvious(self) -> bool:
        """Whether the help need not say it: counts, and seeds."""
        return self.is_limit and not self.above and self.low in {0, 1}

    def wanted(self, value: float = math.nan) -> str:
        """Return what a number must be, to follow "must be"; a bound that only `value` could reach is left out.

        >>> Range(low=1, high=MOST).wanted(0), Range(low=1, high=MOST).wanted(10**12)
        ('1 or more', 'from 1 to 2,147,483,647')
        >>> Range(low=0, high=1, below=True).wanted(), Range(low=0, high=1, above=True, below=True).wanted()
        ('from 0 to below 1', 'between 0 and 1')
        """
        if self.is_limit and not value > self.high:
            return f"above {self.low:,}" if self.above else f"{self.low:,} or more"
        if self.above and self.below:
            return f"between {self.low:,} and {self.high:,}"
        start = f"above {self.low:,} and at most" if self.above else f"from {self.low:,} to"
        return f"{start} {'below ' if self.below else ''}{self.high:,}"


COUNT = Range(kind=int, low=1, high=MOST)
"""A number of things of which at least one is needed."""

WHOLE = Range(kind=int, low=0, high=MOST)
"""A number of things, none included."""

SEED = Range(kind=int, low=0, high=2**32 - 1)
"""What NumPy and torch both take as a seed."""

SHARE = Range(low=0, high=1)
"""A probability or a share, 0 and 1 included."""

LEVEL = Range(low=0, high=1, above=True, below=True)
"""A probability or a share, neither 0 nor 1."""

FACTOR = Range(low=0, high=10**6, above=True)
"""A learning rate or a number of epochs: above 0, and not absurd."""

STRENGTH = Range(low=0, high=10**6)
"""A decay or a norm: 0 switches it off."""


def check_number(name: str, value: object, within: Range) -> None:
    """Refuse what is no number of a range's kind, or is out of the range.

    Parameters
    ----------
    name
        What the user calls the setting.
    value
        Numbers of NumPy are numbers too; True and False are none.

    Raises
    ------
    UserError
        When the value is of another kind, is NaN or infinite, or is out of range.
    """
    number = _number(value, within.kind)
    if number is None:
        wanted = "a whole number" if within.kind is int else "a number"
        raise UserError(f"{name} is {shortened(value)}, but must be {wanted}")
    if number not in within:
        raise UserError(f"{name} is {shortened(value)}, but must be {within.wanted(number)}")


def _number(value: Any, kind: type) -> float | None:
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        return None
    try:
        return value.__index__() if isinstance(value, int) or kind is int else value.__float__()
    except (AttributeError, TypeError):
        return None
