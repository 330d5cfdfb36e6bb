"""How values are shown: p-values that underflow, byte sizes, durations, intervals, text without control characters."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, ROUND_UP, Context, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOTHING = "-"
"""Shown for None."""


def printable(text: str) -> str:
    r"""Return `text` with control characters and other unprintable ones escaped, so that they cannot act on a terminal.

    >>> print(printable("a\x1b[2Jb\n"))
    a\x1b[2Jb\n
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def pvalue(log_p: float) -> str:
    """Return a p-value, also where p itself underflows.

    Parameters
    ----------
    log_p
        Natural logarithm of p.

    Examples
    --------
    >>> pvalue(math.log(0.05)), pvalue(-1000.0), pvalue(0.0), pvalue(-math.inf)
    ('5.00e-02', '5.08e-435', '1.00e+00', '0.00e+00')
    """
    if log_p == -math.inf:
        return "0.00e+00"
    exponent = math.floor(log_p / math.log(10))
    mantissa = math.exp(log_p - exponent * math.log(10))
    if mantissa >= 9.995:
        mantissa, exponent = 1.0, exponent + 1
    return f"{mantissa:.2f}e{exponent:+03d}"


def size(count: float) -> str:
    """Return a number of bytes, in powers of 1000.

    >>> size(24), size(4_600), size(999_999), size(1_500_000), size(2_340_000_000)
    ('24 B', '5 kB', '1.0 MB', '1.5 MB', '2.3 GB')
    """
    amount = float(count)
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1)):
        if round(amount, digits) < 1000:
            return f"{amount:.{digits}f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float) -> str:
    """Return a time.

    >>> duration(42.4), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which gets an "s" unless the number is 1.

    >>> counted(1, "tensor"), counted(1200, "row")
    ('1 tensor', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rounded_up(value: float, digits: int) -> str:
    """Return a number with so many digits that is not below the value, for a bound from above.

    >>> rounded_up(0.012341, 3), rounded_up(5.82, 2), rounded_up(0.5, 2)
    ('0.0124', '5.9', '0.5')
    """
    return f"{float(Decimal(value).normalize(Context(prec=digits, rounding=ROUND_UP))):.{digits}g}"


def rounded_down(value: float, places: int) -> str:
    """Return a number with so many decimal places that is not above the value, for a bound from below.

    >>> rounded_down(0.40089, 4), rounded_down(0.3, 3), rounded_down(1.0, 3), rounded_down(-0.00411, 4)
    ('0.4008', '0.299', '1.000', '-0.0042')
    """
    return str(Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_FLOOR))


def percent_down(value: float) -> str:
    """Return a share in percent with two decimal places, not above the value.

    >>> percent_down(0.95049), percent_down(1.0)
    ('95.04%', '100.00%')
    """
    return f"{Decimal(rounded_down(value, 4)).scaleb(2)}%"


def place(rank: float) -> str:
    """Return a place in an order; places that ties share can be halves.

    >>> place(1204.0), place(2.5)
    ('1,204', '2.5')
    """
    return f"{rank:,.0f}" if rank == int(rank) else f"{rank:,.1f}"


def interval(bounds: Sequence[float], spec: str = ".3f") -> str:
    """Return two bounds, each by `spec`; signed bounds have a word between them.

    >>> interval((0.25, 0.5)), interval((-0.5, 1.0), "+.2f")
    ('0.250-0.500', '-0.50 to +1.00')
    """
    low, high = bounds
    return f"{low:{spec}}{' to ' if '+' in spec else '-'}{high:{spec}}"


FORMS: dict[str, Callable[[Any], str]] = {
    "text": lambda value: printable(str(value)),
    "integer": lambda value: f"{value:,}",
    "pvalue": pvalue,
    "bytes": size,
    "percent": lambda value: f"{value:.1%}",
    "interval": interval,
    "duration": duration,
    "place": place,
}
"""Name of a form to what shows a value by it; ``pvalue`` takes log p."""


def show(value: Any, form: str = "text") -> str:
    """Return a raw value as text.

    Parameters
    ----------
    value
        A number, a string (shown as it is, whatever the form), None, or a pair of numbers (an interval).
    form
        Key of `FORMS`, or a Python format specification.

    Examples
    --------
    >>> show(0.12345, ".4f"), show(None, ".4f"), show("never", "integer"), show((0.1, 0.2), ".1f")
    ('0.1235', '-', 'never', '0.1-0.2')
    """
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return printable(value)
    if form in FORMS:
        return FORMS[form](value)
    return interval(value, form) if isinstance(value, tuple | list) else format(value, form)
