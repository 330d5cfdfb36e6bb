"""What is read ahead, and that no file, however damaged, can make an error of it."""

from __future__ import annotations

import json
import os
import threading

import pytest
from safetensors.torch import load_file

from ks_lottery.checkpoint import page_cache
from ks_lottery.checkpoint.page_cache import _files, _spans, fill_page_cache


def test_the_byte_ranges_are_those_that_safetensors_reads(tied_model):
    (file,) = _files(str(tied_model))
    stored = load_file(file)
    ((_, start, stop),) = _spans(file, ("embed_tokens",))
    assert file.read_bytes()[start:stop] == stored["model.embed_tokens.weight"].numpy().tobytes()
    assert len(_spans(file, ())) == len(stored)


def with_header(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def tensors(**offsets) -> bytes:
    return json.dumps({name: {"data_offsets": offset} for name, offset in offsets.items()}).encode()


DAMAGED = {
    "no JSON": b"{]}}}",
    "a list": b"[]",
    "a number": b"5",
    "null": b"null",
    "deep JSON": b"[" * 200_000,
    "a tensor that is a list": b'{"w": []}',
    "no offsets": b'{"w": {}}',
    "one offset": tensors(w=[0]),
    "texts": tensors(w=["a", "b"]),
    "fractions": tensors(w=[0.5, 9.5]),
    "nothing": tensors(w=[None, None]),
    "huge numbers": tensors(w=[0, 10**40]),
    "numbers of thousands of digits": b'{"w": {"data_offsets": [0, ' + b"9" * 5000 + b"]}}",
    "below zero": tensors(w=[-5_000, 10]),
    "not comparable": tensors(a=[0, 1], b=["x", 2]),
    "no text": b"\xff\xfe{",
}


@pytest.mark.parametrize("header", DAMAGED.values(), ids=DAMAGED)
def test_no_error_leaves_the_thread(header, tmp_path, monkeypatch):
    """Python reports what escapes a thread to `threading.excepthook`."""
    escaped: list[object] = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)
    file = tmp_path / "model.safetensors"
    file.write_bytes(with_header(header))
    fill_page_cache(str(file), str(tmp_path), str(tmp_path / "nothing"))
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon and "_fill" in thread.name:
            thread.join()
    assert escaped == []


@pytest.mark.parametrize(
    "error", [MemoryError, RecursionError, RuntimeError, OSError, IndexError, OverflowError, AssertionError]
)
def test_no_error_of_the_system_leaves_the_thread(error, tied_model, monkeypatch):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, "sendfile", fail, raising=False)
    page_cache._fill((str(tied_model),), ())


def test_a_damaged_length_is_not_believed(tmp_path, monkeypatch):
    """A tensor that says that it ends beyond its file is read to the end of the file."""
    read: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "sendfile", lambda out, into, at, size: read.append((at, size)), raising=False)
    file = tmp_path / "model.safetensors"
    content = with_header(tensors(w=[0, 10**15])) + b"x" * 100
    file.write_bytes(content)
    page_cache._fill((str(file),), ())
    assert read == [(len(content) - 100, 100)]


def test_a_system_without_threads_is_no_error(tied_model, monkeypatch):
    def none(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    fill_page_cache(str(tied_model))
