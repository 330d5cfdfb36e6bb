"""Models by name: hub ids from the cache on this machine, and what cannot be had."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from ks_lottery import UserError, open_checkpoint
from ks_lottery.models.load import load_model
from ks_lottery.models.sources import open_source
from ks_lottery.models.vocabulary import read_vocabulary, tokens_here

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, from which a model is read without a network; whatever asks for an address ends the test."""

    def refuse(*_, **__):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def cached(offline, untied_model) -> Path:
    """The tiny model as the hub's cache has it: files under their hashes, a snapshot of links, and the branch's commit."""
    repo = offline / "models--owner--tiny"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for file in untied_model.iterdir():
        shutil.copy(file, repo / "blobs" / file.name)
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / file.name)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_hub_id_is_read_from_the_cache(cached, untied_model):
    by_id, by_folder = open_checkpoint("owner/tiny"), open_checkpoint(untied_model)
    assert (by_id.name, by_id.folder) == ("owner/tiny", cached)
    assert by_id.fingerprint == by_folder.fingerprint
    loaded = load_model(by_id, dtype="float32", device="cpu")
    tokens = torch.tensor([[1, 5, 77, 300]])
    plain = load_model(by_folder, dtype="float32", device="cpu").lm
    assert torch.equal(loaded.lm(tokens).logits, plain(tokens).logits)
    assert tokens_here("owner/tiny") == read_vocabulary(untied_model).shown


def test_one_side_of_a_scan_is_a_hub_id(cached, untied_model):
    source = open_source("owner/tiny")
    assert torch.equal(source.rows(np.arange(4)), open_checkpoint(untied_model).rows(np.arange(4)))


def test_pickles_of_the_hub_are_for_scans_alone(cached, untied_model):
    tensors = load_file(cached / "model.safetensors")
    (cached / "model.safetensors").unlink()
    torch.save(tensors, cached / "pytorch_model.bin")
    source = open_source("owner/tiny")
    assert torch.equal(source.block(source.embedding, 0, 9), tensors[source.embedding][:9])
    with pytest.raises(UserError) as refused:
        open_checkpoint("owner/tiny")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["owner/other", "gpt2", "a/b/c", "owner/ti ny"])
def test_what_the_cache_does_not_have_is_one_sentence(cached, name):
    with pytest.raises(UserError, match=f"^model {name} ") as missing:
        open_checkpoint(name)
    assert "\n" not in str(missing.value)
    assert tokens_here(name) is None


def test_a_hub_id_is_known_by_its_form(cached):
    with pytest.raises(UserError, match="neither a folder here nor"):
        open_checkpoint("owner/other")
    with pytest.raises(UserError, match="give a folder, a GGUF file or a hub id such as owner/model"):
        open_checkpoint("other")


def test_a_folder_goes_before_a_hub_id_of_its_name(cached, untied_model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(untied_model, tmp_path / "owner" / "tiny")
    tensors = load_file(untied_model / "model.safetensors")
    save_file({name: t + 1 for name, t in tensors.items()}, tmp_path / "owner" / "tiny" / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    assert open_checkpoint("owner/tiny").fingerprint != open_checkpoint(untied_model).fingerprint


def test_a_path_is_as_good_as_its_name(untied_model):
    assert open_checkpoint(Path(untied_model)).name == open_checkpoint(str(untied_model)).name == str(untied_model)
