"""Parallel text by name: which reader a file, two files or a dataset gets, and what all readers promise."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.config.values import checks_names
from ks_lottery.corpus.corpus import Corpus, Pair
from ks_lottery.corpus.gettext import read_gettext
from ks_lottery.corpus.languages import language_name
from ks_lottery.corpus.lines import is_encodable, read_lines
from ks_lottery.corpus.packed import check_file, ending_of
from ks_lottery.corpus.plain_text import PLAIN, plain_records, read_plain
from ks_lottery.corpus.reading import Reader, Request
from ks_lottery.corpus.records import from_records, read_json, read_json_lines
from ks_lottery.corpus.tables import read_csv, read_tsv
from ks_lottery.corpus.tmx import read_tmx
from ks_lottery.corpus.xliff import read_xliff
from ks_lottery.errors import UserError
from ks_lottery.store.run_folder import CONFIG_FILE, RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

READERS: dict[str, Reader] = {
    "tsv": read_tsv,
    "csv": read_csv,
    "jsonl": read_json_lines,
    "json": read_json,
    "lines": read_lines,
    "po": read_gettext,
    "mo": read_gettext,
    "tmx": read_tmx,
    "xliff": read_xliff,
    PLAIN: read_plain,
}
"""Format to reader."""

ENDINGS = {
    ".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".po": "po", ".mo": "mo",
    ".tmx": "tmx", ".xlf": "xliff", ".xliff": "xliff", ".sdlxliff": "xliff", ".mqxliff": "xliff", ".mxliff": "xliff",
}  # fmt: skip
"""File ending to format."""

LONGEST_SENTENCE = 100_000
"""Characters of a sentence or an instruction; a pair with a longer one is left out before it costs memory to tokenize it."""


@checks_names
def read_corpus(
    source: str | Path,
    *,
    source_language: str,
    target_language: str,
    target: str | Path | None = None,
    format: str = "auto",  # noqa: A002 (the config's name for it)
    source_column: str | None = None,
    target_column: str | None = None,
    dataset_config: str | None = None,
    dataset_split: str = "train",
    streaming: bool = False,
    limit: int | None = None,
) -> Corpus:
    """Read parallel text.

    Parameters
    ----------
    source
        A file (also ``.gz`` or ``.xz``), or the name or folder of a Hugging Face dataset.
    source_language, target_language
        Codes or English names. TMX and XLIFF files, headers and keys may name a variant (en-US for en).
    target
        The other of two line-aligned files.
    format
        ``tsv``, ``csv``, ``jsonl`` (one object a line), ``json`` (a list of objects, such as Alpaca's), ``lines``, ``po``,
        ``mo``, ``tmx``, ``xliff``, ``dataset``; ``auto`` goes by the ending. ``plain`` is text of `target_language` alone,
        a line each; or, of JSON and datasets, the key ``text`` or `target_column`.
    source_column, target_column
        Names of columns or keys, if they are not found automatically; numbers from 1 for a table without a header;
        ``translation.en`` for a key inside another.
    dataset_config, dataset_split
        Configuration and split of a dataset.
    streaming
        Read a dataset row by row, without storing it first.
    limit
        Read only the first `limit` pairs; by default all.

    Returns
    -------
    Corpus
        The pairs in the order of the text; entries that are no pairs (an empty side, an unfinished translation, a side of
        more than 100,000 characters, or one with a surrogate) are counted in ``left_out``. An ``instruction`` that a JSON
        object or a row brings with it stays with its pair, and needs no source.

    Raises
    ------
    UserError
        For a missing file, an unknown language or format, a line that is not UTF-8 or cannot be read, files of different
        length, a column that is not there, or a text without any pair.
    """
    language_name(source_language)
    language_name(target_language)
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}, but must be 1 or more")
    path = _path(source)
    kind = format if format != "auto" else _format_of(path, target)
    other = None if target is None else _path(target)
    request = Request(path, other, source_language, target_language, source_column, target_column)
    left_out: Counter[str] = Counter()
    monolingual = kind == PLAIN
    if kind == "dataset" or (monolingual and _is_dataset(path)):
        from ks_lottery.corpus.hub import read_dataset

        rows = read_dataset(str(source), dataset_config, dataset_split, streaming=streaming)
        records = plain_records if monolingual else from_records
        pairs: Iterable[Pair] = records(rows, f"dataset {source}", request)
    elif streaming:
        raise UserError(
            f"streaming is for Hugging Face datasets, but {source} is read as {kind}: leave it out, or give limit"
        )
    elif kind in READERS:
        for file in (path, other):
            if file is not None:
                check_file(file)
        pairs = READERS[kind](request, left_out)
    else:
        raise UserError(f"text format {kind} is not known; the formats are {', '.join([*READERS, 'dataset'])}")
    whole = tuple(islice(_whole(pairs, left_out, monolingual=monolingual), limit))
    if not whole:
        reasons = "".join(f"; {count:,} left out: {reason}" for reason, count in sorted(left_out.items()) if count)
        raise UserError(f"{source} holds no {'text' if monolingual else 'pairs of sentences'}{reasons}")
    return Corpus(
        whole, target_language if monolingual else source_language, target_language, str(source),
        {r: n for r, n in left_out.items() if n}, monolingual,
    )  # fmt: skip


def _whole(pairs: Iterable[Pair], left_out: Counter[str], *, monolingual: bool) -> Iterator[Pair]:
    """Yield the pairs that say something that can be written and tokenized, and count the others.

    Both sides do; or the instruction and the target of a pair without a source, or the target of a monolingual text.
    """
    for pair in pairs:
        if not (pair.target.strip() and (monolingual or pair.source.strip() or pair.instruction.strip())):
            left_out["empty"] += 1
        elif max(len(pair.source), len(pair.target), len(pair.instruction)) > LONGEST_SENTENCE:
            left_out["too long"] += 1
        elif not all(map(_is_text, (pair.source, pair.target, pair.instruction, pair.document))):
            left_out["invalid characters"] += 1
        else:
            yield pair


def _is_dataset(path: Path) -> bool:
    """Say whether a text of one language, whose format no ending tells, is a dataset: a folder, or the name of one."""
    return path.is_dir() or (not path.exists() and _format_of(path, None) == "dataset")


def _is_text(text: str) -> bool:
    return "\0" not in text and is_encodable(text)


def _path(name: str | Path) -> Path:
    if not is_encodable(str(name)):
        raise UserError(f"text file {str(name)!a} has a name that is not UTF-8: rename it")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # of ~someone
        raise UserError(f"text file {name} does not exist: {error}") from error


def _format_of(path: Path, target: object) -> str:
    if target is not None:
        return "lines"
    ending = ending_of(path)
    try:
        is_folder, is_here = path.is_dir(), path.exists() or path.is_symlink()
    except OSError as error:  # such as a name that is too long
        raise UserError(f"text file {path} cannot be read: {error.strerror or error}") from error
    if is_folder:
        if (path / CONFIG_FILE).is_file() and RunFolder(path).text("test").parent.is_dir():
            raise UserError(f"{path} is a run folder: give one of its texts, such as {RunFolder(path).text('test')}")
        return "dataset"
    if ending in ENDINGS:
        return ENDINGS[ending]
    if is_here:
        check_file(path)
        raise UserError(
            f"the format of {path} is not known from its file name: give `format`, one of {', '.join(READERS)}, or `target` "
            "for the other of two line-aligned files"
        )
    if ending or path.is_absolute() or str(path).startswith(".") or len(path.parts) > 2:
        raise UserError(f"text file {path} does not exist")
    return "dataset"
