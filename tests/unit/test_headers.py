"""Headers of safetensors files: what the safetensors library reads is read, and what it refuses is refused."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors import SafetensorError, safe_open

from ks_lottery import UserError
from ks_lottery.checkpoint.headers import DTYPES, PACKED_BITS, read_header


def write(file, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


def entry(shape, offsets, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


GOOD = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'

DAMAGED = {
    "wraps to zero": ({"a": entry([2**32, 2**32], [0, 0])}, b""),
    "wraps to four": ({"a": entry([2**62 + 1], [0, 4])}, bytes(4)),
    "beyond 64 bits": ({"a": entry([2**64, 0], [0, 0])}, b""),
    "one offset": ({"a": entry([1], [4])}, bytes(4)),
    "three offsets": ({"a": entry([1], [0, 4, 4])}, bytes(4)),
    "offsets reversed": ({"a": entry([1], [4, 0])}, bytes(4)),
    "negative": ({"a": entry([-1, -1], [0, 4])}, bytes(4)),
    "negative offset": ({"a": entry([1], [-4, 0])}, bytes(4)),
    "true": ({"a": entry([True], [0, 4])}, bytes(4)),
    "float": ({"a": entry([1.0], [0, 4])}, bytes(4)),
    "text": ({"a": entry(["1"], [0, 4])}, bytes(4)),
    "no list": ({"a": entry(1, [0, 4])}, bytes(4)),
    "no entry": ({"a": 5}, bytes(4)),
    "unknown type": ({"a": entry([1], [0, 4], "Q4")}, bytes(4)),
    "type of no text": ({"a": entry([1], [0, 4], [])}, bytes(4)),
    "gap": ({"a": entry([1], [4, 8])}, bytes(8)),
    "overlap": ({"a": entry([2], [0, 8]), "b": entry([1], [4, 8])}, bytes(8)),
    "bytes at the end": ({"a": entry([1], [0, 4])}, bytes(5)),
    "beyond the end": ({"a": entry([2], [0, 8])}, bytes(7)),
    "half a byte": ({"a": entry([1, 3], [0, 2], "F4")}, bytes(2)),
    "metadata of numbers": ({"__metadata__": {"a": 1}, "a": entry([1], [0, 4])}, bytes(4)),
    "metadata of a list": ({"__metadata__": [], "a": entry([1], [0, 4])}, bytes(4)),
    "a list": ([], b""),
    "null": (b"null", b""),
    "no UTF-8": (b'{"\xff":' + GOOD + b"}", bytes(4)),
    "deep": (b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    "twice, at two places": (b'{"a":' + GOOD + b',"a":' + GOOD.replace(b"[0,4]", b"[4,8]") + b"}", bytes(8)),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_header_is_one_sentence(tmp_path, case):
    file = write(tmp_path / "a.safetensors", *DAMAGED[case])
    with pytest.raises(SafetensorError), safe_open(file, "pt"):
        pass
    with pytest.raises(UserError, match="a.safetensors") as refused:
        read_header(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [*DTYPES, *PACKED_BITS])
def test_every_type_of_safetensors_has_a_place(tmp_path, kind):
    bits = PACKED_BITS.get(kind) or 8 * DTYPES[kind].itemsize
    size = 8 * bits // 8
    header = {"a": entry([2, 4], [0, size], kind), "b": entry([0, 7], [size, size], kind)}
    file = write(tmp_path / "a.safetensors", header, bytes(size))
    with safe_open(file, "pt") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    entries = read_header(file)
    assert {name: e.shape for name, e in entries.items()} == shapes
    assert entries["a"].stop - entries["a"].start == size
    assert (entries["a"].packed == kind) == (kind in PACKED_BITS)


def test_a_header_longer_than_the_file_allocates_nothing(tmp_path):
    file = tmp_path / "a.safetensors"
    for length in (2**63, 2**40, 100):
        file.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(UserError, match="truncated or no safetensors file"):
            read_header(file)
    with file.open("wb") as handle:  # a file with a hole, which has no blocks on the disk
        handle.write(struct.pack("<Q", 10**9))
        handle.truncate(2 * 10**9)
    with pytest.raises(UserError, match="header of 1,000,000,000 bytes"):
        read_header(file)


@pytest.mark.parametrize("size", range(9))
def test_a_file_of_a_few_bytes_is_one_sentence(tmp_path, size):
    (tmp_path / "a.safetensors").write_bytes(bytes(size))
    with pytest.raises(UserError, match="a.safetensors"):
        read_header(tmp_path / "a.safetensors")


def test_types_are_those_of_torch(tmp_path):
    for kind, dtype in DTYPES.items():
        size = dtype.itemsize
        values = torch.arange(size, dtype=torch.uint8)
        file = write(tmp_path / "a.safetensors", {"a": entry([1], [0, size], kind)}, bytes(values.tolist()))
        with safe_open(file, "pt") as opened:
            stored = opened.get_tensor("a")
        assert (stored.dtype, stored.view(torch.uint8).tolist()) == (read_header(file)["a"].dtype, values.tolist())
