"""Which words of a text cost most tokens: pieces that would save most as tokens of their own."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WORDS = re.compile(r" [^\W\d_]+")


@dataclass(frozen=True)
class CostlyPiece:
    """A piece of a text, with what it saves.

    Parameters
    ----------
    text
        A space and letters: the beginning of words.
    saved
        Tokens of the text that it saves, beside the pieces before it.
    """

    text: str
    saved: int


def costly_pieces(
    texts: Sequence[str], count: int, lengths: Callable[[Sequence[str]], Sequence[int]]
) -> list[CostlyPiece]:
    """Choose the pieces that save most tokens, one after the other.

    Candidates are the words of the text, each with the space before it. A word w costs c(w) tokens now. As a token of its own
    a piece p makes of every word that begins with it one token and the tokens of the rest r: it saves the sum over these words
    of count(w) (c(w) - 1 - c(r)), where c(r) is 0 for p itself, so that for p alone this is count x (tokens now - 1). The
    piece with the largest sum is taken, costs are counted anew, and so on; a tie goes to the first in the order of the
    alphabet. Where two pieces begin a word, the tokenizer takes the longer one, and so does the count.

    Parameters
    ----------
    texts
        The sentences.
    count
        Pieces that are wanted; fewer are returned where no other one saves a token.
    lengths
        Number of tokens of each of some texts, without special tokens.
    """
    words = Counter(word for text in texts for word in _WORDS.findall(text))
    names = sorted(words)
    cost = dict(zip(names, lengths(names), strict=True))
    longer = _longer(names)
    rests = sorted({word[len(piece) :] for piece in names for word in longer[piece] if word != piece})
    of_rest = {"": 0, **dict(zip(rests, lengths(rests), strict=True))}
    covered: dict[str, int] = dict.fromkeys(names, 0)
    saved = {piece: _saves(piece, words, cost, longer, of_rest, covered) for piece in names}
    chosen: list[CostlyPiece] = []
    while len(chosen) < count and saved:
        best = max(saved, key=lambda piece: (saved[piece], [-ord(letter) for letter in piece]))
        if saved[best] <= 0:
            break
        chosen.append(CostlyPiece(best, saved.pop(best)))
        for word in longer[best]:
            if covered[word] < len(best):
                cost[word], covered[word] = 1 + of_rest[word[len(best) :]], len(best)
        for piece in [one for one in saved if one.startswith(best) or best.startswith(one)]:
            saved[piece] = _saves(piece, words, cost, longer, of_rest, covered)
    return chosen


def _saves(
    piece: str,
    words: Counter[str],
    cost: dict[str, int],
    longer: dict[str, list[str]],
    of_rest: dict[str, int],
    covered: dict[str, int],
) -> int:
    """Return the tokens that a piece saves in the words that begin with it and with no longer piece."""
    begun = (word for word in longer[piece] if covered[word] < len(piece))
    return sum(words[word] * (cost[word] - 1 - of_rest[word[len(piece) :]]) for word in begun)


def _longer(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the words that begin with each word, itself among them; `names` are sorted."""
    longer: dict[str, list[str]] = {}
    for place, piece in enumerate(names):
        stop = place
        while stop < len(names) and names[stop].startswith(piece):
            stop += 1
        longer[piece] = list(names[place:stop])
    return longer
