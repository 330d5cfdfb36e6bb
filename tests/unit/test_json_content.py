"""The one reader of JSON: what is not a bounded JSON object is one sentence that names the file."""

from __future__ import annotations

import os

import pytest

from ks_lottery import UserError
from ks_lottery.store import json_content
from ks_lottery.store.files import read_json_lines
from ks_lottery.store.json_content import read_object


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"a": NaN',
        b"\xff\xfe",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object_is_one_sentence(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json .*: get the file again") as caught:
        read_object(file)
    assert len(str(caught.value)) < 300


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    for name, problem in {
        "fifo": "is not a regular file",
        "": "is a folder",
        "gone": "does not exist",
    }.items():
        with pytest.raises(UserError, match=problem):
            read_object(tmp_path / name)


def test_a_file_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_content, "LARGEST", 10)
    (tmp_path / "a.json").write_text('{"a": "0123456789"}')
    with pytest.raises(UserError, match="larger than the 10 bytes"):
        read_object(tmp_path / "a.json")


def test_json_lines_end_at_the_newline_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "one\u2028two\x85three"}\n{"a": "four"}\n', encoding="utf-8")
    assert read_json_lines(tmp_path / "a.jsonl") == [{"a": "one\u2028two\x85three"}, {"a": "four"}]
