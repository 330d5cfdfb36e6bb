"""The exception and the warnings that reach a user: a sentence that says what is wrong, where, and what to do.

It must never carry a traceback's worth of text; `cli` prints it as one line and exits with code 2.
"""

import unicodedata

DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of writing round, so that a line shows another text than it has."""

LONGEST_VALUE = 120
"""Characters of a value that an error shows."""


def escaped(text: str) -> str:
    r"""Return `text` with every character that acts on a terminal escaped; all others are as they were, in any script.

    These are control characters (C0, C1, DEL), line and paragraph separators, what turns the direction of writing, and lone
    surrogates, which no terminal can show.

    >>> print(escaped("a\x1b[31mb\r\u202e"))
    a\x1b[31mb\r\u202e
    """
    return "".join(repr(character)[1:-1] if _acts(character) else character for character in text)


def _acts(character: str) -> bool:
    return character in DIRECTIONS or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def shortened(value: object) -> str:
    """Return the representation of a value, cut where it is long, for an error.

    >>> shortened("a"), shortened(None), len(shortened("a" * 10**6)), shortened(10**5000)
    ("'a'", 'None', 123, 'a number of 16,610 bits')
    """
    if isinstance(value, int) and value.bit_length() > 1000:  # Python refuses to write numbers of over 4,300 digits
        return f"a number of {value.bit_length():,} bits"
    try:
        text = repr(value[: LONGEST_VALUE + 1] if isinstance(value, str | bytes) else value)
    except ValueError:  # such a number inside of a list
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


class LearningRateWarning(UserWarning):
    """A learning rate that cannot move rows so far that the KS test would see it."""


class TextWarning(UserWarning):
    """A text whose sides are in other languages than it is said to be in."""


class AssetNotice(UserWarning):
    """What is done with the user's network, disk or rights when a model is fetched; nothing is wrong."""


class UserError(ValueError):
    """A mistake that the user can mend.

    Parameters
    ----------
    message
        One sentence: the object at fault, what is wrong with it, and what to do. Parameters of the library are in backticks,
        which `cli` turns into flags. It is put on one line, and what would act on a terminal is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escaped(" ".join(message.split())))
