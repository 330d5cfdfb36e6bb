"""Pairs of a source and a target sentence, with their languages and where they came from.

Must never change a sentence after it was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ks_lottery.artifacts import digest_json, write_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation; `document` is where they stood, if that is known."""

    source: str
    target: str
    document: str = ""


@dataclass(frozen=True)
class Corpus:
    """Parallel text.

    Parameters
    ----------
    pairs
        In the order of the text.
    source_language, target_language
        Code or English name.
    origin
        What it was read from, as the user named it.
    """

    pairs: tuple[Pair, ...]
    source_language: str
    target_language: str
    origin: str

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        """Yield the pairs."""
        return iter(self.pairs)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of languages and pairs."""
        pairs = [[pair.source, pair.target] for pair in self.pairs]
        return digest_json([self.source_language, self.target_language, pairs])

    def head(self, count: int) -> Corpus:
        """Keep the first `count` pairs."""
        return replace(self, pairs=self.pairs[:count])

    def save(self, path: Path) -> None:
        """Write one JSON object a pair, as `read_corpus` reads it."""
        write_json_lines(
            path,
            [
                {"source": p.source, "target": p.target, **({"document": p.document} if p.document else {})}
                for p in self.pairs
            ],
        )
