"""Sets of tickets side by side: what each two share, and the rows that all of them share. Table 8 of the paper."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.tickets.overlap_sections import overlap_sections
from ks_lottery.tickets.tickets import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ks_lottery.report.section import Section
    from ks_lottery.tickets.tickets import Tickets


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedRows:
    """Every row that is in one of S sets: those in most sets first, then by row.

    Parameters
    ----------
    sets
        The sets by what they are called, such as languages.
    rows
        Rows, shape (R,).
    places
        Place of each row in each set, from 1 for its most important one, 0 where the set does not have it; shape (R, S).
    tokens
        Token strings by row; empty where they are not known.
    files
        Files of the sets, by name, where they come from files.
    seeds
        Tickets of two or more training seeds of one setting, by name; what they share is the ceiling of what two sets can be
        expected to share. Empty for no ceiling.
    """

    sets: Mapping[str, Tickets]
    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    tokens: Mapping[int, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    seeds: Mapping[str, Tickets] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number R of rows."""
        return len(self.rows)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """In how many sets each row is, shape (R,)."""
        return np.count_nonzero(self.places, axis=1)

    @property
    def common(self) -> npt.NDArray[np.int64]:
        """Rows that are in all sets, ascending."""
        return self.rows[self.numbers == len(self.sets)]

    @property
    def spread(self) -> dict[int, int]:
        """How many rows are in exactly so many sets, from all sets down to one."""
        return {number: int((self.numbers == number).sum()) for number in range(len(self.sets), 0, -1)}

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """What each two sets share.

        One mapping a pair: ``one``, ``other``, their ``sizes``, ``shared`` rows, ``jaccard`` (shared over all, 1 for two empty
        sets), and the shared rows as ``rows``, in the order of ``one``. With `seeds` also ``ceiling``: what two seeds share,
        each with its first rows, as many as the sets have; the mean over all pairs of seeds.
        """
        pairs = itertools.combinations(self.sets, 2)
        return [
            {**_pair(one, other, self.sets[one], self.sets[other]), **self._ceiling(self.sets[one], self.sets[other])}
            for one, other in pairs
        ]

    def _ceiling(self, first: Tickets, second: Tickets) -> dict[str, Any]:
        """Return what two seeds share; each seed's set is cut to the size of the one that it stands for."""
        if not self.seeds:
            return {}
        drawn = [
            _pair("", "", one.head(len(first)), other.head(len(second)))
            for one, other in itertools.permutations(self.seeds.values(), 2)
        ]
        means = {name: sum(pair[name] for pair in drawn) / len(drawn) for name in ("shared", "jaccard")}
        return {"ceiling": means}

    @property
    def notes(self) -> list[str]:
        """What could not be checked, one sentence each."""
        short = [name for name, seed in self.seeds.items() if len(seed) < max(map(len, self.sets.values()), default=0)]
        cut = (
            [f"The seeds {', '.join(short)} have fewer rows than a set, so that their ceiling is low."] if short else []
        )
        silent = [name for name, tickets in self.sets.items() if fingerprint(tickets.made_from, "base") is None]
        if not silent:
            return cut
        verb = "does" if len(silent) == 1 else "do"
        its = "its base" if len(silent) == 1 else "their base"
        return [
            *cut,
            f"{', '.join(silent)} {verb} not record the fingerprint of {its}, so it was not checked that all sets have the "
            "same base.",
        ]

    def table(self) -> list[dict[str, Any]]:
        """Return one mapping a row, in plain values."""
        return [
            {
                "row": row,
                **({} if not self.tokens else {"token": self.tokens.get(row, "''")}),
                "sets": number,
                "places": {name: place for name, place in zip(self.sets, places, strict=True) if place},
            }
            for row, number, places in zip(self.rows.tolist(), self.numbers.tolist(), self.places.tolist(), strict=True)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain values, for JSON."""
        rows = self.table()
        return {
            "sets": [
                {
                    "name": name,
                    "file": str(self.files[name]) if name in self.files else None,
                    "rows": len(tickets),
                    "base": fingerprint(tickets.made_from, "base"),
                }
                for name, tickets in self.sets.items()
            ],
            "pairs": self.pairs,
            "rows": rows,
            "seeds": [
                {"name": name, "rows": len(tickets), "base": fingerprint(tickets.made_from, "base")}
                for name, tickets in self.seeds.items()
            ],
            "in_all": [row for row in sorted(rows, key=lambda row: row["row"]) if row["sets"] == len(self.sets)],
            "by_sets": {str(number): count for number, count in self.spread.items()},
            "notes": self.notes,
        }

    def sections(self, top: int = 30) -> list[Section]:
        """Return the pairs, the first `top` rows side by side, and what is common.

        Raises
        ------
        UserError
            When `top` is below 0.
        """
        return overlap_sections(self.as_dict(), heads(list(self.sets), self.files), top)


def side_by_side(
    sets: Mapping[str, Tickets],
    *,
    tokens: Mapping[int, str] | None = None,
    files: Mapping[str, Path] | None = None,
    seeds: Mapping[str, Tickets] | None = None,
) -> SharedRows:
    """Return in which sets each row is, and at which place; `seeds` are those of `SharedRows`."""
    every = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(tickets.rows for tickets in sets.values())]))
    places = np.zeros((len(every), len(sets)), dtype=np.int64)
    for column, tickets in enumerate(sets.values()):
        places[np.searchsorted(every, tickets.rows), column] = np.arange(1, len(tickets) + 1)
    order = np.argsort(-np.count_nonzero(places, axis=1), kind="stable")
    return SharedRows(
        sets=dict(sets),
        rows=every[order],
        places=places[order],
        tokens=tokens or {},
        files=files or {},
        seeds=seeds or {},
    )


def _pair(one: str, other: str, first: Tickets, second: Tickets) -> dict[str, Any]:
    both = first & second
    every = len(first) + len(second) - len(both)
    return {
        "one": one,
        "other": other,
        "sizes": [len(first), len(second)],
        "shared": len(both),
        "jaccard": len(both) / every if every else 1.0,
        "rows": both.rows.tolist(),
    }


def heads(names: Sequence[str], files: Mapping[str, Path]) -> dict[str, str]:
    """Return what stands over the column of each set: its name, or, of one that is called by its file, what tells it apart."""
    parts = {name: Path(name).with_suffix("").parts for name in names if name in files and str(files[name]) == name}
    begin, end = _leading(list(parts.values())), _leading([part[::-1] for part in parts.values()])
    shown: dict[str, str] = {}
    for name in names:
        own = parts[name][begin : len(parts[name]) - end] if name in parts else ()
        shown[name] = name if name not in parts else str(Path(*own)) if own else Path(name).stem
    return shown


def _leading(paths: Sequence[tuple[str, ...]]) -> int:
    """Return how many first parts several paths share; 0 for one alone, which needs nothing to be told apart from."""
    shared = (len(set(parts)) == 1 for parts in zip(*paths, strict=False))
    return sum(itertools.takewhile(bool, shared)) if len(paths) > 1 else 0


def check_one_base(sets: Mapping[str, Tickets], tokens: Mapping[str, Mapping[int, str]]) -> None:
    """Refuse sets whose rows do not mean the same, as far as their files say.

    Parameters
    ----------
    tokens
        Token strings by set and row.

    Raises
    ------
    UserError
        When two sets name bases of different fingerprints, or call one row by different tokens.
    """
    known = {
        name: mark for name, tickets in sets.items() if (mark := fingerprint(tickets.made_from, "base")) is not None
    }
    names = list(known)
    for name in names[1:]:
        if known[name] != known[names[0]]:
            raise UserError(
                f"{names[0]} and {name} are tickets of different bases ({known[names[0]][:12]} and {known[name][:12]}), "
                "whose rows cannot be compared by number: give sets of one base, or `force=True`"
            )
    seen: dict[int, tuple[str, str]] = {}
    for name, strings in tokens.items():
        for row, token in strings.items():
            first, known_as = seen.setdefault(row, (name, token))
            if known_as != token:
                raise UserError(
                    f"row {row} is {known_as} in {first} and {token} in {name}, so that they are tickets of different "
                    "models: give sets of one base, or `force=True`"
                )
