"""Sets of tickets side by side, and the rows that all of them share. Table 8 of the paper.

Must never compare rows of different bases by their number, unless told to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.tickets.origin import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ks_lottery.tickets.tickets import Tickets


@dataclass(frozen=True)
class SharedRows:
    """Every row that is in one of S sets: those in most sets first, then by row.

    Parameters
    ----------
    names
        What the sets are called, such as languages.
    rows
        Rows, shape (R,).
    places
        Place of each row in each set, from 1 for its most important one, 0 where the set does not have it; shape (R, S).
    """

    names: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    @property
    def sets(self) -> npt.NDArray[np.int64]:
        """In how many sets each row is, shape (R,)."""
        return np.count_nonzero(self.places, axis=1)

    @property
    def common(self) -> npt.NDArray[np.int64]:
        """Rows that are in all sets, ascending."""
        return self.rows[self.sets == len(self.names)]

    @property
    def spread(self) -> dict[int, int]:
        """How many rows are in exactly so many sets, from all sets down to one."""
        return {number: int((self.sets == number).sum()) for number in range(len(self.names), 0, -1)}

    def table(self, tokens: Mapping[int, str] | None = None) -> list[dict[str, Any]]:
        """Return one mapping a row, in plain values; `tokens` has token strings by row."""
        return [
            {
                "row": row,
                **({} if not tokens else {"token": tokens.get(row, "''")}),
                "sets": number,
                "places": {name: place for name, place in zip(self.names, places, strict=True) if place},
            }
            for row, number, places in zip(self.rows.tolist(), self.sets.tolist(), self.places.tolist(), strict=True)
        ]


def side_by_side(sets: Mapping[str, Tickets]) -> SharedRows:
    """Return in which sets each row is, and at which place."""
    every = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(tickets.rows for tickets in sets.values())]))
    places = np.zeros((len(every), len(sets)), dtype=np.int64)
    for column, tickets in enumerate(sets.values()):
        places[np.searchsorted(every, tickets.rows), column] = np.arange(1, len(tickets) + 1)
    order = np.argsort(-np.count_nonzero(places, axis=1), kind="stable")
    return SharedRows(tuple(sets), every[order], places[order])


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
    known = {name: mark for name, one in sets.items() if (mark := fingerprint(one.made_from, "base")) is not None}
    names = list(known)
    for name in names[1:]:
        if known[name] != known[names[0]]:
            raise UserError(
                f"{names[0]} and {name} are tickets of different bases ({known[names[0]][:12]} and {known[name][:12]}), "
                "whose rows cannot be compared by number: give sets of one base, or --force"
            )
    seen: dict[int, tuple[str, str]] = {}
    for name, strings in tokens.items():
        for row, token in strings.items():
            first, known_as = seen.setdefault(row, (name, token))
            if known_as != token:
                raise UserError(
                    f"row {row} is {known_as} in {first} and {token} in {name}, so that they are tickets of different "
                    "models: give sets of one base, or --force"
                )
