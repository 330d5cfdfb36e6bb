"""Which pairs of a text are kept, and how it is split: by a hash of the source, so that no sentence is in two parts."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ks_lottery.config.values import checks_names
from ks_lottery.corpus.languages import is_spaced
from ks_lottery.corpus.program_text import has_markup, has_placeholder
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.corpus.corpus import Corpus, Pair


@dataclass(frozen=True)
class FilterReport:
    """How many pairs were read, kept, and dropped for which reason (the first that applies).

    Parameters
    ----------
    unit
        What is counted: ``pairs``, or ``texts`` of one language.
    translated
        Whether a pair is a translation, so that short ones were looked for.
    """

    read: int
    kept: int
    short: int
    placeholder: int
    markup: int
    duplicate: int
    min_words: int
    unit: str = "pairs"
    translated: bool = True

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: count for name, count in asdict(self).items() if name not in {"unit", "translated"}}

    def sentence(self) -> str:
        """Return the report for people."""
        if self.unit == "texts":
            return f"{self.kept:,} of {self.read:,} texts kept; dropped {self.duplicate:,} that had already occurred"
        short = f"{self.short:,} under {self.min_words} words, " if self.translated else ""
        said = "" if self.translated else " (its instructions are not to translate: short ones are kept)"
        return (
            f"{self.kept:,} of {self.read:,} pairs kept; dropped {short}"
            f"{self.placeholder:,} with format placeholders, {self.markup:,} with markup, "
            f"{self.duplicate:,} with a source sentence that had already occurred{said}"
        )


@dataclass(frozen=True)
class Split:
    """A corpus in three parts that share no source sentence.

    Parameters
    ----------
    uncut
        The test part as it was split off, where `test` keeps its first pairs only; None where `test` is whole.
    """

    train: Corpus
    calibration: Corpus
    test: Corpus
    uncut: Corpus | None = None

    @property
    def rest(self) -> Corpus:
        """The held-out text beside calibration: the test part before it was cut."""
        return self.test if self.uncut is None else self.uncut


def sentence_key(text: str) -> str:
    """Return what two copies of a sentence share: letters in one case and form, without white space.

    >>> sentence_key("Save  the Page") == sentence_key("save the page ")
    True
    """
    return "".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def is_translation(pair: Pair) -> bool:
    """Say whether a pair is to be translated: it has no instruction of its own, or one that says so.

    A short answer to another instruction, such as "Positive", is a whole answer.
    """
    return not pair.instruction or (bool(pair.source) and "translat" in pair.instruction.lower())


def _is_short(text: str, language: str, min_words: int) -> bool:
    return is_spaced(language) and len(text.split()) < min_words


def _key(pair: Pair, *, is_translated: bool) -> str:
    """Return what two copies of a pair share: the source; with it the instruction where that is not to translate."""
    return sentence_key(pair.source if is_translated else f"{pair.instruction}\n{pair.source or pair.identity}")


@checks_names
def keep_useful(
    corpus: Corpus, *, min_words: int = 4, drop_placeholders: bool = True, drop_markup: bool = True
) -> tuple[Corpus, FilterReport]:
    """Drop pairs that teach nothing, and repeated sources but the first; of texts of one language the repeated ones alone.

    Parameters
    ----------
    min_words
        Translations with fewer words (between white space) on a side are dropped (`is_translation`); words are not counted
        where they are not written apart.
    """
    counts = dict.fromkeys(("short", "placeholder", "markup", "duplicate"), 0)
    seen: set[str] = set()
    kept: list[Pair] = []
    translated = False
    for pair in corpus.pairs:
        to_translate = not corpus.monolingual and is_translation(pair)
        key = _key(pair, is_translated=to_translate)
        translated |= to_translate
        sides = () if corpus.monolingual else (pair.source, pair.target)
        languages = (corpus.source_language, corpus.target_language)
        if drop_placeholders and any(map(has_placeholder, sides)):
            counts["placeholder"] += 1
        elif drop_markup and any(map(has_markup, sides)):
            counts["markup"] += 1
        elif to_translate and any(
            _is_short(side, language, min_words) for side, language in zip(sides, languages, strict=True)
        ):
            counts["short"] += 1
        elif key in seen:
            counts["duplicate"] += 1
        else:
            seen.add(key)
            kept.append(pair)
    report = FilterReport(
        read=len(corpus), kept=len(kept), min_words=min_words, unit=corpus.unit, translated=translated, **counts
    )
    return replace(corpus, pairs=tuple(kept)), report


def hash_fraction(text: str, seed: int = 0) -> float:
    """Return a number from 0 to 1 that depends on the sentence and the seed alone.

    The first 7 bytes of the SHA-256 of its `sentence_key`, as a big-endian integer, over 2^56. With another seed than 0, of the
    seed in decimal digits, a space, which no key holds, and the key.
    """
    return salted_fraction("" if seed == 0 else str(seed), text)


def salted_fraction(salt: str, text: str) -> float:
    """Return the same for any salt: with another, another number, which tells nothing of the first."""
    key = f"{salt} {sentence_key(text)}" if salt else sentence_key(text)
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big") / 2**56


@checks_names
def split(corpus: Corpus, *, calibration: float = 0.15, test: float = 0.15, seed: int = 0) -> Split:
    """Split by a hash of the source sentence, salted with a seed: another seed is another random split of the same text.

    A sentence, and a copy of it that differs in case or white space, always lands in the same part, whatever else the
    text holds: text that is added later moves no sentence.

    Parameters
    ----------
    calibration, test
        Shares of the text.
    seed
        Of the split alone, 0 or more; that of a training has no part in it.

    Raises
    ------
    UserError
        When a part is left empty.
    """
    parts: dict[str, list[Pair]] = {"train": [], "calibration": [], "test": []}
    for pair in corpus.pairs:
        place = hash_fraction(pair.identity, seed)
        parts["test" if place < test else "calibration" if place < test + calibration else "train"].append(pair)
    for name, pairs in parts.items():
        if not pairs:
            raise UserError(
                f"{corpus.origin}: {len(corpus)} {corpus.unit} leave none for {name}: give more text or a larger share"
            )
    return Split(**{name: replace(corpus, pairs=tuple(pairs)) for name, pairs in parts.items()})


def hold_out(corpus: Corpus, share: float) -> tuple[Corpus, Corpus]:
    """Hold out a share of a text, by a hash of the source sentence, so that copies of a sentence stay together.

    Returns
    -------
    rest, held_out
        Both in the order of the text.

    Raises
    ------
    UserError
        When the share is not between 0 and 1, or one of the two is empty.
    """
    if not 0 < share < 1:
        raise UserError(f"the validation share is {share}, but must be between 0 and 1")
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in corpus.pairs:
        parts[hash_fraction(pair.identity) < share].append(pair)
    if not all(parts):
        empty = "training" if parts[1] else "validation"
        raise UserError(
            f"{corpus.origin}: a validation share of {share:g} of {len(corpus):,} pairs gave no {empty} pair (pairs are split "
            "by hash): give more text or another share"
        )
    rest, held_out = (replace(corpus, pairs=tuple(pairs)) for pairs in parts)
    return rest, held_out
