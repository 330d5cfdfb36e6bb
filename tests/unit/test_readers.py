"""Readers of parallel text: each format, and each way a file can be wrong."""

from __future__ import annotations

import gzip
import json
import lzma
import struct

import polib
import pytest

from ks_lottery import UserError, read_corpus, split
from ks_lottery.corpus.gettext import read_catalogs, usable_counts
from ks_lottery.evaluation.hypotheses import Hypotheses, read_hypotheses

PAIRS = [("The house is old", "La casa és vella"), ('A "quoted" word, here', 'Una paraula "citada", aquí')]


def read(path, **more):
    corpus = read_corpus(path, source_language="en", target_language="ca", **more)
    return [(pair.source, pair.target) for pair in corpus]


def test_tsv_keeps_quotes(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS), encoding="utf-8")
    assert read(file) == PAIRS


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tsv_with_header_marks_and_line_ends(tmp_path, ending, mark):
    file = tmp_path / "a.tsv"
    lines = ["id\tca\ten", *(f"{i}\t{t}\t{s}" for i, (s, t) in enumerate(PAIRS)), ""]
    file.write_bytes((mark + ending.join(lines)).encode())
    assert read(file) == PAIRS
    assert read(file, source_column="ca", target_column="en") == [(t, s) for s, t in PAIRS]
    with pytest.raises(UserError, match="no column 'english'; it has id, ca, en"):
        read(file, source_column="english", target_column="ca")


def test_csv_with_quoted_commas(tmp_path):
    import csv

    file = tmp_path / "a.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("source", "target"), *PAIRS])
    assert read(file) == PAIRS


def test_a_short_row_is_named(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("one\tun\n\ntwo\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.tsv, line 3 has 1 column"):
        read(file)


@pytest.mark.parametrize("keys", [("source", "target"), ("input", "output"), ("en", "ca")])
def test_jsonl_of_each_kind(tmp_path, keys):
    file = tmp_path / "a.jsonl"
    rows = [{"instruction": "Translate.", keys[0]: s, keys[1]: t} for s, t in PAIRS]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert read(file) == PAIRS


def test_a_json_list_as_alpaca_is_published(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"instruction": "x", "input": s, "output": t} for s, t in PAIRS], indent=1))
    assert read(file) == PAIRS


def test_nested_translations(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"translation": {"en": s, "ca": t}}) + "\n" for s, t in PAIRS))
    assert read(file) == PAIRS


def test_bad_json_names_its_line(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"source": "a", "target": "b"}\n{"source": \n')
    with pytest.raises(UserError, match="line 2 is not valid JSON"):
        read(file)
    file.write_text('{"source": "a", "target": "b"}\n{"source": "c"}\n')
    with pytest.raises(UserError, match="record 2 has no 'target'"):
        read(file)
    file.write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(UserError, match=r"question, answer.*`source_column`"):
        read(file)
    file.write_text('{"source": "a", "target": 3}\n')
    with pytest.raises(UserError, match="must be text"):
        read(file)


def test_line_aligned_files(tmp_path):
    one, two = tmp_path / "a.en", tmp_path / "a.ca"
    one.write_text("".join(f"{s} \n" for s, _ in PAIRS), encoding="utf-8")
    two.write_text("".join(f"{t}\n" for _, t in PAIRS), encoding="utf-8")
    assert read(one, target=two) == PAIRS
    two.write_text("només una\n", encoding="utf-8")
    with pytest.raises(UserError, match="2 lines and .* has 1: they are not line-aligned"):
        read(one, target=two)
    with pytest.raises(UserError, match="`target` for the other"):
        read(one)


def test_unusual_line_separators_do_not_shift_the_lines(tmp_path):
    one, two = tmp_path / "a.en", tmp_path / "a.ca"
    one.write_text("first\u2028half\x0b\nsecond\n", encoding="utf-8")
    two.write_text("primera\nsegona\x85\n", encoding="utf-8")
    assert [source for source, _ in read(one, target=two)] == ["first\u2028half", "second"]


@pytest.mark.parametrize(("opener", "ending"), [(gzip.open, "gz"), (lzma.open, "xz")])
def test_packed_files(tmp_path, opener, ending):
    file = tmp_path / f"a.tsv.{ending}"
    with opener(file, "wt", encoding="utf-8") as handle:
        handle.write("".join(f"{s}\t{t}\n" for s, t in PAIRS))
    assert read(file) == PAIRS
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(UserError, match="not a whole packed file"):
        read(file)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_bytes(b"a\tb\nc\td\ncaf\xe9\tx\n")
    with pytest.raises(UserError, match=r"a\.tsv, line 3 is not UTF-8"):
        read(file)


def catalog(folder, language="ca"):
    made = polib.POFile()
    made.metadata = {"Content-Type": "text/plain; charset=utf-8", "Plural-Forms": "nplurals=2; plural=(n != 1);"}
    made.append(polib.POEntry(msgid="Please enter a\n valid password", msgstr="Introdueix una\n contrasenya vàlida"))
    made.append(polib.POEntry(msgid="%d page", msgid_plural="%d pages", msgstr_plural={0: "%d pàgina", 1: "%d p."}))
    made.append(polib.POEntry(msgid="Not done yet", msgstr=""))
    made.append(polib.POEntry(msgid="A guess", msgstr="Una endevinalla", flags=["fuzzy"]))
    made.append(polib.POEntry(msgid="Gone", msgstr="Desaparegut", obsolete=True))
    path = folder / "app" / "locale" / language / "LC_MESSAGES" / "django.po"
    path.parent.mkdir(parents=True)
    made.save(str(path))
    made.save_as_mofile(str(path.with_suffix(".mo")))
    return path


def test_catalogs_take_finished_single_messages_alone(tmp_path):
    path = catalog(tmp_path)
    wanted = [("Please enter a valid password", "Introdueix una contrasenya vàlida")]
    assert read(path) == wanted
    assert read(path.with_suffix(".mo")) == wanted
    corpus, dropped = read_catalogs([path.with_suffix(".mo")], tmp_path, target_language="CA")
    assert [(pair.source, pair.target) for pair in corpus] == wanted
    assert corpus.pairs[0].document == "app/locale/ca/LC_MESSAGES/django.mo"
    assert dropped["plural"] == 1


def test_a_damaged_catalog_is_named(tmp_path):
    path = catalog(tmp_path).with_suffix(".mo")
    for damage in (path.read_bytes()[:30], b"\x00" * 40, b""):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="not a gettext catalog"):
            read(path)


def test_usable_counts_by_language(tmp_path):
    files = [catalog(tmp_path / language, language).with_suffix(".mo") for language in ("ca", "pt_BR", "en_GB")]
    assert usable_counts(files, tmp_path, min_words=4) == {"ca": 1, "pt_BR": 1}
    assert usable_counts(files, tmp_path, min_words=9) == {"ca": 0, "pt_BR": 0}


def test_a_local_hugging_face_dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"en": s, "ca": t}) + "\n" for s, t in PAIRS))
    assert read(folder, format="dataset") == PAIRS
    with pytest.raises(UserError, match="split dev"):
        read(folder, format="dataset", dataset_split="dev")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"source": "no/such/file.tsv"}, "does not exist"),
        ({"source": "file.parquet"}, "does not exist"),
        ({"source": "a.tsv", "format": "xml"}, "format xml is not known"),
        ({"source": "a.tsv", "target_language": "klingonish"}, "language 'klingonish' is not known"),
    ],
)
def test_what_cannot_be_read(call, message):
    with pytest.raises(UserError, match=message):
        read_corpus(**{"source_language": "en", "target_language": "ca", **call})


def test_saved_text_reads_back(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS), encoding="utf-8")
    corpus = read_corpus(file, source_language="en", target_language="ca")
    corpus.save(tmp_path / "b.jsonl")
    assert read(tmp_path / "b.jsonl") == PAIRS


SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_no_other_character_ends_a_line(tmp_path, separator, ending):
    """From the file over the split and its saved parts to the hypotheses."""
    wanted = [(f"one{separator}two number {n}", f"un{separator}dos {n}") for n in range(40)]
    for name in ("a.tsv", "a.csv"):
        lines = (f"{s}{chr(9) if name == 'a.tsv' else ','}{t}{ending}" for s, t in wanted)
        (tmp_path / name).write_bytes("".join(lines).encode())
        assert read(tmp_path / name) == wanted
    (tmp_path / "a.jsonl").write_bytes(
        "".join(json.dumps({"source": s, "target": t}, ensure_ascii=False) + ending for s, t in wanted).encode()
    )
    corpus = read_corpus(tmp_path / "a.jsonl", source_language="en", target_language="ca")
    assert [(p.source, p.target) for p in corpus] == wanted
    for part in (split(corpus).train, split(corpus).test):
        assert read_corpus(part.save(tmp_path / "part.jsonl"), source_language="en", target_language="ca") == part
    work = Hypotheses(tmp_path / "work", corpus.pairs, made_from={}, settings={})
    work.keep(dict.fromkeys(range(20), f"un{separator}dos"))
    again = Hypotheses(tmp_path / "work", corpus.pairs, made_from={}, settings={})
    assert again.done == work.done
    again.keep({n: t for n, (_, t) in enumerate(wanted)})
    again.finish()
    assert [row["hypothesis"] for row in read_hypotheses(tmp_path / "work")] == [t for _, t in wanted]


def test_text_in_utf16_is_refused(tmp_path):
    for encoding in ("utf-16", "utf-16-le"):
        (tmp_path / "a.tsv").write_bytes("a\tb\n".encode(encoding))
        with pytest.raises(UserError, match="line 1 (is not UTF-8|contains a NUL character)"):
            read(tmp_path / "a.tsv")


def test_no_break_spaces_of_a_catalog_are_kept(tmp_path):
    catalog = polib.POFile()
    catalog.metadata = {"Content-Type": "text/plain; charset=UTF-8"}
    catalog.append(polib.POEntry(msgid="What\nis it?", msgstr="Quelle heure\n est-il\u202f?\u00a0"))
    catalog.save(str(tmp_path / "a.po"))
    catalog.save_as_mofile(str(tmp_path / "a.mo"))
    for name in ("a.po", "a.mo"):
        assert read(tmp_path / name) == [("What is it?", "Quelle heure est-il\u202f?\u00a0")]


def test_a_catalog_of_strings_that_overlap_is_refused_in_bounded_memory(tmp_path):
    count, size = 50_000, 1_000_000
    tables = struct.pack("<II", size, 28 + 16 * count) * (2 * count)
    file = tmp_path / "a.mo"
    file.write_bytes(
        struct.pack("<IIIIIII", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0) + tables + b"a" * size + b"\0"
    )
    with pytest.raises(UserError, match="strings overlap"):
        read(file)
