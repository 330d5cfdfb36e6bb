"""What `workers` says without Ray, and which values it takes; workers themselves are tested in end_to_end/test_cluster.py."""

from __future__ import annotations

import sys

import pytest

from ks_lottery import UserError
from ks_lottery.cli.main import main
from ks_lottery.config.recipe_commands import ReproduceOptions


def test_without_ray_the_command_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["reproduce", "selectors", "--workers", "local:2"]) == 2
    assert capsys.readouterr().err == "ks-lottery: --workers needs Ray: pip install 'ks-lottery[cluster]'\n"


@pytest.mark.parametrize("where", ["local", "local:1", "local:1000", "auto", "10.0.0.1:6379", "head.example.org:6379"])
def test_where_workers_can_be(where):
    assert ReproduceOptions(recipe="selectors", workers=where).workers == where


@pytest.mark.parametrize(
    "where", ["local:0", "local:1001", "local:x", "2", "ray://10.0.0.1:10001", "host", "host:", "a b:1", ""]
)
def test_other_places_are_refused(where):
    with pytest.raises(
        UserError, match=r"^`workers` is .*, but must be local, local:N \(N from 1 to 1000\), HOST:PORT, or auto$"
    ):
        ReproduceOptions(recipe="selectors", workers=where)


def test_measuring_is_for_this_process(capsys):
    assert main(["reproduce", "selectors", "--workers", "local", "--dry-run", "--measure"]) == 2
    assert "--measure measures in this process alone: leave --workers out" in capsys.readouterr().err


@pytest.mark.parametrize("threads", ["0", "x", "-1", ""])
def test_a_number_of_threads_that_is_none_is_refused(threads, monkeypatch):
    from ks_lottery.recipes.cluster import connected

    monkeypatch.setitem(sys.modules, "ray", sys)  # it is not reached
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with (
        pytest.raises(UserError, match="^OMP_NUM_THREADS is .*, but must be a whole number from 1"),
        connected("local", "cpu"),
    ):
        pass
