"""How values become text."""

from __future__ import annotations

import math

import mpmath
import pytest

from ks_lottery.report.forms import FORMS, duration, printable, pvalue, show, size


@pytest.mark.parametrize("log_p", [0.0, -0.001, math.log(0.0099999), -7.3, -700.0, -745.2, -1000.0, -123456.7])
def test_pvalues_are_those_of_mpmath_also_where_they_underflow(log_p):
    mpmath.mp.dps = 30
    mantissa, exponent = pvalue(log_p).split("e")
    wanted = mpmath.exp(log_p)
    shown = mpmath.mpf(mantissa) * mpmath.mpf(10) ** int(exponent)
    assert abs(shown / wanted - 1) < 0.0051
    assert len(mantissa) == 4


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (220_448, "220 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"),
        (4_867_576, "4.9 MB"), (999_960_000, "1.0 GB"), (2_340_000_000, "2.3 GB"), (5_000_000_000_000, "5000.0 GB"),
    ],
)  # fmt: skip
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (120, "2 min"), (7200, "2.0 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_nothing_that_acts_on_a_terminal_is_shown():
    text = "".join(map(chr, range(0x250))) + "\u200b\u2028\u202e\ud800\x9b31m"
    shown = printable(text)
    assert shown.isprintable()
    assert "a" in shown
    assert "\\x1b" in shown
    assert printable("汉字 [bold]:smile:") == "汉字 [bold]:smile:"


@pytest.mark.parametrize("form", [*FORMS, ".4f", "+.2f", "d", "g"])
def test_strings_and_nothing_have_no_form(form):
    assert show("never", form) == "never"
    assert show(None, form) == "-"
    assert show("a\x07", form) == r"a\x07"


def test_pairs_are_intervals():
    assert show([0.25, 0.5], "interval") == "0.250-0.500"
    assert show((29.04, 33.46), ".1f") == "29.0-33.5"
    assert show((-7.0, 4.04), "+.2f") == "-7.00 to +4.04"
