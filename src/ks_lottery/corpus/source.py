"""From text settings to a corpus, wherever the text comes from; and to the clean, split text of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import CATALOGS
from ks_lottery.config.groups import TextSource
from ks_lottery.corpus.column_languages import column_remark
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.corpus.gettext import read_catalogs, usable_counts
from ks_lottery.corpus.lines import is_encodable
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.corpus.selection import Split, keep_useful, split
from ks_lottery.errors import UserError
from ks_lottery.store import assets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ks_lottery.config.settings import TextConfig


def load_text(config: TextConfig) -> tuple[Split, dict[str, Any]]:
    """Read, clean and split the text of a run.

    Returns
    -------
    split
        Train, calibration and test text, cut to ``max_train`` and ``max_test``.
    report
        What was read and dropped, the sizes of the parts, those of the held-out parts before ``max_test`` cut them, the seed of
        the split, and the fingerprint of the text.

    Raises
    ------
    UserError
        When the text cannot be read, or has too few usable pairs; for the embedded catalogs it lists the languages that
        have enough.
    """
    corpus = read_text(config.source)
    useful, report = keep_useful(
        corpus,
        min_words=config.min_words,
        drop_placeholders=config.drop_placeholders,
        drop_markup=config.drop_markup,
    )
    if len(useful) < config.min_pairs:
        raise _too_few(config, len(useful), useful.unit)
    parts = split(useful, calibration=config.calibration_share, test=config.test_share, seed=config.split_seed)
    cut = Split(
        train=parts.train if config.max_train is None else parts.train.head(config.max_train),
        calibration=parts.calibration,
        test=parts.test if config.max_test is None else parts.test.head(config.max_test),
        uncut=None if config.max_test is None else parts.test,
    )
    sizes = {name: len(getattr(cut, name)) for name in ("train", "calibration", "test")}
    described = {
        "origin": corpus.origin,
        "sentence": report.sentence(),
        "columns": column_remark(useful) or "",
        "dropped": {**report.as_dict(), **corpus.left_out},
        "left_out": "" if config.train == CATALOGS else reasons(corpus.left_out),
        "split": sizes,
        "held_out": {"calibration": len(parts.calibration), "test": len(parts.test)},
        "split_seed": config.split_seed,
        "fingerprint": useful.fingerprint,
    }
    return cut, described


def reasons(left_out: Mapping[str, int]) -> str:
    """Return what was left out in reading, for people.

    >>> reasons({"unfinished": 1200, "empty": 3})
    '1,200 unfinished, 3 empty'
    """
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)


def open_corpus(text: Corpus | TextSource | str | Path) -> Corpus:
    """Return the corpus that a library call was given: opened already, or by the name of a file or a dataset.

    Parameters
    ----------
    text
        A name is read as English to Catalan, the defaults of `TextSource`, which says otherwise.

    Raises
    ------
    UserError
        When it cannot be read.
    """
    if isinstance(text, Corpus):
        return text
    return read_text(text if isinstance(text, TextSource) else TextSource(path=str(text)))


def read_text(source: TextSource) -> Corpus:
    """Read the text that settings name, whole: neither cleaned nor split.

    The one way from settings to a corpus: every command, and every stage of a run, reads its text here.

    Raises
    ------
    UserError
        When it cannot be read; see `ks_lottery.corpus.readers.read_corpus`.
    """
    if source.instruction is not None and not is_encodable(source.instruction):
        raise UserError("`instruction` is not UTF-8 text: write it in UTF-8")
    corpus = _read(source)
    if corpus.monolingual and source.instruction is not None:
        raise UserError(f"{corpus.origin} is plain text, which is shown without a prompt: leave `instruction` out")
    return corpus if source.instruction is None else corpus.with_instruction(source.instruction)


def _read(source: TextSource) -> Corpus:
    if source.path.startswith("asset:"):
        if source.path != CATALOGS:
            raise UserError(f"text {source.path} is not known; the embedded one is {CATALOGS}")
        if source.source_language != "en":
            raise UserError(f"{CATALOGS} translates from en only, not from {source.source_language}")
        files = assets.catalog_files()
        corpus, left_out = read_catalogs(files, assets.catalog_root(), target_language=source.target_language)
        first = corpus if source.limit is None else corpus.head(source.limit)
        return replace(first, left_out=left_out)
    return read_corpus(
        source.path,
        source_language=source.source_language,
        target_language=source.target_language,
        target=source.target,
        format=source.format,
        source_column=source.source_column,
        target_column=source.target_column,
        dataset_config=source.dataset_config,
        dataset_split=source.dataset_split,
        streaming=source.dataset_streaming,
        limit=source.limit,
    )


def _too_few(config: TextConfig, count: int, unit: str) -> UserError:
    if config.train != CATALOGS:
        return UserError(
            f"{config.train} has {count} usable {unit} and `text.min_pairs` asks for {config.min_pairs}: "
            "give more text, or lower `text.min_pairs`"
        )
    counts = usable_counts(assets.catalog_files(), assets.catalog_root(), min_words=config.min_words)
    enough = [f"{code} ({n})" for code, n in sorted(counts.items(), key=lambda c: -c[1]) if n >= config.min_pairs]
    return UserError(
        f"language {config.target_language} has {count} usable pairs in the catalogs and {config.min_pairs} are needed; "
        f"these have enough: {', '.join(enough)}"
    )
