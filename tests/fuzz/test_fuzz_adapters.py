"""Adapters, patches, tickets and tables that anybody could have written: a right result, or one sentence."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from amount import examples
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ks_lottery import Attribution, RowPatch, Scan, Tickets, UserError, open_checkpoint, scan
from ks_lottery.checkpoint.adapter import AdaptedCheckpoint
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.models.quiet import quiet
from ks_lottery.tickets.scan import Part

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 400), st.just(1 << 70), st.floats(), st.text(max_size=5), st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 400), max_size=3), st.lists(st.text(max_size=4), max_size=2),
    st.dictionaries(st.text(max_size=6), st.integers(-1, 9), max_size=2), st.just([[1]]), st.just("(" * 40), st.just("[" * 3),
)  # fmt: skip
"""Values of any JSON type."""

NAMES = ("q_proj", "v_proj", "embed_tokens", "lm_head", "layers.0.self_attn.q_proj", "up_proj", "norm")
SOME = st.lists(st.sampled_from(NAMES), max_size=3, unique=True)
LIKELY = {
    "r": st.integers(1, 4), "lora_alpha": st.one_of(st.integers(-4, 9), st.floats(-3, 3)), "use_rslora": st.booleans(),
    "target_modules": st.one_of(SOME, st.sampled_from([r".*q_proj", r".*\.0\..*_proj", "all-linear", "q_proj"])),
    "exclude_modules": st.one_of(SOME, st.just(r".*layers\.1.*")), "modules_to_save": SOME,
    "layers_to_transform": st.one_of(st.integers(0, 2), st.lists(st.integers(0, 2), max_size=2)),
    "layers_pattern": st.sampled_from(["layers", ["layers"], "h", []]),
    "rank_pattern": st.dictionaries(st.sampled_from(["q_proj", r".*\.0.*", "^v"]), st.integers(1, 3), max_size=2),
    "alpha_pattern": st.dictionaries(st.sampled_from(["q_proj", r".*\.0.*", "^v"]), st.integers(1, 9), max_size=2),
    "trainable_token_indices": st.one_of(
        st.lists(st.integers(-1, 385), max_size=3),
        st.dictionaries(st.sampled_from(["embed_tokens", "lm_head"]), st.lists(st.integers(0, 383), max_size=2), max_size=2),
    ),
    "token_indices": st.lists(st.integers(-1, 385), max_size=3), "fan_in_fan_out": st.booleans(), "lora_bias": st.booleans(),
    "bias": st.sampled_from(["none", "all", "lora_only"]), "ensure_weight_tying": st.booleans(),
    "init_lora_weights": st.sampled_from([True, "gaussian", "pissa", "olora", "eva", "mica", "orthogonal", False]),
    "use_dora": st.booleans(), "target_parameters": st.sampled_from([None, ["q_proj.weight"]]),
    "layer_replication": st.sampled_from([None, [[0, 1]]]), "a_new_setting": st.sampled_from([None, 0, 1, "x"]),
    "peft_type": st.sampled_from(["LORA", "TRAINABLE_TOKENS", "IA3"]),
}  # fmt: skip
"""Values that PEFT takes, or could take, by setting."""

KINDS = {
    "lora": LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    "embedding": LoraConfig(r=2, target_modules=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"),
    "whole": LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"], task_type="CAUSAL_LM"),
    "tokens": TrainableTokensConfig(token_indices=[5, 3], task_type="CAUSAL_LM"),
    "tokens beside": LoraConfig(r=2, target_modules=["v_proj"], trainable_token_indices=[9, 4], task_type="CAUSAL_LM"),
}


@pytest.fixture(scope="module")
def bases(tied_model, untied_model):
    with quiet():
        return {"tied": (tied_model, load(tied_model)), "untied": (untied_model, load(untied_model))}


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def adapters(bases, tmp_path_factory):
    made = {}
    for base, (_, model) in bases.items():
        for kind, config in KINDS.items():
            folder = tmp_path_factory.mktemp(f"{base}-{kind.replace(' ', '-')}")
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                adapted = get_peft_model(copy.deepcopy(model), copy.deepcopy(config))
                for parameter in adapted.parameters():
                    if parameter.requires_grad:
                        parameter.data += 0.1
                adapted.save_pretrained(folder)
            made[base, kind] = folder
    return made


def merged(model, folder):
    """Return what PEFT merges, or None where it cannot load the adapter."""
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = PeftModel.from_pretrained(copy.deepcopy(model), folder).merge_and_unload()
    except Exception:  # noqa: BLE001 (whatever PEFT raises for it)
        return None
    return {"lm_head.weight": result.get_output_embeddings().weight.detach(), **result.state_dict()}


def write(folder, about, tensors):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(about))
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "adapter_model.safetensors")


def outcome(call):
    """Return what a call gives, or None where it refuses in one sentence."""
    try:
        return call()
    except UserError as error:
        said = str(error)
    assert said.count("\n") == 0
    assert 10 < len(said) < 1000
    return None


def compare_with_peft(bases, base, folder):
    path, model = bases[base]
    adapted = outcome(lambda: AdaptedCheckpoint.open(folder, open_checkpoint(str(path))))
    if adapted is None:
        return
    scan(path, adapted, units="all")
    wanted = merged(model, folder)
    if wanted is None:
        return
    for name, unit in adapted.units.items():
        values = wanted[name].reshape(unit.count, unit.width)
        torch.testing.assert_close(adapted.block(name, 0, unit.count).float(), values.float(), atol=1e-4, rtol=1e-4)


@examples(120)
@given(data=st.data())
def test_settings(data, bases, adapters, tmp_path_factory):
    base, kind = data.draw(st.sampled_from(sorted(bases))), data.draw(st.sampled_from(sorted(KINDS)))
    source = adapters[base, kind]
    about = json.loads((source / "adapter_config.json").read_text())
    for key in data.draw(st.lists(st.sampled_from(sorted(LIKELY)), min_size=1, max_size=3, unique=True)):
        about[key] = data.draw(st.one_of(LIKELY[key], LIKELY[key], ODD))
    folder = tmp_path_factory.mktemp("settings")
    write(folder, about, load_file(source / "adapter_model.safetensors"))
    compare_with_peft(bases, base, folder)
    shutil.rmtree(folder)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 32, 383, 384, 390]), max_size=3)
TYPES = st.sampled_from(
    [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8]
)
PARTS = (
    "lora_A.weight",
    "lora_B.weight",
    "lora_embedding_A",
    "weight",
    "bias",
    "base_layer.weight",
    "trainable_tokens_delta",
)


@examples(120)
@given(data=st.data())
def test_tensors(data, bases, adapters, tmp_path_factory):
    base, kind = data.draw(st.sampled_from(sorted(bases))), data.draw(st.sampled_from(sorted(KINDS)))
    source = adapters[base, kind]
    tensors = load_file(source / "adapter_model.safetensors")
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(tensors))) if tensors else "x"
        change = data.draw(st.sampled_from(["drop", "rename", "shape", "type", "value", "add"]))
        tensor = tensors.pop(name, torch.ones(1))
        if change == "rename":
            tensors[data.draw(st.sampled_from([name + "x", name.replace("layers.0", "layers.9"), "weight"]))] = tensor
        elif change == "shape":
            tensors[name] = torch.ones(data.draw(SHAPES))
        elif change == "type":
            tensors[name] = tensor.to(data.draw(TYPES))
        elif change == "value":
            tensor.view(-1)[:1] = data.draw(st.sampled_from([0.0, float("nan"), float("inf"), 1e38]))
            tensors[name] = tensor
        elif change == "add":
            stem = name.split(".lora_")[0].split(".weight")[0]
            tensors |= {name: tensor, f"{stem}.{data.draw(st.sampled_from(PARTS))}": torch.ones(data.draw(SHAPES))}
    folder = tmp_path_factory.mktemp("tensors")
    write(folder, json.loads((source / "adapter_config.json").read_text()), tensors)
    compare_with_peft(bases, base, folder)
    shutil.rmtree(folder)


@examples(150)
@given(content=st.binary(max_size=60), cut=st.integers(0, 400), where=st.integers(0, 400))
def test_damaged_files(content, cut, where, bases, adapters, tmp_path_factory):
    source = adapters["untied", "lora"]
    folder = tmp_path_factory.mktemp("damaged")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        raw = (source / name).read_bytes()
        (folder / name).write_bytes(raw[:where] + content + raw[where + len(content) : len(raw) - cut])
    outcome(lambda: scan(bases["untied"][0], folder, units="all"))
    shutil.rmtree(folder)


@examples(150)
@given(data=st.data())
def test_patches(data, bases, tmp_path_factory):
    checkpoint = open_checkpoint(str(bases["untied"][0]))
    ids = data.draw(st.lists(st.integers(-2, 390), max_size=4))
    kind, width = data.draw(TYPES), data.draw(st.sampled_from([0, 31, 32]))
    count = data.draw(st.sampled_from([len(ids), len(ids) + 1]))
    values = torch.full((count, width), data.draw(st.sampled_from([0.5, 0.5, 2.0, float("nan")]))).to(kind)
    about = {
        "kind": "row-patch", "format": 1, "made_from": {"base": checkpoint.describe()}, "settings": {},
        "side": data.draw(st.sampled_from(["input", "output", "both"])),
    }  # fmt: skip
    if data.draw(st.booleans()):
        about[data.draw(st.sampled_from(sorted(about)))] = data.draw(ODD)
    names = data.draw(
        st.sampled_from([("values",), ("output_values",), ("tied_values",), ("values", "output_values"), ()])
    )
    file = tmp_path_factory.mktemp("patch") / "patch.safetensors"
    tensors = {
        "ids": torch.tensor(
            ids, dtype=data.draw(st.sampled_from([torch.int64, torch.int64, torch.int32, torch.float32]))
        )
    }
    tensors |= {name: values.clone() for name in names}
    text = (
        json.dumps(about)
        if data.draw(st.integers(0, 9))
        else data.draw(st.sampled_from(["[]", "{", "3", "null", "[" * 5000]))
    )
    save_file(tensors, file, metadata={"ks-lottery": text})
    patch = outcome(lambda: RowPatch.open(file))
    if patch is None:
        return
    assert patch.ids.tolist() == sorted(set(ids)) == ids
    units = "output" if patch.side == "output" else "embedding"
    found = outcome(lambda: scan(checkpoint, patch, units=units))
    if found is not None:
        before = checkpoint.rows(np.arange(384), side="output" if units == "output" else "input")
        after = before.clone()
        after[torch.tensor(ids, dtype=torch.int64)] = values.float()
        assert np.array_equal(found.moved, (before != after).sum(dim=1).numpy())


@examples(200)
@given(data=st.data())
def test_tickets(data, tmp_path_factory):
    entry = st.fixed_dictionaries(
        {},
        optional={
            "row": st.one_of(st.integers(0, 400), ODD),
            "token": st.one_of(st.text(max_size=4), ODD),
            "pvalue": ODD,
        },
    )
    good = st.lists(st.builds(lambda row: {"row": row}, st.integers(0, 400)), max_size=4)
    rows = data.draw(st.one_of(good, st.lists(st.one_of(entry, ODD), max_size=3), ODD))
    about = {"kind": "tickets", "format": 1, "made_from": {}, "settings": {"selector": "x"}, "rows": rows}
    if data.draw(st.booleans()):
        about[data.draw(st.sampled_from(sorted(about)))] = data.draw(ODD)
    file = tmp_path_factory.mktemp("tickets") / "tickets.json"
    file.write_text(json.dumps(about))
    tickets = outcome(lambda: Tickets.open(file))
    if tickets is not None:
        listed = [item["row"] for item in about["rows"]]
        assert tickets.rows.tolist() == listed
        assert len(set(listed)) == len(listed)
        assert all(type(row) is int and row >= 0 for row in listed)
        assert set(Tickets.tokens(file)) <= set(listed)
        tickets.sections(Tickets.tokens(file))
        again = file.parent / "again.json"
        assert Tickets.open(tickets.save(again)).rows.tolist() == listed


def tables(folder: Path) -> dict[str, tuple[Path, object]]:
    """Write one small table of each kind."""
    ids = np.array([2, 5])
    Attribution(ids, {"lca": np.array([0.5, 1.0])}, np.array([1, 2]), {}, {}).save(folder)
    ones = np.ones(2)
    Predictions(
        sentence=np.zeros(2, int), position=np.arange(2), label=ids, log_p=-ones, first=ids, second=ids + 1, p_first=ones * 0.6,
        p_second=ones * 0.2, made_from={},
    ).save(folder / "predictions.parquet")  # fmt: skip
    columns = dict.fromkeys(
        ("distance", "largest", "spread", "cos", "absolute", "absolute_signed", "kl", "relative"), ones
    )
    part = Part(tensor="embed_tokens.weight", start=0, count=2, width=8, compared_as="float32")
    counts = {name: np.array([1, 8]) for name in ("counts", "moved", "zeros")}
    settings = {"vocabulary": [], "units": "embedding"}
    Scan(parts=(part,), **counts, **columns, made_from={"base": {"name": "b"}}, settings=settings).save(
        folder / "scan.parquet"
    )
    return {
        "scan.parquet": (folder / "scan.parquet", Scan.open),
        "attribution.parquet": (folder / "attribution.parquet", Attribution.open),
        "predictions.parquet": (folder / "predictions.parquet", Predictions.open),
    }


COLUMN = st.one_of(
    st.lists(st.integers(-2, 9), min_size=2, max_size=2), st.lists(st.floats(), min_size=2, max_size=2),
    st.lists(st.text(max_size=2), min_size=2, max_size=2),
    st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=2, max_size=2),
    st.just([True, False]), st.just([[1], [2]]), st.just([1 << 62, 1 << 62]), st.just([{"a": 1}, {"a": 2}]),
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tables(tmp_path_factory.mktemp("tables"))


@examples(250)
@given(data=st.data())
def test_tables(data, saved, tmp_path_factory):
    source, read = saved[data.draw(st.sampled_from(sorted(saved)))]
    table = pq.read_table(source)
    columns = {name: table[name] for name in table.column_names}
    about = json.loads(table.schema.metadata[b"ks-lottery"])
    for _ in range(data.draw(st.integers(0, 2))):
        name = data.draw(st.sampled_from(sorted(columns)))
        columns.pop(name)
        if data.draw(st.integers(0, 3)):
            columns[name] = data.draw(COLUMN)
    if data.draw(st.booleans()):
        place = data.draw(st.sampled_from([about, about["settings"], *about["settings"].get("parts", [])]))
        place[data.draw(st.sampled_from(sorted([*place, "shortfall", "matched", "only_in_base"])))] = data.draw(ODD)
    file = tmp_path_factory.mktemp("table") / source.name
    try:
        pq.write_table(pa.table(columns).replace_schema_metadata({"ks-lottery": json.dumps(about)}), file)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # the draw is no table
        return
    opened = outcome(lambda: read(file))
    if opened is not None:
        opened.sections()
        assert repr(opened)
        assert opened == read(file)
