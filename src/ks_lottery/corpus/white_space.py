"""White space in sentences: what layout is, and what is part of the text, such as a no-break space."""

from __future__ import annotations

import re

LAYOUT = " \t\r\n"
"""The characters that XML calls white space; every other space is a character of the sentence."""

ENDS = LAYOUT + "\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"
"""What is removed at the ends of a sentence: also separators of lines, pages and records, but no no-break space."""

_RUN = re.compile(f"[{LAYOUT}]+")


def trimmed(text: str) -> str:
    r"""Remove spaces, tabs, line breaks and separators at both ends, and no other character.

    >>> trimmed(" a\u00a0 \n")
    'a\xa0'
    """
    return text.strip(ENDS)


def single_spaced(text: str) -> str:
    r"""Write each run of spaces, tabs and line breaks as one space, and remove it at both ends.

    >>> single_spaced(" What\n  time\u00a0? ")
    'What time\xa0?'
    """
    return trimmed(_RUN.sub(" ", text))
