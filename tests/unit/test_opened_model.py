"""Models by name: which names tell them apart, and what is opened."""

from __future__ import annotations

import json

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model

from ks_lottery import RowPatch, UserError, load_model, open_checkpoint
from ks_lottery.models import opened_model
from ks_lottery.models.opened_model import open_models, short_names


def test_short_names(tmp_path, monkeypatch) -> None:
    for name in ("a/partial", "b/partial", "c/x/partial", "model.gguf"):
        (tmp_path / name).mkdir(parents=True)
    every = [f"{tmp_path}/{name}" for name in ("a/partial", "b/partial", "model.gguf")]
    assert short_names(every) == ["a/partial", "b/partial", "model.gguf"]
    assert short_names([every[0], every[0], "owner/model"]) == ["partial", "partial (2)", "owner/model"]
    # The end that tells two apart may be longer than that of others.
    three = [f"{tmp_path}/{name}" for name in ("a/partial", "b/partial", "c/x/partial")]
    assert short_names(three) == ["a/partial", "b/partial", "x/partial"]
    assert short_names(["tuned", f"{tmp_path}/a/partial"]) == ["tuned", "partial"]
    monkeypatch.chdir(tmp_path)
    assert short_names(["a/partial", "model.gguf"]) == ["partial", "model.gguf"]


def test_what_is_opened(tied_model, tmp_path) -> None:
    base = open_checkpoint(tied_model)
    patch = RowPatch(
        ids=open_ids(), values=base.rows(open_ids()), base=base.describe(), settings={"prompt": "Say {source}:"}
    )
    patch.save(tmp_path / "patch")
    loaded = load_model(tied_model, dtype="float32", device="cpu")
    by_folder, model, in_memory, given = open_models(
        [tmp_path / "patch", tied_model, patch, loaded], reserved=["patch"]
    )
    assert (by_folder.product, by_folder.prompt) == (patch, "Say {source}:")
    assert by_folder.name == f"{tmp_path.name}/patch"
    assert (model.product, model.prompt) == (None, None)
    assert in_memory.name == "patch (2)"
    assert given.base is loaded
    # One base is opened once, so that it is loaded once.
    assert by_folder.base is in_memory.base is model.base
    assert by_folder.describe()["product"] == patch.content != model.describe()["product"]


def test_a_patch_without_its_base(tmp_path, tied_model, untied_model) -> None:
    base = open_checkpoint(tied_model)
    patch = RowPatch(ids=open_ids(), values=base.rows(open_ids()), base={"fingerprint": base.fingerprint})
    with pytest.raises(UserError, match="patch does not say which model it belongs to: give `base`"):
        open_models([patch])
    assert open_models([patch], base=tied_model)[0].product is patch
    with pytest.raises(UserError):
        open_models([patch], base=untied_model)
    moved = RowPatch(ids=open_ids(), values=base.rows(open_ids()), base={**base.describe(), "name": "/nowhere/base"})
    with pytest.raises(UserError, match="the base of patch cannot be opened"):
        open_models([moved])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_of_the_hub_over_the_base_that_it_names(tied_model, tmp_path, monkeypatch) -> None:
    lm = load_model(tied_model, dtype="float32", device="cpu").lm
    get_peft_model(lm, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(tied_model)}))
    monkeypatch.setattr(opened_model, "from_hub", lambda name: {"me/adapter": tmp_path}[name])
    (model,) = open_models(["me/adapter"])
    assert (model.name, model.product) == ("me/adapter", tmp_path)
    assert model.checkpoint.fingerprint == open_checkpoint(tied_model).fingerprint
    assert len(model.describe()["product"]) == 64


def open_ids():
    return np.array([3, 5])
