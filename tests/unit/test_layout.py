"""Which files of a folder are the model: what transformers loads from it is what is read."""

from __future__ import annotations

import json
import os
import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ks_lottery import UserError, open_checkpoint
from ks_lottery.models.sources import open_source
from ks_lottery.tickets.compare import compare

FORMAT = {"format": "pt"}
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def folder(untied_model, tmp_path):
    return shutil.copytree(untied_model, tmp_path / "model")


def agrees_with_transformers(folder) -> tuple[str, ...]:
    """Compare the rows that are read with those of the model that transformers loads, and return the notes."""
    source = open_source(str(folder))
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = loaded.get_input_embeddings().weight.detach()
    assert torch.equal(source.block(source.embedding, 0, 384).float(), wanted)
    assert torch.equal(source.block(source.head, 0, 384).float(), loaded.get_output_embeddings().weight.detach())
    return source.notes


def test_a_stale_index_is_passed_over_and_named(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t + 1 for n, t in tensors.items()}, folder / "model-00001-of-00001.safetensors", metadata=FORMAT)
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (note,) = agrees_with_transformers(folder)
    assert "Not read: model-00001-of-00001.safetensors, model.safetensors.index.json." in note
    (folder / "model.safetensors").unlink()
    assert agrees_with_transformers(folder) == ()


def test_another_layout_beside_the_model_is_named_by_a_scan(folder, untied_model, capfd):
    from ks_lottery.cli.main import main

    tensors = load_file(folder / "model.safetensors")
    save_file({"tok_embeddings.weight": tensors[EMBEDDING] + 1, "output.weight": tensors["lm_head.weight"].clone()},
              folder / "consolidated.safetensors", metadata=FORMAT)  # fmt: skip
    (note,) = agrees_with_transformers(folder)
    assert "Not read: consolidated.safetensors." in note
    compared = compare(str(untied_model), str(folder))
    assert compared.scan.moved.sum() == 0
    assert compared.as_dict()["notes"] == [note]
    assert main(["scan", str(untied_model), str(folder)]) == 0
    assert note in capfd.readouterr().out


def test_what_a_trainer_leaves_is_no_model(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    torch.save({"python": random.getstate(), "cpu": torch.get_rng_state()}, folder / "rng_state.pth")
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin"):
        torch.save({EMBEDDING: torch.zeros(1)}, folder / name)
    assert agrees_with_transformers(folder) == ()
    (folder / "pytorch_model.bin").rename(folder / "weights.bin")  # a name that transformers does not know
    assert torch.equal(open_source(str(folder)).block(EMBEDDING, 0, 9), tensors[EMBEDDING][:9])
    (folder / "weights.bin").unlink()
    with pytest.raises(UserError, match="has no safetensors"):
        open_source(str(folder))


def test_shards_of_pickles_are_read_by_their_index(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    index = {}
    for part, chosen in (("a.bin", names[:7]), ("b.bin", names[7:])):
        torch.save({n: tensors[n] for n in chosen}, folder / part)
        index |= dict.fromkeys(chosen, part)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    torch.save({EMBEDDING: tensors[EMBEDDING] + 1}, folder / "c.bin")
    (note,) = agrees_with_transformers(folder)
    assert "Not read: c.bin." in note
    for name in tensors:
        assert torch.equal(
            open_source(str(folder)).block(name, 0, 1)[0], tensors[name].reshape(-1, tensors[name].shape[-1])[0]
        )


def test_safetensors_go_before_pickles_and_a_config_may_name_its_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    torch.save({n: t + 1 for n, t in tensors.items()}, folder / "pytorch_model.bin")
    assert "Not read: pytorch_model.bin." in agrees_with_transformers(folder)[0]
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert open_source(str(folder)).folder == folder
    assert torch.equal(open_source(str(folder)).block(EMBEDDING, 0, 2), tensors[EMBEDDING][:2] + 1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": "other.safetensors"}))
    agrees_with_transformers(folder)
    for name in ("missing.safetensors", "../other.safetensors", 5):
        (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": name}))
        with pytest.raises(UserError, match="names weights that are not in the folder"):
            open_source(str(folder))


def test_a_file_of_any_name_is_read_where_transformers_knows_none(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "any.safetensors")
    assert torch.equal(open_checkpoint(folder).rows(np.arange(9)), tensors[EMBEDDING][:9])


def test_a_tensor_that_the_index_names_must_be_there(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {**dict.fromkeys(tensors, "a.safetensors"), "extra": "a.safetensors"}}))
    with pytest.raises(UserError, match=r"names 1 tensor\(s\) that no file holds, such as extra in a.safetensors"):
        open_checkpoint(folder)


def test_a_shard_that_is_missing_by_the_numbers_is_named_without_an_index(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for number in (1, 2, 3):
        part = {name: t for place, (name, t) in enumerate(sorted(tensors.items())) if place % 3 == number - 1}
        save_file(part, folder / f"model-{number:05}-of-00003.safetensors")
    assert open_checkpoint(folder).tensors.keys() == tensors.keys()
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"has model-00001-of-00003.safetensors, but not model-00002-of-00003.safetensors"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize("names", [["model.safetensors"], ["model.safetensors.index.json", "pytorch_model.bin"]])
def test_of_two_forms_the_one_that_transformers_loads_is_read(folder, names):
    tensors = load_file(folder / "model.safetensors")
    moved = {name: t + 1 for name, t in tensors.items()}
    torch.save(moved, folder / "pytorch_model-00001-of-00001.bin")
    for kind, file in (("safetensors", "a.safetensors"), ("bin", "pytorch_model-00001-of-00001.bin")):
        stem = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
        (folder / f"{stem}.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, file)})
        )
    if len(names) > 1:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
    else:
        (folder / "model.safetensors.index.json").unlink()
    (note,) = agrees_with_transformers(folder)
    assert "pytorch_model.bin.index.json" in note.partition("Not read: ")[2]


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 4972489328\n")
    with pytest.raises(
        UserError, match=f"{name} is a pointer of Git LFS, not the file itself: get it with git lfs pull"
    ):
        open_source(folder / name if name.endswith("gguf") else folder)


@pytest.mark.parametrize("text", [
    "[]", "null", "{", "5", '{"weight_map": {"a": 5}}', '{"weight_map": []}', '{"weight_map": {}}',
    '{"weight_map": {"a": "../b"}}',
    '{"weight_map": {"a": ".."}}', '{"weight_map": {"a": ""}}', '{"weight_map": {"a": "b\\u0000"}}', "[" * 100_000,
    '{"weight_map": {"a": "\\ud800"}}', '{"weight_map": {"a": "' + "x" * 300 + '"}}',
])  # fmt: skip
def test_a_damaged_index_is_one_sentence(folder, text):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    for opened in (open_checkpoint, open_source):
        with pytest.raises(UserError, match="model.safetensors.index.json") as refused:
            opened(str(folder))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["[]", "null", "{", "5", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_damaged_config_is_one_sentence(folder, text):
    (folder / "config.json").write_text(text)
    for opened in (open_checkpoint, open_source):
        with pytest.raises(UserError, match="config.json"):
            opened(str(folder))


@pytest.mark.parametrize("config", [
    {"model_type": 5}, {"model_type": None}, {"vocab_size": "x"}, {"text_config": []}, {"quantization_config": 3}, {},
    {"quantization_config": {"quant_method": [], "config_groups": {"a": 1}, "weight_block_size": ["x"]}}, {"torch_dtype": {}},
    {"max_position_embeddings": True}, {"vocab_size": 10**30},
])  # fmt: skip
def test_config_values_of_other_types_do_not_matter_to_rows(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.vocabulary, checkpoint.embedding, checkpoint.head) == (384, EMBEDDING, "lm_head.weight")
    assert checkpoint.context is None


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "model.safetensors.index.json", "pytorch_model.bin"]
)
@pytest.mark.parametrize("kind", ["pipe", "link", "device", "folder", "loop"])
def test_what_is_no_file_is_refused_at_once(folder, name, kind):
    for other in ("model.safetensors", name):
        (folder / other).unlink(missing_ok=True)
    file = folder / name
    {
        "pipe": lambda: os.mkfifo(file),
        "link": lambda: file.symlink_to("nowhere"),
        "device": lambda: file.symlink_to("/dev/zero"),
        "folder": file.mkdir,
        "loop": lambda: file.symlink_to(name),
    }[kind]()
    problem = {"link": "is a link to a file that does not exist", "loop": "cannot be read"}.get(
        kind, "is not a regular file"
    )
    for opened in (open_checkpoint, open_source):
        with pytest.raises(UserError, match=f"{name} {problem}"):
            opened(str(folder))


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "~nobody-of-this-name/x", "\ud800"])
def test_names_that_no_file_can_have_are_one_sentence(name):
    for opened in (open_checkpoint, open_source):
        with pytest.raises(UserError):
            opened(name)


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(folder), "iterdir", refuse)
    with pytest.raises(UserError, match=f"^{folder} cannot be read: Permission denied$"):
        open_checkpoint(folder)
