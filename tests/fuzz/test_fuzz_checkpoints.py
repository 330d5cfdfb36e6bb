"""Damaged and hostile checkpoints: reading one is a result or one sentence, in little time and memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from amount import examples
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ks_lottery import UserError, open_checkpoint
from ks_lottery.checkpoint.gguf_header import read_gguf
from ks_lottery.models.sources import open_source
from ks_lottery.models.vocabulary import read_vocabulary

ROWS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
E4M3 = torch.float8_e4m3fn
TENSORS = {
    "model.embed_tokens.weight": ROWS,
    "a.weight": ROWS[:4].to(E4M3),
    "a.weight_scale_inv": torch.ones(2, 1),
    "b.c_fc.weight": ROWS.T.contiguous(),
}
GOOD = save(TENSORS)
CONFIG = {
    "model_type": "gpt2",
    "vocab_size": 12,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 4]},
}

numbers = st.one_of(
    st.integers(-2, 40), st.sampled_from([2**31, 2**32, 2**61, 2**63, 2**64, 10**30, 1.0, 1.5, True, None, "1", [], {}])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=6) | st.sampled_from(["fp8", "gptq", "llama", "bfloat16"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
types = (
    st.sampled_from(
        [
            "F64",
            "F32",
            "F16",
            "BF16",
            "I64",
            "I32",
            "U8",
            "U32",
            "BOOL",
            "F8_E4M3",
            "F8_E5M2",
            "F8_E8M0",
            "F4",
            "F6_E2M3",
            "C64",
            "Q4",
        ]
    )
    | values
)
names = st.sampled_from(
    [*TENSORS, "lm_head.weight", "a.weight_scale", "a.zero_point", "", "wte.weight", "a.qweight", "x\x1b[0m\0"]
)
entries = st.fixed_dictionaries(
    {
        "dtype": types,
        "shape": st.lists(numbers, max_size=4) | values,
        "data_offsets": st.lists(numbers, max_size=3) | values,
    }
)


@contextmanager
def folder(**files: bytes):
    """A folder with files; ``__`` in a name stands for its dot."""
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            (Path(place) / name.replace("__", ".")).write_bytes(content)
        yield Path(place)


def check_sentence(error: UserError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 20_000


def read_everything(name: Path | str) -> int:
    """Open a model by both doors and read a block of each tensor; return 1 if it was read, 0 if it was refused."""
    count = 0
    for opened in (open_checkpoint, open_source):
        try:
            source: Any = opened(str(name))
            for tensor, unit in source.units.items():
                block = source.block(tensor, 0, min(unit.count, 3))
                assert block.shape == (min(unit.count, 3), unit.width)
                assert block.dtype == unit.dtype
            assert source.embedding in source.units
            assert source.head in source.units
            assert source.rows(np.array([0])).shape == (1, source.width)
            _ = source.context, source.fingerprint, source.sections()
            count = 1
        except UserError as error:
            check_sentence(error)
    return count


def written(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def flipped(content: bytes, edits: list[tuple[int, int]], keep: int) -> bytes:
    """Set some bytes, and keep so many."""
    changed = bytearray(content)
    for place, value in edits:
        changed[place % len(changed)] = value
    return bytes(changed[: max(0, len(changed) - keep)])


edits = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6)
cuts = st.just(0) | st.integers(0, 4000)


@examples(500)
@given(st.dictionaries(names, entries | values, max_size=3), st.binary(max_size=64))
def test_headers_of_any_content(header, data):
    with folder(model__safetensors=written(header, data), config__json=json.dumps(CONFIG).encode()) as place:
        read_everything(place)
        agrees_with_safetensors(place / "model.safetensors")


def agrees_with_safetensors(file: Path) -> None:
    """What the safetensors library refuses must be refused, and what it reads must be read."""
    from ks_lottery.checkpoint.headers import read_header

    try:
        with safe_open(file, "np") as opened:
            shapes: Any = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError:
        shapes = None
    try:
        mine: Any = {name: entry.shape for name, entry in read_header(file).items()}
    except UserError:
        mine = None
    assert mine == shapes


@examples(500)
@given(
    st.lists(st.tuples(names, st.sampled_from([[3, 4], [12], [2, 2, 3], [0, 5], [4, 0], []]), types), max_size=4),
    st.data(),
)
def test_well_formed_headers_of_any_tensors(tensors, data):
    """Every tensor has the bytes that its shape needs, so that what is behind the header is reached."""
    header, end = {}, 0
    for name, shape, kind in tensors:
        size = {"F64": 64, "F16": 16, "BF16": 16, "I64": 64, "U8": 8, "BOOL": 8, "C64": 64, "F4": 4, "F6_E2M3": 6}.get(
            str(kind), 32
        )
        size = 8 if str(kind).startswith("F8") else size
        length = int(np.prod(shape)) * size // 8
        if name not in header:
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + length]}
            end += length
    config = data.draw(st.fixed_dictionaries({}, optional={
        "model_type": values, "vocab_size": values, "quantization_config": values, "dtype": values, "text_config": values,
    }))  # fmt: skip
    content = written(header, bytes(range(256)) * (end // 256 + 1))[: 8 + len(json.dumps(header)) + end]
    with folder(model__safetensors=content, config__json=json.dumps(config).encode()) as place:
        read_everything(place)
        agrees_with_safetensors(place / "model.safetensors")


@examples(500)
@given(edits, cuts)
def test_bytes_of_safetensors(changes, keep):
    with folder(model__safetensors=flipped(GOOD, changes, keep), config__json=json.dumps(CONFIG).encode()) as place:
        read = read_everything(place)
        agrees_with_safetensors(place / "model.safetensors")
    assert read or changes or keep


@examples(300)
@given(
    values
    | st.fixed_dictionaries(
        {"weight_map": values | st.dictionaries(names, st.sampled_from(["a.safetensors", "b", 5, "../a.safetensors"]))}
    )
)
def test_index_files(content):
    index = json.dumps(content).encode()
    with folder(a__safetensors=GOOD, model__safetensors__index__json=index, config__json=b"{}") as place:
        read_everything(place)


@examples(300)
@given(values | st.dictionaries(st.sampled_from([
    "model_type", "vocab_size", "quantization_config", "dtype", "torch_dtype", "text_config", "max_position_embeddings",
    "transformers_weights", "n_positions",
]), values, max_size=5))  # fmt: skip
def test_config_files(content):
    with folder(model__safetensors=GOOD, config__json=json.dumps(content).encode()) as place:
        read_everything(place)


@examples(100)
@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda s: s.encode("utf-8", "replace")), st.booleans())
def test_texts_that_are_no_json(content, is_index):
    name = "model__safetensors__index__json" if is_index else "config__json"
    with folder(a__safetensors=GOOD, **{name: content}) as place:
        read_everything(place)


def pickled(**options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({**TENSORS, "turned": ROWS.T, "p": torch.nn.Parameter(ROWS)}, buffer, **options)
    return buffer.getvalue()


PICKLES = {"zip": pickled(), "before 1.6": pickled(_use_new_zipfile_serialization=False)}


@examples(60)
@given(st.sampled_from(list(PICKLES)), edits, cuts)
def test_bytes_of_pickles(form, changes, keep):
    with folder(pytorch_model__bin=flipped(PICKLES[form], changes, keep), config__json=b"{}") as place:
        read_everything(place)


@examples(100)
@given(edits, cuts)
def test_pickles_inside_an_archive(changes, keep):
    """The archive is sound, and what is unpickled from it is not."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(PICKLES["zip"])) as good, zipfile.ZipFile(buffer, "w") as bad:
        for info in good.infolist():
            content = good.read(info)
            bad.writestr(
                info.filename, flipped(content, changes, keep) if info.filename.endswith("data.pkl") else content
            )
    with folder(pytorch_model__bin=buffer.getvalue(), config__json=b"{}") as place:
        read_everything(place)


@examples(100)
@given(
    values
    | st.dictionaries(st.text(max_size=4), st.sampled_from([ROWS, ROWS.T, ROWS[:1].expand(9, 4), {"a": ROWS}, 5])),
    st.booleans(),
)
def test_pickles_of_any_content(content, zipped):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    with folder(pytorch_model__bin=buffer.getvalue()) as place:
        read_everything(place)


@examples(60)
@given(values | st.binary(max_size=40), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_pickles(content, protocol):
    raw = content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol)
    with folder(pytorch_model__bin=raw) as place:
        read_everything(place)


def gguf_file() -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    pairs += [text(f"llama.{key}") + struct.pack("<II", 4, 4) for key in ("embedding_length", "feed_forward_length")]
    pairs += [
        text("llama.block_count") + struct.pack("<II", 4, 1),
        text("general.alignment") + struct.pack("<II", 4, 32),
    ]
    pairs += [text("tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("b") + text("c")]
    pairs += [text("scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12)]
    tensors = [
        text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 12, 0, 0),
        text("n") + struct.pack("<IQIQ", 1, 32, 2, 192),
    ]
    raw = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + tensors)
    return raw + bytes(-len(raw) % 32) + bytes(192 + 18)


GGUF = gguf_file()


@examples(1500)
@given(
    st.lists(st.tuples(st.integers(0, len(GGUF) - 1), st.integers(0, 255)), max_size=4),
    st.just(0) | st.integers(0, len(GGUF)),
)
def test_headers_of_gguf(changes, keep):
    with folder(a__gguf=flipped(GGUF, changes, keep)) as place:
        try:
            read_gguf(place / "a.gguf")
        except UserError as error:
            check_sentence(error)
            return
    assert not keep or changes


@examples(60)
@given(edits, cuts)
def test_files_of_gguf(changes, keep):
    """The whole way, by transformers: no file of this kind is a model, and none is a traceback."""
    with folder(a__gguf=flipped(GGUF, changes, keep)) as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KS_LOTTERY_CACHE", str(place / "cache"))
        read_everything(place / "a.gguf")


@pytest.fixture(scope="module")
def tokenizer(tied_model):
    return json.loads((tied_model / "tokenizer.json").read_text())


@examples(200)
@given(data=st.data())
def test_tokenizer_files(tokenizer, data):
    changed = json.loads(json.dumps(tokenizer))
    key = data.draw(
        st.sampled_from(
            ["model", "added_tokens", "decoder", "pre_tokenizer", "post_processor", "normalizer", "vocab", "id"]
        )
    )
    value = data.draw(values)
    if key == "vocab":
        changed["model"]["vocab"] |= data.draw(st.dictionaries(st.text(max_size=3), numbers, max_size=3))
    elif key == "id":
        changed["added_tokens"][0]["id"] = value
    else:
        changed[key] = value
    with folder(tokenizer__json=json.dumps(changed).encode()) as place:
        try:
            vocabulary = read_vocabulary(place, data.draw(st.sampled_from([5, 384, 1 << 22])))
            assert vocabulary is None or len(vocabulary.names) <= 1 << 22
        except UserError as error:
            check_sentence(error)


LARGE = {
    "header": struct.pack("<Q", 2**40) + b"{}",
    "shape": written({"embed_tokens.weight": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}, bytes(64)),
    "nothing": written({"embed_tokens.weight": {"dtype": "F32", "shape": [2**40, 0], "data_offsets": [0, 0]}}, b""),
    "deep": written(b"[" * 10**6 + b"]" * 10**6, b""),
    "index": b'{"weight_map": {"a": "' + b"x" * 10**6 + b'"}}',
    "expanded": {"embed_tokens.weight": torch.zeros(1).expand(10**10, 8)},
    "ids": b'{"model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}}',
    "gguf": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
}  # fmt: skip

NAMES = {
    "index": "model.safetensors.index.json", "expanded": "pytorch_model.bin", "gguf": "a.gguf", "ids": "tokenizer.json",
}  # fmt: skip

CHILD = """
import resource, sys
import torch, tokenizers, numpy
from torch._subclasses.fake_tensor import FakeTensorMode
from ks_lottery import UserError, open_checkpoint
from ks_lottery.models.sources import open_source
from ks_lottery.models.vocabulary import vocabulary_of_source
import ks_lottery.checkpoint.pickled
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 29), now + (1 << 29)))
for place in sys.argv[1:]:
    for opened in (open_checkpoint, open_source):
        try:
            source = opened(place)
            source.block(source.embedding, 0, 1)
            print("read", len(vocabulary_of_source(source).names))
        except UserError as error:
            print("refused", type(error.__cause__).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_large_numbers_take_no_memory(tmp_path):
    for case, content in LARGE.items():
        folder = tmp_path / case
        folder.mkdir()
        name = NAMES.get(case, "model.safetensors")
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            torch.save(content, folder / name)
        if case == "ids":
            (folder / "model.safetensors").write_bytes(GOOD)
    places = [str(tmp_path / case / "a.gguf" if case == "gguf" else tmp_path / case) for case in LARGE]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *places], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    wanted = [
        line for case in LARGE for line in ("read 0",) * 2 * (case == "ids") or ("refused NoneType", "refused NoneType")
    ]
    lines = [line.replace("RecursionError", "NoneType") for line in done.stdout.splitlines()]
    assert lines == wanted
