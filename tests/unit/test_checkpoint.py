"""Checkpoints and patches on disk, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.checkpoint.pickled import PickledCheckpoint
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.errors import UserError
from ks_lottery.models.load import open_checkpoint
from ks_lottery.tickets.tickets import Tickets


def test_rows_are_those_of_safetensors(tied_model):
    checkpoint = Checkpoint.open(tied_model)
    weight = load_file(tied_model / "model.safetensors")["model.embed_tokens.weight"]
    ids = np.array([0, 5, 383])
    assert torch.equal(checkpoint.rows(ids), weight[torch.from_numpy(ids)])
    assert (checkpoint.vocabulary, checkpoint.width) == (384, 32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_rows_of_every_float_type(tmp_path, dtype):
    weight = torch.randn(9, 4).to(dtype)
    save_file({"embed_tokens.weight": weight}, tmp_path / "a.safetensors")
    assert torch.equal(Checkpoint.open(tmp_path).rows(np.array([8, 1])), weight[[8, 1]].float())


def test_fingerprint_is_of_the_weights_however_they_are_sharded(tied_model, tmp_path):
    tensors = load_file(tied_model / "model.safetensors")
    names = list(tensors)
    weight_map = {}
    for part, chosen in (("a", names[:5]), ("b", names[5:])):
        save_file({n: tensors[n] for n in chosen}, tmp_path / f"{part}.safetensors")
        weight_map |= dict.fromkeys(chosen, f"{part}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert Checkpoint.open(tmp_path).fingerprint == Checkpoint.open(tied_model).fingerprint
    tensors[names[0]][0] += 1
    save_file(tensors, tmp_path / "a.safetensors")
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "b.safetensors").unlink()
    assert Checkpoint.open(tmp_path).fingerprint != Checkpoint.open(tied_model).fingerprint


@pytest.mark.parametrize("keep", [4, 40, -1])
def test_truncated_files_are_named(tied_model, tmp_path, keep):
    content = (tied_model / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors.*truncated|damaged"):
        Checkpoint.open(tmp_path)


def test_pickles_are_refused(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    for name in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(UserError, match="pickle"):
            open_checkpoint(str(name))


def test_index_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    with pytest.raises(UserError, match=r"\.\./other"):
        Checkpoint.open(tmp_path)


def test_missing_embedding_is_named(tmp_path):
    save_file({"layer.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no input embedding"):
        _ = Checkpoint.open(tmp_path).embedding


@pytest.mark.parametrize("name", ["missing", "asset:other", "./a/b", "a/b/c"])
def test_unknown_models_say_what_to_give(name):
    with pytest.raises(UserError, match="GGUF|embedded"):
        open_checkpoint(name)


def patch_of(checkpoint: Checkpoint) -> RowPatch:
    ids = np.array([4, 9, 200])
    return RowPatch(ids, torch.randn(3, 32), checkpoint.describe(), {"method": "test"})


def test_patch_round_trip(tied_model, tmp_path):
    patch = patch_of(Checkpoint.open(tied_model))
    assert patch.save(str(tmp_path)) == tmp_path
    opened = RowPatch.open(tmp_path)
    assert np.array_equal(opened.ids, patch.ids)
    assert torch.equal(opened.values, patch.values)
    assert (opened.base, opened.settings, opened.content) == (patch.base, patch.settings, patch.content)


@pytest.mark.parametrize("side", ["input", "output", "both", "apart"])
def test_a_patch_says_its_side(tied_model, tmp_path, side):
    patch = patch_of(Checkpoint.open(tied_model))
    other = torch.randn(3, 32) if side == "apart" else None
    patch = replace(patch, side="both" if side == "apart" else side, output_values=other)
    patch.save(tmp_path)
    opened = RowPatch.open(tmp_path)
    assert (opened.side, opened.content, opened.parameters) == (
        patch.side,
        patch.content,
        96 * (2 if side == "apart" else 1),
    )
    small = opened.restrict(np.array([9, 10]))
    for name in ("input", "output"):
        values, kept = patch.values_of(name), small.values_of(name)
        assert (values is None) == (kept is None) == (side in {"input", "output"} and side != name)
        assert values is None or (torch.equal(opened.values_of(name), values) and torch.equal(kept, values[1:2]))
    others = [replace(patch, side=s, output_values=None) for s in ("input", "output", "both")]
    assert len({p.content for p in [*others, patch]}) == (4 if side == "apart" else 3)


def test_sides_and_values_that_do_not_belong_together_are_refused():
    ids, values = np.array([1]), torch.zeros(1, 2)
    for wrong in ({"side": "left"}, {"side": "output", "output_values": values}, {"output_values": values}):
        with pytest.raises(ValueError, match="side must be"):
            RowPatch(ids, values, {}, **wrong)
    with pytest.raises(ValueError, match="float32"):
        RowPatch(ids, values, {}, side="both", output_values=values.double())


def test_a_patch_file_without_a_side_is_of_the_input(tied_model, tmp_path):
    patch = patch_of(Checkpoint.open(tied_model))
    about = {"kind": "row-patch", "format": 1, "made_from": {"base": dict(patch.base)}, "settings": {}}
    tensors = {"ids": torch.from_numpy(patch.ids), "values": patch.values}
    save_file(tensors, tmp_path / "patch.safetensors", metadata={"ks-lottery": json.dumps(about)})
    assert (RowPatch.open(tmp_path).side, RowPatch.open(tmp_path).content) == ("input", patch.content)


def test_force_lets_another_base_pass_if_the_rows_fit(tied_model, untied_model):
    patch = patch_of(Checkpoint.open(tied_model))
    other = Checkpoint.open(untied_model)
    patch.check_base(other, force=True)
    for wrong in (
        replace(patch, values=torch.zeros(3, 31)),
        replace(patch, ids=np.array([4, 9, 384])),
        replace(patch, values=torch.zeros(3, 31), side="output"),
    ):
        with pytest.raises(UserError, match="do not fit the 384 x 32"):
            wrong.check_base(other, force=True)


def test_restrict_keeps_values(tied_model):
    patch = patch_of(Checkpoint.open(tied_model))
    small = patch.restrict(np.array([9, 10, 200]))
    assert small.ids.tolist() == [9, 200]
    assert torch.equal(small.values, patch.values[1:])
    assert len(patch.restrict(np.array([], dtype=np.int64))) == 0


def test_patch_of_another_base_is_refused(tied_model, untied_model):
    with pytest.raises(UserError, match="belongs"):
        patch_of(Checkpoint.open(tied_model)).check_base(Checkpoint.open(untied_model))


def test_damaged_patches_are_refused(tied_model, tmp_path):
    with pytest.raises(UserError, match=r"patch\.safetensors"):
        RowPatch.open(tmp_path)
    patch_of(Checkpoint.open(tied_model)).save(tmp_path)
    file = tmp_path / "patch.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match="not a whole"):
        RowPatch.open(tmp_path)
    shutil.copy(tied_model / "model.safetensors", file)
    with pytest.raises(UserError, match="not a row-patch"):
        RowPatch.open(tmp_path)


ROWS, IDS = torch.randn(3, 32), torch.tensor([4, 9, 200])
ABOUT = {"kind": "row-patch", "format": 1, "made_from": {"base": {"name": "b", "fingerprint": "f"}}, "settings": {}}


@pytest.mark.parametrize(
    ("ids", "values", "about", "message"),
    [
        (torch.tensor([9, 4, 200]), ROWS, ABOUT, "ids are not in ascending order"),
        (torch.tensor([4, 4, 200]), ROWS, ABOUT, "ids are not in ascending order, or there twice"),
        (torch.tensor([-4, 9, 200]), ROWS, ABOUT, r"ids are negative \(-4\)"),
        (torch.tensor([4.0, 9.0, 200.0]), ROWS, ABOUT, "ids are of type float32"),
        (IDS.reshape(3, 1), ROWS, ABOUT, r"ids are of type int64 and shape \(3, 1\)"),
        (IDS, ROWS.double(), ABOUT, "values is of type float64"),
        (IDS, ROWS[:2], ABOUT, "with one row for each of the 3 ids"),
        (IDS, ROWS.flatten(), ABOUT, r"shape \(96,\)"),
        (IDS, ROWS[:, :0], ABOUT, r"shape \(3, 0\)"),
        (IDS, ROWS / torch.tensor([[1.0], [0.0], [1.0]]), ABOUT, "NaN or infinite values in its row 1"),
        (IDS, ROWS * torch.tensor([[1.0], [1.0], [float("nan")]]), ABOUT, "NaN or infinite values in its row 2"),
        (None, ROWS, ABOUT, "without its rows"),
        (IDS, None, ABOUT, "without its rows"),
        (IDS, ROWS, [], "is JSON, but not an object"),
        (IDS, ROWS, "{", "is not valid JSON"),
        (IDS, ROWS, {**ABOUT, "side": "left"}, "without its rows"),
        (IDS, ROWS, {**ABOUT, "side": ["input"]}, "without its rows"),
        (IDS, ROWS, {**ABOUT, "format": "9"}, "newer"),
        (IDS, ROWS, {**ABOUT, "format": 2}, "newer"),
        (IDS, ROWS, {**ABOUT, "settings": []}, r"settings is \[\], but must be an object"),
        (IDS, ROWS, {**ABOUT, "made_from": "x"}, "made_from is 'x', but must be an object"),
        (IDS, ROWS, {**ABOUT, "made_from": {}}, "has no base"),
        (IDS, ROWS, {**ABOUT, "made_from": {"base": "b"}}, "must be an object with a name and a fingerprint"),
        (IDS, ROWS, {**ABOUT, "made_from": {"base": {"name": 1}}}, "must be an object with a name and a fingerprint"),
        (IDS, ROWS, {key: value for key, value in ABOUT.items() if key != "made_from"}, "has no made_from"),
        (IDS, ROWS, {key: value for key, value in ABOUT.items() if key != "settings"}, "has no settings"),
    ],
)
def test_patch_files_that_were_changed_are_refused(ids, values, about, message, tmp_path):
    tensors = {name: tensor for name, tensor in (("ids", ids), ("values", values)) if tensor is not None}
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(
        {n: t.contiguous() for n, t in tensors.items()}, tmp_path / "patch.safetensors", metadata={"ks-lottery": text}
    )
    with pytest.raises(UserError, match=message) as caught:
        RowPatch.open(tmp_path)
    assert type(caught.value) is UserError
    assert "patch.safetensors" in str(caught.value)


def test_a_patch_whose_rows_do_not_fit_is_refused_over_any_kind_of_base(tied_model, tmp_path):
    from ks_lottery import scan

    tensors = load_file(tied_model / "model.safetensors")
    torch.save(tensors, tmp_path / "base.bin")
    pickled = PickledCheckpoint.open(tmp_path / "base.bin")
    for ids, rows in ((np.array([384]), torch.ones(1, 32)), (np.array([3]), torch.ones(1, 31))):
        with pytest.raises(UserError, match="do not fit the 384 x 32"):
            scan(tmp_path / "base.bin", RowPatch(ids, rows, {"name": "base", "fingerprint": pickled.fingerprint}))
        with pytest.raises(UserError, match="do not fit the 384 x 32"):
            scan(tied_model, RowPatch(ids, rows, Checkpoint.open(tied_model).describe()))


def test_a_patch_is_restricted_to_whole_numbers_of_rows():
    patch = RowPatch(np.array([1, 5]), torch.zeros(2, 3), base={}, settings={})
    assert [len(patch.restrict(np.array(rows))) for rows in ([5], [], [1, 5, 7])] == [1, 0, 2]
    with pytest.raises(UserError, match="give `tickets.ids`"):
        patch.restrict(Tickets(rows=np.array([5]), rule={}))
