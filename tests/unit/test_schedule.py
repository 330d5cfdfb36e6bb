"""A schedule keeps the order that stages need, and its time lies between bounds that hold for any such schedule."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ks_lottery.recipes.schedule import Schedule, makespan


@st.composite
def stages(draw):
    """Return what up to nine stages read, and the seconds of each."""
    count = draw(st.integers(1, 9))
    needs = {str(n): [str(i) for i in sorted(draw(st.sets(st.integers(0, n - 1))) if n else [])] for n in range(count)}
    return needs, {name: draw(st.integers(0, 20)) for name in needs}


def longest_chain(needs, seconds):
    @cache
    def until(name):
        return seconds[name] + max((until(source) for source in needs[name]), default=0)

    return max(until(name) for name in needs)


@given(stages(), st.integers(1, 4))
def test_the_time_is_between_the_bounds_of_graham(made, workers):
    needs, seconds = made
    total, chain = sum(seconds.values()), longest_chain(needs, seconds)
    time = makespan(needs, seconds, workers)
    assert max(chain, total / workers) <= time <= total / workers + chain * (workers - 1) / workers + 1e-9


@given(stages())
def test_one_worker_takes_the_sum_and_many_take_the_longest_chain(made):
    needs, seconds = made
    assert makespan(needs, seconds, 1) == sum(seconds.values())
    assert makespan(needs, seconds, len(needs)) == longest_chain(needs, seconds)


@given(stages(), st.data())
def test_each_stage_begins_once_after_all_that_it_reads(made, data):
    needs, seconds = made
    schedule, finished, running = Schedule(needs, seconds), [], []
    while not schedule.is_done:
        ready = schedule.ready()
        assert set(ready) == {
            name for name in needs if name not in {*finished, *running} and set(needs[name]) <= set(finished)
        }
        if ready and (not running or data.draw(st.booleans())):
            running.append(ready[0])
            schedule.begin(ready[0])
        elif data.draw(st.booleans()) and len(finished) + len(running) < 30:
            name = running.pop()
            schedule.again(name)
            running.append(name)
            schedule.begin(name)
        else:
            finished.append(running.pop(0))
            schedule.finish(finished[-1])
    assert sorted(finished) == sorted(needs)
    assert schedule.finished == len(needs)


def test_the_stage_that_the_longest_chain_begins_with_is_first():
    needs = {"short": [], "long": [], "later": ["long"], "last": ["later"]}
    assert Schedule(needs, {"short": 2, "long": 1, "later": 1, "last": 1}).ready() == ["long", "short"]
    assert makespan(needs, {"short": 2, "long": 1, "later": 1, "last": 1}, 2) == pytest.approx(3)
