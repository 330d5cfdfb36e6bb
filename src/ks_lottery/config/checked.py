"""Settings that check themselves when they are made, by the ranges that their fields declare."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from ks_lottery.config.ranges import check_number
from ks_lottery.errors import UserError, shortened


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of every settings class: flags, files and library calls are refused alike.

    A class with checks of its own calls this ``__post_init__`` too.
    """

    SECTION: ClassVar[str] = ""
    """Begin of the names of the fields in errors, such as ``train.``."""

    def __post_init__(self) -> None:
        """Check every number against its range, and that every switch is True or False.

        Raises
        ------
        UserError
            For the first field with another value, which it names.
        """
        for item in dataclasses.fields(self):
            value, name = getattr(self, item.name), f"`{self.SECTION}{item.name}`"
            within = item.metadata.get("within")
            if within is not None and not (value is None and item.default is None):
                for number in _numbers(item, value, name):
                    check_number(name, number, within)
            elif item.type in {"bool", bool} and not isinstance(value, bool):
                raise UserError(f"{name} is {shortened(value)}, but must be True or False")


def _numbers(item: dataclasses.Field[Any], value: object, name: str) -> Sequence[object]:
    """Return the numbers of a field: one, or those of a tuple or sequence."""
    if "[" not in str(item.type):
        return [value]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(f"{name} is {shortened(value)}, but must be a list of numbers")
    return cast("Sequence[object]", value)
