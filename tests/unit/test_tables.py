"""Tables: which columns are taken, with and without a header, and what is refused."""

from __future__ import annotations

import csv

import pytest

from ks_lottery import UserError, read_corpus

PAIRS = [("The house is old", "La casa és vella"), ("Hello, world", "Hola, món")]


def read(path, **more):
    corpus = read_corpus(path, **{"source_language": "en", "target_language": "ca", **more})
    return [(pair.source, pair.target) for pair in corpus]


def table(path, rows, delimiter="\t"):
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "header",
    [
        ["source", "target"],
        ["Source", "TARGET"],
        ["en", "ca"],
        ["en-GB", "ca_ES"],
        ["eng", "cat"],
        ["English", "Catalan"],
    ],
)
def test_headers_that_are_known(tmp_path, header):
    rows = [["id", header[1], header[0]], *([str(i), t, s] for i, (s, t) in enumerate(PAIRS))]
    assert read(table(tmp_path / "a.tsv", rows)) == PAIRS


def test_numbers_name_columns_of_a_table_without_header(tmp_path):
    file = table(tmp_path / "a.tsv", [["17", t, "x", s] for s, t in PAIRS])
    assert read(file, source_column="4", target_column="2") == PAIRS
    with pytest.raises(UserError, match="no column '5'; it has 17, .* give numbers from 1"):
        read(file, source_column="5", target_column="2")
    with pytest.raises(UserError, match="4 columns and no header that is known.*by numbers from 1"):
        read(file)


def test_a_number_can_be_the_name_of_a_column(tmp_path):
    file = table(tmp_path / "a.tsv", [["2", "1"], *([s, t] for s, t in PAIRS)])
    assert read(file, source_column="2", target_column="1") == PAIRS


def test_one_named_column_leaves_the_other_to_the_header(tmp_path):
    file = table(tmp_path / "a.tsv", [["text", "target", "ca"], *([s, t, "x"] for s, t in PAIRS)])
    assert read(file, source_column="text") == PAIRS
    with pytest.raises(UserError, match="no column 'source'; it has text, target, ca"):
        read(file, target_column="ca")


def test_empty_cells_are_counted_and_not_moved(tmp_path):
    file = table(tmp_path / "a.tsv", [[*PAIRS[0]], ["only source", ""], ["", "sols destí"], [*PAIRS[1]]])
    corpus = read_corpus(file, source_language="en", target_language="ca")
    assert [(pair.source, pair.target) for pair in corpus] == PAIRS
    assert corpus.left_out == {"empty": 2}


def test_csv_cells_of_several_lines(tmp_path):
    file = tmp_path / "a.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("en", "ca"), ('two\nlines, "quoted"', "dues\nlínies"), *PAIRS])
    assert read(file) == [('two lines, "quoted"', "dues línies"), *PAIRS]


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('a,b\n"c,d\ne,f\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.csv, line 3 is not valid CSV: unexpected end of data"):
        read(file)
    file.write_text('a,b\n"c"d,e\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.csv, line 2 is not valid CSV"):
        read(file)


def test_a_cell_beyond_the_csv_limit_is_named(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\nc," + "x" * (csv.field_size_limit() + 1) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2 is not valid CSV: field larger"):
        read(file)
    assert read(file.rename(tmp_path / "a.tsv"), source_column="1", target_column="1", limit=1) == [("a,b", "a,b")]


def test_limit_takes_the_first_pairs(tmp_path):
    file = table(tmp_path / "a.tsv", [["", "x"], *([s, t] for s, t in PAIRS)])
    assert read(file, limit=1) == PAIRS[:1]
    with pytest.raises(UserError, match="limit is 0"):
        read(file, limit=0)
