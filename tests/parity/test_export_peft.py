"""Exports against PEFT and plain transformers, which load them without us."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.export import to_merged, to_peft
from ks_lottery.models.export_parts import is_tied
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_rows

TOKENS = torch.tensor([[1, 5, 77, 300, 9, 301], [5, 5, 6, 0, 301, 2]])


@pytest.fixture(params=["tied_model", "untied_model"])
def case(request):
    checkpoint = open_checkpoint(str(request.getfixturevalue(request.param)))
    ids = np.array([5, 77, 301])
    patch = RowPatch(ids, torch.randn(3, 32, generator=torch.Generator().manual_seed(1)), checkpoint.describe())
    model = load_model(checkpoint, dtype="float32", device="cpu").lm
    before = model(TOKENS).logits
    with installed_rows(model, patch.ids, patch.values):
        wanted = model(TOKENS).logits
    assert not torch.allclose(before, wanted)
    return checkpoint, patch, wanted.detach()


def test_peft_loads_the_adapter_and_answers_like_ours(case, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    checkpoint, patch, wanted = case
    to_peft(checkpoint, patch, tmp_path / "adapter")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    assert torch.allclose(adapted(input_ids=TOKENS).logits, wanted, atol=1e-5)
    size = sum(f.stat().st_size for f in (tmp_path / "adapter").iterdir())
    assert size < 20_000


def test_transformers_loads_the_merged_folder_and_answers_like_ours(case, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint, patch, wanted = case
    to_merged(checkpoint, patch, tmp_path / "merged")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == 384
    assert model.config.tie_word_embeddings is False
    assert torch.allclose(model(TOKENS).logits, wanted, atol=1e-5)


@pytest.mark.parametrize("write", [to_peft, to_merged])
def test_a_folder_that_holds_something_is_left_alone(case, tmp_path, write):
    checkpoint, patch, _ = case
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not the folder of an export"):
        write(checkpoint, patch, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


def test_exports_are_the_same_bytes_each_time(case, tmp_path):
    checkpoint, patch, _ = case
    for name in ("one", "two"):
        to_peft(checkpoint, patch, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_the_wrong_base_is_refused(case, tied_model, untied_model, tmp_path):
    checkpoint, patch, _ = case
    other = open_checkpoint(str(untied_model if checkpoint.folder == tied_model else tied_model))
    for write in (to_peft, to_merged):
        with pytest.raises(UserError, match="belongs"):
            write(other, patch, tmp_path / write.__name__)
        assert not (tmp_path / write.__name__).exists()
        write(other, patch, tmp_path / write.__name__, force=True)
        assert "put onto this one by force" in (tmp_path / write.__name__ / "README.md").read_text()


@pytest.mark.parametrize("write", [to_peft, to_merged])
def test_values_for_each_side_do_not_fit_a_tied_base(case, tmp_path, write):
    checkpoint, patch, _ = case
    tied = is_tied(checkpoint)
    wrong = replace(patch, side="both", output_values=patch.values if tied else None)
    with pytest.raises(UserError, match="one set of values" if tied else "a set of values for each side"):
        write(checkpoint, wrong, tmp_path / "out")
