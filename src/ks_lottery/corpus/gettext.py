"""Pairs from gettext catalogs (PO, MO): finished single messages and their translations."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import CATALOGS
from ks_lottery.corpus.corpus import Corpus, Pair
from ks_lottery.corpus.languages import language_rank
from ks_lottery.corpus.packed import ending_of, unpacked
from ks_lottery.corpus.reading import shortened
from ks_lottery.corpus.selection import keep_useful
from ks_lottery.corpus.white_space import single_spaced
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ks_lottery.corpus.reading import Request


def read_catalog(path: Path) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Return the pairs of one catalog, in its order, and how many entries were left out and why.

    Raises
    ------
    UserError
        When the file is no catalog.
    """
    return _pairs_of(_entries(path))


def _entries(path: Path) -> Any:
    import polib

    with unpacked(path) as plain:
        try:
            if ending_of(path) != ".mo":
                return polib.pofile(str(plain))
            _check_sizes(plain.read_bytes())
            return polib.mofile(str(plain))
        except (OSError, ValueError, LookupError, struct.error) as error:  # what polib raises for damaged files
            reason = shortened(str(error).replace(str(plain), str(path)))
            remedy = (
                ": convert it to UTF-8, or name its encoding in its header" if isinstance(error, UnicodeError) else ""
            )
            raise UserError(f"{path} is not a gettext catalog that can be read: {reason}{remedy}") from error


def _check_sizes(content: bytes) -> None:
    """Refuse a binary catalog whose strings overlap so much that they are larger together than the file could hold.

    Raises
    ------
    ValueError
        When they are, or their tables are not in the file.
    """
    order = "<" if content[:4] == b"\xde\x12\x04\x95" else ">"
    _, count, *places = struct.unpack_from(f"{order}IIII", content, 4)
    total = 0
    for place in places:
        if place + 8 * count > len(content):
            raise ValueError("its tables end after the file")
        total += sum(struct.unpack_from(f"{order}{2 * count}I", content, place)[::2])
    if total > 4 * len(content):
        raise ValueError("its strings overlap")


def _pairs_of(entries: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    import polib

    pairs: list[tuple[str, str]] = []
    dropped = {"plural": 0, "untranslated": 0}
    for entry in entries:
        if entry.msgid_plural:
            dropped["plural"] += 1
        elif not entry.msgstr or (isinstance(entry, polib.POEntry) and (entry.fuzzy or entry.obsolete)):
            dropped["untranslated"] += 1
        else:
            pairs.append((single_spaced(entry.msgid), single_spaced(entry.msgstr)))
    return pairs, dropped


def read_gettext(request: Request, left_out: Counter[str]) -> Iterable[Pair]:
    """Read one catalog that the user named.

    Raises
    ------
    UserError
        When the catalog says that it translates to another language.
    """
    entries = _entries(request.path)
    language = str(entries.metadata.get("Language", "")).strip()
    if language and language_rank(language, request.target_language) is None:
        raise UserError(f"{request.path} translates to {shortened(language, 40)}, not to {request.target_language}")
    pairs, dropped = _pairs_of(entries)
    left_out.update(dropped)
    return [Pair(source, target) for source, target in pairs]


def language_of(path: Path) -> str:
    """Return the language that a catalog translates to: the folder above ``LC_MESSAGES``."""
    return path.parent.parent.name


def _same(code: str, other: str) -> bool:
    return code.replace("-", "_").lower() == other.replace("-", "_").lower()


def read_catalogs(files: Sequence[Path], root: Path, *, target_language: str) -> tuple[Corpus, dict[str, int]]:
    """Join the catalogs of one language, in the order of `files`; an unknown language gives an empty corpus.

    Parameters
    ----------
    files
        Catalogs of all languages, from English, each as ``.../LANGUAGE/LC_MESSAGES/NAME.mo``.
    root
        What the names of documents are relative to.
    """
    pairs: list[Pair] = []
    left_out = {"plural": 0, "untranslated": 0}
    for file in files:
        if not _same(language_of(file), target_language):
            continue
        sentences, dropped = read_catalog(file)
        document = file.relative_to(root).as_posix()
        pairs += [Pair(source, target, document) for source, target in sentences]
        for reason, count in dropped.items():
            left_out[reason] += count
    return Corpus(tuple(pairs), "en", target_language, CATALOGS), left_out


def usable_counts(files: Sequence[Path], root: Path, *, min_words: int) -> dict[str, int]:
    """Count the usable pairs of every language in the catalogs."""
    languages = sorted({language_of(file) for file in files if not language_of(file).startswith("en")})
    counts: dict[str, int] = {}
    for language in languages:
        corpus, _ = read_catalogs(files, root, target_language=language)
        counts[language] = len(keep_useful(corpus, min_words=min_words)[0])
    return counts
