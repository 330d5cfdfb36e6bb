"""What a model generated for each sentence: the text as it came, its first line, and whether it ended by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.lines import is_encodable
from ks_lottery.corpus.white_space import single_spaced, trimmed
from ks_lottery.stats.intervals import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE_BREAK = re.compile("[\r\n]")


@dataclass(frozen=True, kw_only=True)
class Output:
    r"""One generated text.

    Parameters
    ----------
    text
        As it was decoded, without special tokens, with its line breaks.
    ended
        Whether it ended with an end token within ``max_new_tokens``.

    Examples
    --------
    >>> output = Output(text="\n La casa \nEnglish: the\n", ended=False)
    >>> output.sentence, output.first_line
    ('La casa English: the', 'La casa')
    """

    text: str
    ended: bool

    @property
    def sentence(self) -> str:
        """The text on one line: runs of spaces, tabs and line breaks are one space."""
        return single_spaced(self.text)

    @property
    def first_line(self) -> str:
        """The text up to its first line break; line breaks and spaces before the first character do not count."""
        return single_spaced(_LINE_BREAK.split(trimmed(self.text), maxsplit=1)[0])


def is_output(text: Any, ended: Any) -> bool:
    """Say whether two values that were read are the text of an output, and whether it ended."""
    return isinstance(text, str) and is_encodable(text) and isinstance(ended, bool)


def ended_share(outputs: Sequence[Output], confidence: float | None) -> dict[str, Any]:
    """Count the outputs that ended by themselves.

    Parameters
    ----------
    outputs
        One or more.
    confidence
        Of the interval, in (0, 1); None for no interval.

    Returns
    -------
    dict
        ``share``; its Clopper-Pearson ``interval`` and ``confidence``; ``count``, the number that ended; ``outputs``, the
        number of all.
    """
    count = sum(output.ended for output in outputs)
    return {
        "share": count / len(outputs),
        "interval": None if confidence is None else clopper_pearson(count, len(outputs), confidence),
        "confidence": confidence,
        "count": count,
        "outputs": len(outputs),
    }
