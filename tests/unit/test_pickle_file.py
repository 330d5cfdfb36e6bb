"""Pickled checkpoints: their tensors are those of torch.load, and nothing else in them counts or runs."""

from __future__ import annotations

import io
import os
import pickle
import resource
import shutil
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ks_lottery import UserError
from ks_lottery.checkpoint.pickled import PickledCheckpoint, read_pickle
from ks_lottery.checkpoint.reader import Checkpoint

NAME = "model.embed_tokens.weight"


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


FORMATS = {"zip": {}, "before 1.6": {"_use_new_zipfile_serialization": False}}


@pytest.mark.parametrize("form", FORMATS)
def test_tensors_are_those_of_torch(tmp_path, form):
    whole = rows(9, 12)
    tensors = OrderedDict({
        NAME: torch.nn.Parameter(rows(64, 8)),
        "row": whole[3:5],
        "tied": whole,
        "columns": whole[:, 2:7],
        "turned": whole.T,
        "half": rows(4, 4).to(torch.bfloat16),
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 3),
        "ids": torch.arange(7),
    })  # fmt: skip
    file = tmp_path / "pytorch_model.bin"
    torch.save(tensors, file, **FORMATS[form])
    source = PickledCheckpoint.open(file)
    assert {name: entry.shape for name, entry in source.tensors.items()} == {
        n: tuple(t.shape) for n, t in tensors.items()
    }
    for name, unit in source.units.items():
        wanted = tensors[name].detach().reshape(unit.count, unit.width)
        assert torch.equal(source.block(name, 0, unit.count), wanted), name
        assert torch.equal(source.block(name, 1, 2), wanted[1:2])
    assert set(source.units) == set(tensors) - {"empty", "ids"}
    read = read_pickle(file)
    for name, tensor in torch.load(file, weights_only=True).items():
        assert torch.equal(read[name], tensor)
    assert torch.equal(source.rows(np.array([5, 0])), tensors[NAME].detach()[[5, 0]])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("key", ["state_dict", "model", "anything"])
def test_the_only_container_of_tensors_is_the_model(tmp_path, form, key):
    optimizer = {"state": {0: {"exp_avg": rows(64, 8)}}, "param_groups": []}
    torch.save({key: {NAME: rows(64, 8)}, "epoch": 3, "optimizer": optimizer}, tmp_path / "a.bin", **FORMATS[form])
    assert torch.equal(PickledCheckpoint.open(tmp_path / "a.bin").block(NAME, 0, 64), rows(64, 8))


@pytest.mark.parametrize("form", FORMATS)
def test_a_tied_model_is_the_same_as_in_safetensors(tied_model, tmp_path, form):
    """A pickle has the embedding under the head's name too; transformers leaves that name out of safetensors."""
    model = AutoModelForCausalLM.from_pretrained(tied_model)
    state = model.state_dict()
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= set(state)
    shutil.copy(tied_model / "config.json", tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin", **FORMATS[form])
    source, wanted = PickledCheckpoint.open(tmp_path), Checkpoint.open(tied_model)
    assert source.head == source.embedding == wanted.head
    assert source == wanted
    assert source.fingerprint == wanted.fingerprint
    torch.save(
        {**state, "lm_head.weight": state["lm_head.weight"] + 1}, tmp_path / "pytorch_model.bin", **FORMATS[form]
    )
    assert PickledCheckpoint.open(tmp_path).head == "lm_head.weight"


@pytest.mark.parametrize(("content", "problem"), [
    ({"model": {NAME: rows(3, 2)}, "ema": {NAME: rows(3, 2)}}, r"several sets of tensors \(model, ema\)"),
    ({NAME: rows(3, 2), "model": {NAME: rows(3, 2)}}, "several sets of tensors"),
    ({0: rows(3, 2)}, "no tensors by name"),
    ({}, "no tensors by name"),
    ({"a": {"b": {"c": rows(2, 2)}}}, "no tensors by name"),
    (rows(3, 2), "no tensors by name"),
    ([rows(3, 2)], "no tensors by name"),
    ({NAME: rows(1, 1).expand(10**9, 8)}, "expanded to 1000000000 x 8"),
    ({NAME: rows(3, 1).expand(3, 4)}, "expanded to 3 x 4"),
    ({NAME: rows(8).as_strided((7, 2), (1, 1))}, "expanded to 7 x 2"),
    ({NAME: torch.eye(3).to_sparse()}, "sparse"),
    ({NAME: torch.empty(3, 2, device="meta")}, "no values of its own"),
    ({NAME: torch.ones(3, dtype=torch.complex64).conj()}, "no values of its own"),
])  # fmt: skip
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_no_plain_tensor_is_named(tmp_path, form, content, problem):
    torch.save(content, tmp_path / "a.bin", **FORMATS[form])
    for read in (PickledCheckpoint.open, read_pickle):
        with pytest.raises(UserError, match=problem) as refused:
            read(tmp_path / "a.bin")
        assert "a.bin" in str(refused.value)


def test_compressed_rows_are_one_sentence(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the format a beta
        torch.save({NAME: torch.eye(3).to_sparse_csr()}, tmp_path / "a.bin")
    with pytest.raises(UserError, match="a.bin"):
        read_pickle(tmp_path / "a.bin")
    assert capfd.readouterr() == ("", "")


class Payload:
    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", [*FORMATS, "pickle"])
def test_a_payload_never_runs(tmp_path, capfd, form, protocol):
    mark, file = tmp_path / "ran", tmp_path / "pytorch_model.bin"
    content = {NAME: Payload(mark)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=protocol))
    else:
        torch.save(content, file, pickle_protocol=protocol, **FORMATS[form])
    for read in (PickledCheckpoint.open, read_pickle):
        with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle that holds more than tensors"):
            read(file)
    assert not mark.exists()
    assert capfd.readouterr() == ("", "")


def test_torchscript_is_refused_by_name(tmp_path, capfd):
    class Same(torch.nn.Module):
        def forward(self, x):
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Same()).save(str(tmp_path / "a.pt"))
    capfd.readouterr()
    with pytest.raises(UserError, match="a.pt is a TorchScript archive"):
        read_pickle(tmp_path / "a.pt")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("values", [torch.zeros(1000, 100), rows(300, 300)])
def test_a_compressed_archive_is_refused(tmp_path, values):
    """It could take a thousand times its size in memory, and its tensors do not lie in it byte by byte."""
    buffer = io.BytesIO()
    torch.save({NAME: values, "other": rows(400, 400)}, buffer)
    with zipfile.ZipFile(buffer) as stored, zipfile.ZipFile(tmp_path / "a.bin", "w") as packed:
        for info in stored.infolist():
            kind = zipfile.ZIP_DEFLATED if info.filename.endswith("/data/0") else zipfile.ZIP_STORED
            packed.writestr(info.filename, stored.read(info), compress_type=kind)
    with pytest.raises(UserError, match="a.bin is compressed"):
        read_pickle(tmp_path / "a.bin")


def test_views_that_would_multiply_a_file_are_refused(tmp_path):
    whole = rows(300, 300)
    torch.save({f"t{i}": whole for i in range(50)}, tmp_path / "same.bin")
    torch.save({f"t{i}": whole.T for i in range(50)}, tmp_path / "turned.bin")
    assert len(PickledCheckpoint.open(tmp_path / "same.bin").tensors) == 50  # nothing is read yet
    for file in ("same.bin", "turned.bin"):
        with pytest.raises(UserError, match="would take"):
            read_pickle(tmp_path / file)


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_file_is_one_sentence(tmp_path, form, capfd):
    buffer = io.BytesIO()
    torch.save({NAME: rows(6, 4), "b": rows(3)}, buffer, **FORMATS[form])
    content = buffer.getvalue()
    for size in [*range(0, len(content), max(1, len(content) // 60)), len(content) - 1]:
        (tmp_path / "a.bin").write_bytes(content[:size])
        with pytest.raises(UserError, match="a.bin"):
            read_pickle(tmp_path / "a.bin")
    assert capfd.readouterr() == ("", "")


def test_an_expanded_tensor_takes_no_memory(tmp_path):
    torch.save({NAME: torch.zeros(1).expand(10**9, 8)}, tmp_path / "a.bin")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="expanded"):
        PickledCheckpoint.open(tmp_path / "a.bin")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
