"""Packed files and what is not a regular file: read as gzip and lzma read them, or refused in bounded time and memory."""

from __future__ import annotations

import gzip
import lzma
import os
import tracemalloc

import pytest

from ks_lottery import UserError, read_corpus
from ks_lottery.corpus.packed import opened

CONTENT = b"".join(b"sentence %d\tfrase %d\n" % (n, n) for n in range(20_000))
PACKERS = [("gz", gzip), ("xz", lzma)]


def read(path, **more):
    return read_corpus(path, source_language="en", target_language="ca", **more)


@pytest.mark.parametrize(("ending", "module"), PACKERS)
@pytest.mark.parametrize("padding", [b"", bytes(512)])
def test_members_and_padding_as_the_standard_library_reads_them(tmp_path, ending, module, padding):
    file = tmp_path / f"a.tsv.{ending}"
    file.write_bytes(module.compress(CONTENT) + module.compress(b"") + module.compress(CONTENT[:1000]) + padding)
    with opened(file) as ours:
        assert ours.read() == CONTENT + CONTENT[:1000]
    if not padding or ending == "gz":  # xz allows zeros at the end, Python's lzma does not
        with module.open(file) as handle:
            assert handle.read() == CONTENT + CONTENT[:1000]
    with opened(file) as ours:
        assert b"".join(iter(lambda: ours.read(7), b"")) == CONTENT + CONTENT[:1000]


@pytest.mark.parametrize(("ending", "module"), PACKERS)
def test_a_packed_file_that_is_not_whole_is_refused(tmp_path, ending, module):
    file, whole = tmp_path / f"a.tsv.{ending}", module.compress(CONTENT)
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for damaged in (b"", whole[:-1], whole[:10], flipped, whole + b"garbage", whole + whole[:-9], b"plain\ttext\n"):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="is not a whole packed file"), opened(file) as handle:
            handle.read()
        with pytest.raises(UserError):
            read(file)


@pytest.mark.parametrize(("ending", "module"), PACKERS)
@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.json", "a.po", "a.mo", "a.tmx", "a.xlf"])
def test_a_file_that_unpacks_to_too_much_is_refused_in_bounded_memory(tmp_path, ending, module, name):
    file = tmp_path / f"{name}.{ending}"
    with module.open(file, "wb") as handle:
        handle.write({"a.tmx": b"<tmx>", "a.xlf": b"<xliff>", "a.json": b"["}.get(name, b""))
        for _ in range(150):
            handle.write((b" " * 999 + b"\n") * 1000)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"unpacks to more than|[Tt]ext node") as caught:
            read(file)
        assert tracemalloc.get_traced_memory()[1] < 400e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_a_file_without_line_ends_is_refused_in_bounded_memory(tmp_path, name):
    file = tmp_path / name
    with file.open("wb") as handle:
        for _ in range(300):
            handle.write(b"a" * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="line 1 is longer than"):
            read(file)
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.po", "a.mo", "a.xlf", "a.json"])
def test_a_file_that_is_read_whole_has_a_largest_size(tmp_path, name):
    file = tmp_path / name
    with file.open("wb") as handle:
        handle.write(b"<xliff>" if name == "a.xlf" else b"[")
        handle.truncate(300_000_000)
    with pytest.raises(UserError, match="that are read"):
        read(file)


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.tsv")
    (tmp_path / "b.tsv").symlink_to(tmp_path / "none")
    (tmp_path / "c.tsv").symlink_to("/dev/zero")
    (tmp_path / "folder.tsv").mkdir()
    (tmp_path / "plain.tsv").write_text("a\tb\n")
    for name, more, message in [
        ("a.tsv", {}, "is not a regular file"),
        ("a.tsv", {"format": "po"}, "is not a regular file"),
        ("plain.tsv", {"target": tmp_path / "a.tsv"}, "is not a regular file"),
        ("b.tsv", {}, "is a link to a file that does not exist"),
        ("c.tsv", {}, "is not a regular file"),
        ("folder.tsv", {"format": "tsv"}, "is a folder"),
        ("plain.tsv/a.tsv", {}, "does not exist"),
        ("a" * 300 + ".tsv", {}, "cannot be read"),
        ("a\0.tsv", {}, "cannot be read"),
        ("\udc80.tsv", {}, "not UTF-8"),
    ]:
        with pytest.raises(UserError, match=message):
            read(tmp_path / name, **more)
