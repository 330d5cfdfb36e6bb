"""Table 8: sets of tickets side by side, against Python's own sets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ks_lottery import Tickets, UserError, select
from ks_lottery.report.terminal import print_sections
from ks_lottery.tickets.overlap import check_one_base, heads, side_by_side

BASE = {"name": "base", "fingerprint": "f" * 64}


def tickets(*rows: int, **made_from) -> Tickets:
    return Tickets(rows=np.array(rows, dtype=np.int64), rule={"selector": "test"}, made_from=made_from)


def test_sets_side_by_side_against_pythons_sets():
    sets = {"ca": tickets(9, 2, 5), "de": tickets(5, 7), "ro": tickets(5, 9, 1)}
    found = side_by_side(sets)
    plain = {name: set(one.rows.tolist()) for name, one in sets.items()}
    assert found.common.tolist() == sorted(set.intersection(*plain.values())) == [5]
    assert sorted(found.rows.tolist()) == sorted(set.union(*plain.values()))
    assert found.numbers.tolist() == [sum(row in one for one in plain.values()) for row in found.rows.tolist()]
    assert found.spread == {3: 1, 2: 1, 1: 3}
    assert side_by_side(sets, tokens={5: "'.'"}).table()[0] == {
        "row": 5,
        "token": "'.'",
        "sets": 3,
        "places": {"ca": 3, "de": 1, "ro": 1},
    }
    assert found.rows.tolist() == [5, 9, 1, 2, 7]  # most sets first, then by row
    assert side_by_side({"none": tickets()}).table() == []


def test_rows_of_different_bases_are_not_compared_by_number():
    one, other = tickets(1, base=BASE), tickets(1, base={"fingerprint": "e" * 64})
    with pytest.raises(UserError, match="a and b are tickets of different bases"):
        check_one_base({"a": one, "silent": tickets(1), "b": other}, {})
    with pytest.raises(UserError, match="row 1 is 'x' in a and 'y' in b"):
        check_one_base({"a": one, "b": one}, {"a": {1: "'x'"}, "b": {1: "'y'"}})
    check_one_base({"a": one, "b": one, "c": tickets(1)}, {"a": {1: "'x'"}, "b": {2: "'y'"}, "c": {1: "'x'"}})


def test_pairs_against_pythons_sets(make_scan):
    found = make_scan([0, 60, 40, 50, 30], 64)
    sets = {"a": select(found, top_k=3), "b": select(found, alpha=0.001).head(2), "none": tickets()}
    pairs = side_by_side(sets).pairs
    assert [(pair["one"], pair["other"]) for pair in pairs] == [("a", "b"), ("a", "none"), ("b", "none")]
    for pair in pairs:
        one, other = (set(sets[pair[side]].rows.tolist()) for side in ("one", "other"))
        assert pair["shared"] == len(one & other)
        assert pair["jaccard"] == len(one & other) / len(one | other)
    assert pairs[0]["rows"] == [1, 3]  # in the order of the first
    assert side_by_side({"x": tickets(), "y": tickets()}).pairs[0]["jaccard"] == 1


def test_heads_are_what_tells_files_apart():
    files = {name: Path(name) for name in ("runs/ca/tickets.json", "runs/de/tickets.json")}
    assert list(heads([*files, "ro"], {**files, "ro": Path("x.json")}).values()) == ["ca", "de", "ro"]
    assert heads(["runs/ca/tickets.json"], files) == {"runs/ca/tickets.json": "runs/ca/tickets"}


def test_many_sets_are_shown_in_tables_that_fit_the_terminal():
    names = [f"language-{i:02d}" for i in range(14)]
    rows = range(40_000, 40_004)
    strings = ("'[/INST]'", "'[bold]x'", "'" + "wide" * 12 + "'", "'汉字'")
    long = dict(zip(rows, strings, strict=True))
    sections = side_by_side({name: tickets(*rows) for name in names}, tokens=long).sections(30)[1:2]
    console = Console(width=100, file=io.StringIO(), soft_wrap=True, force_terminal=True, color_system=None)
    print_sections(console, sections)
    lines = console.file.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    text = "\n".join(lines)
    assert all(text.count(name) == 1 for name in names)
    assert text.count("40002") == text.count("token") == 3
    assert "'[/INST]'" in text
    assert "'[bold]x'" in text
    with pytest.raises(UserError, match="top is -1"):
        side_by_side({"a": tickets(1)}).sections(-1)


def test_the_ceiling_is_what_two_seeds_share(tmp_path):
    """Against Python's own sets: each seed cut to the size of the set that it stands for, in both orders."""
    sets = {"a": tickets(9, 2, 5), "b": tickets(5, 7)}
    seeds = {"one": tickets(1, 2, 3, 4), "two": tickets(2, 1, 9, 3), "three": tickets(4, 3, 2, 1)}
    found = side_by_side(sets, seeds=seeds)
    shared, jaccard = [], []
    for x, y in ((x, y) for x in seeds for y in seeds if x != y):
        first, second = set(seeds[x].rows.tolist()[:3]), set(seeds[y].rows.tolist()[:2])
        shared.append(len(first & second))
        jaccard.append(len(first & second) / len(first | second))
    (pair,) = found.pairs
    assert pair["ceiling"] == {"shared": pytest.approx(np.mean(shared)), "jaccard": pytest.approx(np.mean(jaccard))}
    assert found.sections()[0].rows[0][-2:] == [pair["ceiling"]["shared"], pair["ceiling"]["jaccard"]]
    assert "ceiling" not in side_by_side(sets).pairs[0]
    assert any("fewer rows than a set" in note for note in side_by_side(sets, seeds={**seeds, "s": tickets(1)}).notes)


def test_the_command_takes_the_files_of_seeds(tmp_path, capfd):
    import json

    from ks_lottery.cli.main import main

    files = {}
    sets = {"a": tickets(9, 2, 5), "b": tickets(5, 7, 2), "s1": tickets(1, 2, 3), "s2": tickets(2, 1, 9)}
    for name, one in sets.items():
        files[name] = str(one.save(tmp_path / f"{name}.json"))
    assert main(["overlap", files["a"], files["b"], "--json", "--seeds-of", files["s1"], files["s2"]]) == 0
    content = json.loads(capfd.readouterr().out)
    assert content["pairs"][0]["ceiling"] == {"shared": 2.0, "jaccard": 0.5}
    assert [seed["rows"] for seed in content["seeds"]] == [3, 3]
    assert main(["overlap", files["a"], files["b"], "--seeds-of", files["s1"], files["s2"]]) == 0
    assert "ceiling" in capfd.readouterr().out
    for words in ([files["s1"]], [files["s1"], files["s1"]]):
        assert main(["overlap", files["a"], files["b"], "--seeds-of", *words]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert "--seeds-of needs the files of two different seeds" in line
