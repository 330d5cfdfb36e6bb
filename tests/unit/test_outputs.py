"""What is read from an output: its first line, one line of all of it, and how many ended."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from ks_lottery.evaluation.outputs import Output, ended_share


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("La casa\nEnglish: The dog\nCatalan:", "La casa"), ("\n\r\n La  casa\r\nx", "La casa"), ("La casa", "La casa"),
        ("La\u2028casa\rx", "La\u2028casa"), ("\n \n", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_first_line_is_known_before_white_space_is_joined(text, line):
    output = Output(text=text, ended=True)
    assert output.first_line == line
    assert output.sentence.startswith(line)
    assert "\n" not in output.sentence


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 8), (5, 5)])
def test_the_ended_share_has_the_interval_of_scipy(count, total):
    outputs = [Output(text="a", ended=index < count) for index in range(total)]
    share = ended_share(outputs, 0.9)
    wanted = binomtest(count, total).proportion_ci(0.9, method="exact")
    assert (share["count"], share["outputs"], share["share"]) == (count, total, count / total)
    assert share["interval"] == pytest.approx((wanted.low, wanted.high))
    assert ended_share(outputs, None)["interval"] is None
