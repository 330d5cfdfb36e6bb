"""What fine-tuning changed, in numbers: a synthetic tuning that saw some scripts alone is told from its moves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from ks_lottery.cli.main import main
from ks_lottery.tickets.compare import compare
from ks_lottery.tickets.scan_changes import changes, place_of

WORDS = {
    "Latin": ["house", "dog", "garden", "password", "page", "file"],
    "Cyrillic": ["дом", "пёс", "сад", "пароль", "лист", "файл"],
    "Han": ["家", "犬", "庭", "密", "頁"],
    "digits": ["0", "1", "2", "42"],
    "code": ["->", "();", "my_name"],
    "punctuation": [",", "."],
    "special": ["<pad>", "<s>"],
}
SEEN = ("Cyrillic", "digits")
WIDTH = 64


def write(folder, embedding, layer):
    folder.mkdir()
    vocabulary = {word: i for i, word in enumerate(word for words in WORDS.values() for word in words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>", "<s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(
        {"model.embed_tokens.weight": embedding, "model.layers.3.mlp.up_proj.weight": layer},
        folder / "model.safetensors",
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(embedding),
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    generator = torch.Generator().manual_seed(0)
    count = sum(map(len, WORDS.values()))
    before = torch.randn((count, WIDTH), generator=generator)
    after = before.clone()
    kinds = [kind for kind, words in WORDS.items() for _ in words]
    for row, kind in enumerate(kinds):
        if kind in SEEN and row % 3:
            after[row] += 2 * torch.randn(WIDTH, generator=generator)
    layer = torch.randn((8, WIDTH), generator=generator)
    extra = torch.zeros((3, WIDTH))
    base = write(folder / "base", before, layer)
    return base, write(folder / "tuned", torch.cat([after, extra]), layer + 1), kinds, before.numpy(), after.numpy()


def test_the_scripts_that_were_seen_are_those_that_moved(pair):
    base, tuned, kinds, before, after = pair
    compared = compare(str(base), str(tuned))
    changed = compared.as_dict()["changes"]
    moved = (before != after).any(axis=1)
    spread = np.abs(after - before).mean(axis=1) / before.std(axis=1)
    for kind in changed["by_kind"]:
        of = np.array([one == kind["kind"] for one in kinds])
        assert (kind["rows"], kind["moved"]) == (of.sum(), (of & moved).sum())
        assert kind["share"] == pytest.approx(moved[of].mean())
        if kind["kind"] in SEEN:
            assert kind["median_move"] == pytest.approx(np.median(spread[of & moved]), rel=1e-5)
        else:
            assert (kind["moved"], kind["median_move"], kind["passing"]) == (0, None, 0)
    assert {kind["kind"] for kind in changed["by_kind"]} == set(WORDS)
    assert changed["still"]["rows"] == (~moved).sum()
    assert [one["row"] for one in changed["still"]["first"]] == np.flatnonzero(~moved)[:30].tolist()
    assert changed["moves"]["0.5"] == pytest.approx(np.median(spread[moved]), rel=1e-5)


def test_json_of_the_command_and_the_saved_scan_say_the_same(pair, tmp_path, capfd):
    base, tuned, *_ = pair
    file = tmp_path / "scan.parquet"
    assert main(["scan", str(base), str(tuned), "--json", "--out", str(file)]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert [row["row"] for row in printed["rows"]["only_in_tuned"]] == [len(pair[2]) + i for i in range(3)]
    from ks_lottery.recipes.page_scan import OpenedScan

    scan, tokens, kinds = OpenedScan(file).vocabulary
    assert changes(scan, 0.05, tokens, kinds) == printed["changes"]
    assert changes(scan, 0.05, tokens)["by_kind"] == printed["changes"]["by_kind"]
    assert changes(scan, 0.05)["by_kind"] is None


def test_the_screen_names_the_kinds_that_moved(pair, capfd):
    assert main(["scan", str(pair[0]), str(pair[1])]) == 0
    shown = capfd.readouterr().out
    assert "Moves by kind of token" in shown
    assert "No row moved of: Latin, Han, punctuation, code, special." in shown


def test_a_whole_model_has_its_layers(pair):
    compared = compare(str(pair[0]), str(pair[1]), units="all")
    layers = {cell["tensor"]: cell for cell in compared.as_dict()["changes"]["layers"]}
    cell = layers["model.layers.3.mlp.up_proj.weight"]
    assert (cell["layer"], cell["module"], cell["units"], cell["moved"]) == ("3", "mlp.up_proj", 8, 8)
    assert cell["share"] == cell["passing"] / 8 > 0


@pytest.mark.parametrize(
    ("tensor", "place"),
    [
        ("transformer.h.7.attn.c_attn.weight", ("7", "attn.c_attn")),
        ("gpt_neox.layers.0.mlp.dense_h_to_4h.bias", ("0", "mlp.dense_h_to_4h.bias")),
        ("lm_head.weight", ("outside", "lm_head")),
    ],
)
def test_a_tensor_has_its_place(tensor, place):
    assert place_of(tensor) == place
