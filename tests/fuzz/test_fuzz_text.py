"""Damaged text of every format: a corpus or one sentence, and what is read can be written, split and read again."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import polib
import pytest
from amount import examples
from hypothesis import given
from hypothesis import strategies as st
from translate.storage.tmx import tmxfile
from translate.storage.xliff import Xliff1File
from translate.storage.xliff2 import Xliff2File

from ks_lottery import Corpus, UserError, keep_useful, read_corpus
from ks_lottery.corpus.markup import MARK

PAIRS = [
    ("The house is old and cold", "La casa és vella i freda"),
    ("Hello, big world", "Hola, món"),
    ("%d files", "%d"),
]


def _catalog(*, binary: bool) -> bytes:
    catalog = polib.POFile()
    catalog.metadata = {"Content-Type": "text/plain; charset=UTF-8", "Language": "ca"}
    for source, target in PAIRS:
        catalog.append(polib.POEntry(msgid=source, msgstr=target))
    catalog.append(polib.POEntry(msgid="a", msgid_plural="as", msgstr_plural={0: "b", 1: "bs"}))
    return catalog.to_binary() if binary else str(catalog).encode()


def _exchange(kind) -> bytes:
    store = kind()
    store.sourcelanguage, store.targetlanguage = "en", "ca"
    for source, target in PAIRS:
        unit = store.addsourceunit(source)
        unit.target = target
    return bytes(store)


def _memory() -> bytes:
    store = tmxfile(sourcelanguage="en", targetlanguage="ca")
    for source, target in PAIRS:
        store.addtranslation(source, "en", target, "ca")
    return bytes(store)


SEEDS: dict[str, bytes] = {
    "a.tsv": "".join(f"{s}\t{t}\r\n" for s, t in PAIRS).encode(),
    "b.tsv": b"id\ten\tca\n" + "".join(f"1\t{s}\t{t}\n" for s, t in PAIRS).encode(),
    "a.csv": b"source,target\n" + "".join(f'"{s}","{t}"\n' for s, t in PAIRS).encode(),
    "a.jsonl": "".join(f'{{"source": "{s}", "target": "{t}", "document": "d"}}\n' for s, t in PAIRS).encode(),
    "b.jsonl": "".join(f'{{"translation": {{"en": "{s}", "ca": "{t}"}}}}\n' for s, t in PAIRS).encode(),
    "a.json": b"[" + ",".join(f'{{"instruction": "x", "input": "{s}", "output": "{t}"}}' for s, t in PAIRS).encode() + b"]",
    "a.po": _catalog(binary=False),
    "a.mo": _catalog(binary=True),
    "a.tmx": _memory(),
    "b.tmx": _memory().decode().replace("Hello,", "<ph x='1'>{0}</ph><![CDATA[R&D]]><bpt i='1'/>").encode(),
    "a.xlf": _exchange(Xliff1File),
    "b.xlf": _exchange(Xliff2File),
    "c.xlf": _exchange(Xliff1File).decode().replace("Hello", "<x id='1'/><g id='2'>H</g>").encode(),
}  # fmt: skip

SPLICES = [
    b"\0", b"\n", b"\r", b"\t", b'"', b"\\", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b\x0c\x1c",
    b"\xef\xbb\xbf", b"\xff\xfe", b'"\\ud800"', b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"1e999", b"NaN", b"null",
    b"{}", b"[]", b"&#x1F;", b"&#0;", b"&#xD800;", b"&#99999999999;", b"&nbsp;", b"&e;", b"&", b"<", b">", b"]]>",
    b"<![CDATA[", b"<!--", b"-->", b"</seg>", b"<seg>", b"<ph/>", b"<x/>", b"<mrk mtype='seg'>",
    b"<file source-language='de' target-language='it'>", b"</file>", b"<tu>", b"<unit>",
    b"<!DOCTYPE a [<!ENTITY e 'x'><!ENTITY f '&e;&e;&e;'>]>", b"encoding='utf-16'", b"encoding='hex'",
    b"encoding='utf-7'", b"charset=utf-16", b"charset=zlib", b"charset=idna", b"msgid", b"msgstr[1]", b"msgctxt \"",
    b"#~ ", b"#, fuzzy\n", b"\\x", b"\\n", b"xml:space='preserve'", b"xml:lang='ca'", b"state='new'",
    b"approved='no'", b"Language: de\\n", b"x" * 200_000,
]  # fmt: skip

EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("splice"), st.floats(0, 1), st.integers(0, len(SPLICES) - 1)),
        st.tuples(st.just("replace"), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.integers(1, 60)),
        st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 60)),
        st.tuples(st.just("end"), st.floats(0, 1), st.none()),
    ),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, edits) -> bytes:
    for kind, share, what in edits:
        place = int(share * len(content))
        before, after = content[:place], content[place:]
        if kind == "splice":
            content = before + SPLICES[what] + after
        elif kind == "replace":
            content = before + what + after[len(what) :]
        elif kind == "cut":
            content = before + after[what:]
        elif kind == "repeat":
            content = before + after[:what] * 3 + after[what:]
        else:
            content = before
    return content


def outcome(file: Path) -> Corpus | str:
    try:
        return read_corpus(file, source_language="en", target_language="ca")
    except UserError as error:
        return str(error)


def check(file: Path) -> None:
    corpus = outcome(file)
    if isinstance(corpus, str):
        assert "\n" not in corpus
        assert len(corpus) < 4000
        return
    for pair in corpus:
        assert pair.source.strip() or pair.instruction.strip()  # an instruction may need no input
        assert pair.target.strip()
        assert len(pair.source) <= 100_000
        assert MARK not in pair.source + pair.target
    corpus.save(file.parent / "again.jsonl")
    again = read_corpus(file.parent / "again.jsonl", source_language="en", target_language="ca")
    assert again == corpus
    keep_useful(corpus)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@given(name=st.sampled_from(sorted(SEEDS)), edits=EDITS)
@examples(1500)
def test_damaged_text(name, edits, folder):
    file = folder / name
    file.write_bytes(edited(SEEDS[name], edits))
    check(file)


@given(
    name=st.sampled_from(["a.tsv", "a.jsonl", "a.po", "a.tmx", "a.xlf"]),
    packing=st.sampled_from([("gz", gzip.compress), ("xz", lzma.compress)]),
    edits=EDITS,
    inside=st.booleans(),
    members=st.integers(1, 3),
)
@examples(500)
def test_damaged_packed_text(name, packing, edits, inside, members, folder):
    ending, pack = packing
    content = edited(SEEDS[name], edits) if inside else SEEDS[name]
    packed = b"".join(pack(content) for _ in range(members))
    file = folder / f"{name}.{ending}"
    file.write_bytes(packed if inside else edited(packed, edits))
    check(file)
