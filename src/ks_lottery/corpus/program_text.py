"""What in a sentence is meant for a program: format placeholders, markup, web addresses. Prices and percentages are text."""

from __future__ import annotations

import re
from html.entities import html5

_FORMAT = (
    r"%%"
    r"|%\([^()%]{1,100}\)[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]"  # %(name)s
    r"|%\d{1,2}\$[-+#0]*\d*(?:\.\d+)?[a-zA-Z@]"  # %1$s
    r"|(?<!\d)%[ds](?!\w)|(?<!\d)(?<!\d\s)%[ds]"  # %d, also in %dx%d and %spx; "50 %de" is a typing error
    r"|(?<![\w%])(?<!\d\s)%(?:[iouxXeEfFgGcCrpnaAS](?!\w)|@)"  # %f; "100%ige" is a word, and "5 %a" a typing error
    r"|(?<![\w%])%(?:hh?|ll?|z|j|t|q)[diouxX](?!\w)"  # %ld
    r"|(?<![\w%])%[-+#0]*\d*\.(?:\d+|\*)[a-zA-Z](?!\w)"  # %.2f
    r"|(?<![\w%])%[-+#0]+\d*[a-zA-Z](?!\w)"  # %05d
    r"|(?<![\w%])%\d+[dsxX](?!\w)"  # %5d; "%50eko" is a word
)

_PLACEHOLDER = re.compile(rf"{_FORMAT}|\{{[^{{}}]*\}}|(?<![\w$])\$(?:(?![A-Z]{{2,3}}\s?\d)[A-Za-z_]\w*|[({{]\w+[)}}])")
"""%s, %1$d, %(name)s, %%, {name}, {0}, {}, $name, ${name}; but not $100, US$3, $US 3, 100%ige and %50eko."""

_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&#(?:\d+|[xX][\da-fA-F]+);|https?://|www\.")

_ENTITY = re.compile(r"&([a-zA-Z][a-zA-Z0-9]{0,40};)")


def has_placeholder(text: str) -> bool:
    """Say whether a sentence contains a format placeholder of a program.

    >>> [has_placeholder(text) for text in ("%d files", "{name}", "${HOME}", "it cost $100,000", "21% for", "100%ige")]
    [True, True, True, False, False, False]
    """
    return _PLACEHOLDER.search(text) is not None


def is_placeholder(text: str) -> bool:
    """Say whether a text is one format placeholder, and nothing else."""
    return _PLACEHOLDER.fullmatch(text) is not None


def has_markup(text: str) -> bool:
    """Say whether a sentence contains a tag, an entity that HTML names, or a web address.

    >>> [has_markup(text) for text in ("a <b>bold</b> word", "fish &amp; chips", "R&D; and sales", "1 < 2")]
    [True, True, False, False]
    """
    return _MARKUP.search(text) is not None or any(found[1] in html5 for found in _ENTITY.finditer(text))
