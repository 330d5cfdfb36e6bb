"""The noun `Corpus`: pairs of a source and a target sentence, or texts of one language, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.store.files import write_json_lines
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation; or an instruction and the response to it; or a text of one language.

    Parameters
    ----------
    source, target
        The two sentences. The target is never empty in a corpus that was read; the source is empty where an instruction needs
        no input, and in a monolingual corpus.
    document
        Where they stood, if that is known.
    instruction
        What the text itself tells the model to do with this sentence, as Alpaca files do; empty where it says nothing.
    """

    source: str
    target: str
    document: str = ""
    instruction: str = ""

    @property
    def identity(self) -> str:
        """What tells it from others: the source; without one the instruction, or the text of one language."""
        return self.source or self.instruction or self.target


@dataclass(frozen=True, eq=False, repr=False)
class Corpus(Shown):
    """Parallel text, instructions with their responses, or texts of one language.

    Two are equal when languages and pairs are, documents included, wherever they were read from.

    Parameters
    ----------
    pairs
        In the order of the text.
    source_language, target_language
        Code or English name; of a monolingual corpus both are its language.
    origin
        What it was read from, as the user named it.
    left_out
        How many entries of the text are no pairs, by reason, such as an empty side or an unfinished translation.
    monolingual
        Whether each pair is a text of one language: its target, without source and instruction. It is shown to the model
        without a prompt, and the loss is taken on all of it.
    """

    pairs: tuple[Pair, ...]
    source_language: str
    target_language: str
    origin: str
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    monolingual: bool = False

    def __repr__(self) -> str:
        """Return one line."""
        if self.monolingual:
            return f"Corpus({len(self):,} texts, {self.target_language}, from {self.origin})"
        return f"Corpus({len(self):,} pairs, {self.source_language} to {self.target_language}, from {self.origin})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Corpus):
            return NotImplemented
        languages = self.source_language, self.target_language
        return languages == (other.source_language, other.target_language) and self.pairs == other.pairs

    def __hash__(self) -> int:
        """Hash by content."""
        return hash(self.fingerprint)

    def sections(self, most: int = 5) -> list[Section]:
        """Return the first `most` pairs (5) as a table, and the whole in a sentence."""
        columns = [Column(title=self.source_language), Column(title=self.target_language)]
        rows = [[pair.source, pair.target] for pair in self.pairs[:most]]
        if self.monolingual:
            columns, rows = columns[1:], [row[1:] for row in rows]
        return [Section(columns=columns, rows=rows, sentences=[repr(self)])]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        """Yield the pairs."""
        return iter(self.pairs)

    @property
    def unit(self) -> str:
        """What it counts: ``pairs``, or ``texts`` of one language."""
        return "texts" if self.monolingual else "pairs"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of languages and pairs, and of the instructions that the text itself gives."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        told = any(pair.instruction for pair in self.pairs)
        pairs = [[pair.source, pair.target, *([pair.instruction] if told else [])] for pair in self.pairs]
        return digest_json([self.source_language, self.target_language, pairs])

    def head(self, count: int) -> Corpus:
        """Keep the first `count` pairs."""
        return replace(self, pairs=self.pairs[:count])

    def with_instruction(self, instruction: str) -> Corpus:
        """Tell the model `instruction` in every pair that has a source, whatever the text says."""
        pairs = (replace(pair, instruction=instruction) if pair.source else pair for pair in self.pairs)
        return replace(self, pairs=tuple(pairs))

    def save(self, path: str | Path) -> Path:
        """Write one JSON object a pair or text to `path`, as `read_corpus` reads it, and return the path."""
        path = Path(path).expanduser()
        write_json_lines(
            path,
            [
                {
                    **({"text": p.target} if self.monolingual else {"source": p.source, "target": p.target}),
                    **({"document": p.document} if p.document else {}),
                    **({"instruction": p.instruction} if p.instruction else {}),
                }
                for p in self.pairs
            ],
        )
        return path
