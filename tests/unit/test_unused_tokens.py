"""Which tokens text never yields: found by the tokenizer, its config, its chat template and its merges."""

from __future__ import annotations

import json

import pytest
from reserve import NAMES, ROWS, UNUSED, make_reserve, vocabulary
from transformers import AutoTokenizer

from ks_lottery import load_model, open_checkpoint
from ks_lottery.models.unused_tokens import is_reserved, unused_tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_reserve(tmp_path_factory.mktemp("reserve"), NAMES)


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(open_checkpoint(str(folder)), dtype="float32", device="cpu")


def test_reserved_names_come_first_and_then_rows_without_a_token(folder, loaded):
    known = vocabulary(folder)
    found = unused_tokens(loaded)
    named = [(known[f"<unused{i}>"], f"<unused{i}>") for i in range(UNUSED)]
    spare = [(row, "") for row in range(ROWS) if row not in known.values()]
    assert [(one.token, one.text) for one in found] == [*named, *spare]


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("<unused0>", True), ("<unused6241>", True), ("<|reserved_special_token_250|>", True), ("[unused1]", True),
        ("<|reserved_200017|>", True), ("<SPECIAL_20>", True), ("[control_8]", True), ("<|placeholder1|>", True),
        ("<|dummy_85|>", True), (">>UNUSED_117<<", True), ("[UNUSED_TOKEN_1]", True), ("<|extra_0|>", True),
        ("<｜place▁holder▁no▁0｜>", True), ("<|text_post_train_reserved_special_token_6|>", True),
        ("<|im_start|>", False), ("<|image_placeholder|>", False), ("<extra_id_0>", False), ("<repo_name>", False),
        ("<start_of_image>", False), ("unused0", False), ("Ġreserved1", False), ("<0x0A>", False), ("", False),
        ("<" + "reserved_" * 100_000 + ">", False),
    ],
)  # fmt: skip
def test_names_that_tokenizers_give_to_tokens_in_reserve(name, reserved):
    assert is_reserved(name) == reserved


def test_a_reserved_token_with_a_use_is_left_out(tmp_path):
    folder = make_reserve(tmp_path / "used", [f"<unused{i}>" for i in range(6)])
    known = vocabulary(folder)
    config = json.loads((folder / "config.json").read_text())
    config["image_token_index"] = known["<unused1>"]
    config["text_config_of_another"] = {"audio_token_ids": [known["<unused2>"], 383]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text("<unused3>{{ messages[0]['content'] }}")
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": [2, known["<unused4>"]]}))
    found = unused_tokens(load_model(open_checkpoint(str(folder)), dtype="float32", device="cpu"))
    assert [one.text for one in found if one.text] == ["<unused0>", "<unused5>"]
    assert 383 not in [one.token for one in found]


def test_a_token_of_merges_is_not_in_reserve_though_its_name_is(tmp_path):
    folder = make_reserve(tmp_path / "m", [])
    content = json.loads((folder / "tokenizer.json").read_text())
    ids, merges = content["model"]["vocab"], content["model"]["merges"]
    spelled = "[unused1]"
    for end in range(2, len(spelled) + 1):  # text that spells it yields it
        if spelled[:end] not in ids:
            ids[spelled[:end]] = max(ids.values()) + 1
            merges.insert(end - 2, [spelled[: end - 1], spelled[end - 1]])
    ids["[unused2]"] = max(ids.values()) + 1  # no merge makes this one
    content["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.encode("[unused1]", add_special_tokens=False) == [ids["[unused1]"]]
    found = {one.token: one.text for one in unused_tokens(load_model(open_checkpoint(str(folder)), dtype="float32"))}
    assert ids["[unused1]"] not in found
    assert found[ids["[unused2]"]] == ""  # by its id alone
