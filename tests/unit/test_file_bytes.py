"""Files that change while they are read end in a sentence, never in a signal."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ks_lottery import UserError, open_checkpoint
from ks_lottery.checkpoint.file_bytes import read_at, read_spans
from ks_lottery.models.sources import open_source

EMBEDDING, TURNED = "transformer.wte.weight", "transformer.h.0.mlp.c_fc.weight"


@pytest.fixture
def folder(tmp_path):
    """A model of GPT-2's kind, which has matrices that are stored the other way round."""
    tensors = {EMBEDDING: torch.randn(5000, 16), TURNED: torch.randn(16, 4000), "a.bias": torch.randn(7)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    return tmp_path


def test_spans_are_those_of_the_file(tmp_path):
    data = bytes(range(256)) * 4
    (tmp_path / "a").write_bytes(data)
    spans = [(0, 3), (1000, 24), (5, 0), (17, 300), (0, 1)]
    assert read_spans(tmp_path / "a", spans).tobytes() == b"".join(data[start : start + n] for start, n in spans)
    with pytest.raises(UserError, match="became shorter"):
        read_at(tmp_path / "a", 1000, 10**15)  # nothing of that size is allocated


@pytest.mark.parametrize("kind", ["safetensors", "bin", "gone", "pipe"])
def test_a_file_that_shrinks_after_it_was_opened(folder, kind):
    file = folder / "model.safetensors"
    if kind == "bin":
        from safetensors.torch import load_file

        torch.save(load_file(file), folder / "pytorch_model.bin")
        file.unlink()
        file = folder / "pytorch_model.bin"
    source = open_source(str(folder))
    assert source.units[TURNED].count == 4000
    if kind in {"gone", "pipe"}:
        file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    if kind in {"safetensors", "bin"}:
        os.truncate(file, 1500)
    for read in (
        lambda: source.block(EMBEDDING, 4000, 4100),
        lambda: source.block(TURNED, 3900, 4000),
        lambda: source.rows(np.array([4999])),
        lambda: source.fingerprint,
    ):
        with pytest.raises(UserError, match=file.name):
            read()


def test_a_process_survives_a_file_that_shrinks_under_it(folder):
    """In a process of its own: reading mapped memory beyond the end of a file would end it by SIGBUS."""
    program = f"""
import os, threading, numpy as np
from ks_lottery import UserError, open_checkpoint
checkpoint = open_checkpoint({str(folder)!r})
os.truncate({str(folder / "model.safetensors")!r}, 400)
block = lambda: checkpoint.block({TURNED!r}, 0, 9)
for read in (lambda: checkpoint.rows(np.arange(5000)), lambda: checkpoint.fingerprint, block):
    try:
        read()
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 3


def test_columns_that_are_units_are_those_of_torch(folder):
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")[TURNED]
    checkpoint = open_checkpoint(folder)
    for start, stop in ((0, 4000), (17, 18), (3990, 4000)):
        assert torch.equal(checkpoint.block(TURNED, start, stop), stored.T[start:stop])


def test_rows_in_any_order_and_more_than_once(folder):
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")[EMBEDDING]
    ids = np.random.default_rng(0).integers(0, 5000, 3000)
    assert torch.equal(open_checkpoint(folder).rows(ids), stored[torch.from_numpy(ids)])


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_what_the_system_says_is_in_the_sentence(folder, monkeypatch, error):
    checkpoint = open_checkpoint(folder)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=rf"model\.safetensors cannot be read: {error.strerror}$"):
        checkpoint.rows(np.array([1]))
