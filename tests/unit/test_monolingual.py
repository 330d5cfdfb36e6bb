"""Text of one language: lines, or the target side of parallel text, by the options of every other text."""

from __future__ import annotations

import pytest

from ks_lottery import UserError
from ks_lottery.config.groups import TextSource
from ks_lottery.corpus.monolingual import read_sentences


def test_the_options_of_text_are_heeded(tmp_path):
    plain, other = tmp_path / "mono.ca", tmp_path / "pairs.txt"
    plain.write_text("La casa\n\nEl gos\nEl gat\n", encoding="utf-8")
    other.write_text("ca\ten\nLa casa\tThe house\nEl gos\tThe dog\n", encoding="utf-8")
    assert read_sentences(TextSource(path=str(plain))) == ["La casa", "El gos", "El gat"]
    assert read_sentences(TextSource(path=str(plain), limit=2)) == ["La casa", "El gos"]
    turned = TextSource(path=str(other), format="tsv", source_column="en", target_column="ca")
    assert read_sentences(turned) == ["La casa", "El gos"]
    (tmp_path / "mono.en").write_text("The house\n\nThe dog\nThe cat\n", encoding="utf-8")
    aligned = TextSource(path=str(tmp_path / "mono.en"), target=str(plain))
    assert read_sentences(aligned) == ["La casa", "El gos", "El gat"]
    with pytest.raises(UserError, match="does not exist"):
        read_sentences(TextSource(path=str(tmp_path / "none.ca")))


def test_a_line_that_is_too_long_is_named(tmp_path):
    file = tmp_path / "mono.ca"
    file.write_text("La casa\n" + "a" * 100_001 + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 2 has 100,001 characters"):
        read_sentences(TextSource(path=str(file)))
    assert read_sentences(TextSource(path=str(file), limit=1)) == ["La casa"]
