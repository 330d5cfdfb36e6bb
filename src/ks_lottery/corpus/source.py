"""From the text settings of a run to a clean, split corpus, wherever the text comes from.

Must never train on, or count, a pair that it did not report.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.gettext import read_catalogs, usable_counts
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.corpus.selection import Split, keep_useful, split
from ks_lottery.errors import UserError
from ks_lottery.store import assets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.config.settings import TextConfig
    from ks_lottery.corpus.corpus import Corpus

CATALOGS = "asset:catalogs"
"""The gettext catalogs of django, wagtail, django-cms and djangorestframework."""


def load_text(config: TextConfig) -> tuple[Split, dict[str, Any]]:
    """Read, clean and split the text of a run.

    Returns
    -------
    split
        Train, calibration and test text, cut to ``max_train`` and ``max_test``.
    report
        What was read and dropped, the sizes of the splits, and the fingerprint of the text.

    Raises
    ------
    UserError
        When the text cannot be read, or has too few usable pairs; for the embedded catalogs it lists the languages that
        have enough.
    """
    corpus = read_text(config)
    kept, report = keep_useful(
        corpus,
        min_words=config.min_words,
        drop_placeholders=config.drop_placeholders,
        drop_markup=config.drop_markup,
    )
    if len(kept) < config.min_pairs:
        raise _too_few(config, len(kept))
    parts = split(kept, calibration=config.calibration_share, test=config.test_share)
    cut = Split(
        train=parts.train if config.max_train is None else parts.train.head(config.max_train),
        calibration=parts.calibration,
        test=parts.test if config.max_test is None else parts.test.head(config.max_test),
    )
    sizes = {name: len(getattr(cut, name)) for name in ("train", "calibration", "test")}
    described = {
        "origin": corpus.origin,
        "sentence": report.sentence(),
        "dropped": {**report.as_dict(), **corpus.left_out},
        "left_out": "" if config.train == CATALOGS else reasons(corpus.left_out),
        "split": sizes,
        "fingerprint": kept.fingerprint,
    }
    return cut, described


def reasons(left_out: Mapping[str, int]) -> str:
    """Return what was left out in reading, for people.

    >>> reasons({"unfinished": 1200, "empty": 3})
    '1,200 unfinished, 3 empty'
    """
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)


def read_text(config: TextConfig) -> Corpus:
    """Read the text that settings name, whole: neither cleaned nor split.

    Raises
    ------
    UserError
        When it cannot be read.
    """
    corpus = _read(config)
    return corpus if config.instruction is None else corpus.with_instruction(config.instruction)


def _read(config: TextConfig) -> Corpus:
    if config.train.startswith("asset:"):
        if config.train != CATALOGS:
            raise UserError(f"text {config.train} is not known; the embedded one is {CATALOGS}")
        if config.source_language != "en":
            raise UserError(f"{CATALOGS} translates from en only, not from {config.source_language}")
        files = assets.catalog_files()
        corpus, left_out = read_catalogs(files, assets.catalog_root(), target_language=config.target_language)
        kept = corpus if config.limit is None else corpus.head(config.limit)
        return replace(kept, left_out=left_out)
    return read_corpus(
        config.train,
        source_language=config.source_language,
        target_language=config.target_language,
        target=config.target,
        format=config.format,
        source_column=config.source_column,
        target_column=config.target_column,
        dataset_config=config.dataset_config,
        dataset_split=config.dataset_split,
        streaming=config.dataset_streaming,
        limit=config.limit,
    )


def _too_few(config: TextConfig, found: int) -> UserError:
    if config.train != CATALOGS:
        return UserError(
            f"{config.train} has {found} usable pairs and text.min_pairs asks for {config.min_pairs}: "
            "give more text, or lower text.min_pairs"
        )
    counts = usable_counts(assets.catalog_files(), assets.catalog_root(), min_words=config.min_words)
    enough = [f"{code} ({n})" for code, n in sorted(counts.items(), key=lambda c: -c[1]) if n >= config.min_pairs]
    return UserError(
        f"language {config.target_language} has {found} usable pairs in the catalogs and {config.min_pairs} are needed; "
        f"these have enough: {', '.join(enough)}"
    )
