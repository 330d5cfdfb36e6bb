"""The command `overlap`: what sets of tickets share, pair by pair and row by row, as in table 8 of the paper.

Must never read a model's weights, nor fetch one for the sake of token strings.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.models.vocabulary import tokens_here
from ks_lottery.report.overlap_table import print_overlap
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import to_json
from ks_lottery.tickets.origin import fingerprint
from ks_lottery.tickets.overlap import check_one_base, side_by_side
from ks_lottery.tickets.tickets import Tickets, overlap

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


def run_overlap(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    if arguments.top < 0:
        raise UserError(f"--top is {arguments.top}, but must be 0 or more")
    files = _named(arguments.tickets)
    sets = {name: Tickets.open(file) for name, file in files.items()}
    strings = {name: Tickets.tokens(file) for name, file in files.items()}
    if not arguments.force:
        check_one_base(sets, strings)
    found = side_by_side(sets)
    rows = found.table(_tokens(sets, strings))
    content: dict[str, Any] = {
        "sets": [
            {"name": name, "file": str(files[name]), "rows": len(one), "base": fingerprint(one.made_from, "base")}
            for name, one in sets.items()
        ],
        "pairs": [{**pair, "sizes": list(pair["sizes"])} for pair in overlap(sets)],
        "rows": rows,
        "in_all": [row for row in sorted(rows, key=lambda row: row["row"]) if row["sets"] == len(sets)],
        "by_sets": {str(number): count for number, count in found.spread.items()},
        "notes": _notes(sets),
    }
    if arguments.json:
        sys.stdout.write(to_json(content))
    else:
        print_overlap(Screen(total=1).console, content, _heads(files, arguments.tickets), arguments.top)
    return 0


def _named(given: Sequence[str]) -> dict[str, Path]:
    """Return the files by what they are called: ``name=file``, or the file as it was given."""
    files: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if Path(text).is_file() or not equals:
            name, file = text, text
        if not name or not file:
            raise UserError(f"{text!r} names no set: give FILE or NAME=FILE")
        if name in files:
            raise UserError(f"two sets are called {name}: give each a name of its own, as NAME=FILE")
        files[name] = Path(file)
    return files


def _heads(files: Mapping[str, Path], given: Sequence[str]) -> dict[str, str]:
    """Return what stands over each column: the name that was given, or what tells the file apart from the others."""
    parts = {name: Path(name).with_suffix("").parts for name in files if name in given}
    begin, end = _leading(list(parts.values())), _leading([p[::-1] for p in parts.values()])
    heads: dict[str, str] = {}
    for name in files:
        kept = parts[name][begin : len(parts[name]) - end] if name in parts else ()
        heads[name] = name if name not in parts else "/".join(kept) or Path(name).stem
    return heads


def _leading(paths: Sequence[tuple[str, ...]]) -> int:
    """Return how many first parts several paths share; 0 for one alone, which has nothing to be told apart from."""
    shared = (len(set(parts)) == 1 for parts in zip(*paths, strict=False))
    return sum(itertools.takewhile(bool, shared)) if len(paths) > 1 else 0


def _tokens(sets: Mapping[str, Tickets], strings: Mapping[str, Mapping[int, str]]) -> dict[int, str]:
    """Return token strings by row: those in the files, else those of a base that is still there."""
    found = {row: token for one in strings.values() for row, token in one.items()}
    bases = [str(one.made_from["base"].get("name", "")) for one in sets.values() if "base" in one.made_from]
    if all(strings.values()) or not bases:
        return found
    return {**dict(enumerate(tokens_here(bases[0]) or ())), **found}


def _notes(sets: Mapping[str, Tickets]) -> list[str]:
    silent = [name for name, one in sets.items() if fingerprint(one.made_from, "base") is None]
    if not silent:
        return []
    return [f"Of which base they are is not said by fingerprint in {', '.join(silent)}: that was not checked."]
