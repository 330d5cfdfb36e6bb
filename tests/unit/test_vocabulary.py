"""Token strings: one reader for a loaded tokenizer and for its file, against the tokenizer's own decoding."""

from __future__ import annotations

import json
import shutil

import pytest

from ks_lottery import UserError, open_checkpoint
from ks_lottery.models.load import load_tokenizer
from ks_lottery.models.vocabulary import check_same, read_vocabulary, token_strings, vocabulary_of


@pytest.fixture
def tokenizer(tied_model):
    return load_tokenizer(open_checkpoint(tied_model))


def test_each_row_has_the_text_that_the_tokenizer_decodes(tokenizer):
    shown = token_strings(tokenizer, 400)
    assert len(shown) == 400
    assert shown[384:] == ["''"] * 16  # rows beyond the tokenizer
    whole = 0
    for i, text in enumerate(shown[:384]):
        decoded = tokenizer.decode([i])
        if "\ufffd" in decoded:  # bytes that are only part of a character
            assert text == repr(tokenizer.convert_ids_to_tokens(i))
        else:
            assert text == repr(decoded)
            whole += 1
        assert text.isprintable()
    assert 100 < whole < 384
    assert token_strings(tokenizer, 5) == shown[:5]


def test_the_file_says_the_same_as_the_loaded_tokenizer(tokenizer, tied_model):
    assert read_vocabulary(tied_model) == vocabulary_of(tokenizer)


def test_spaces_before_punctuation_are_shown(tied_model, tmp_path):
    """Some tokenizers, such as that of Llama 3, are set to clean up spaces when they decode sentences."""
    shutil.copytree(tied_model, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "clean_up_tokenization_spaces": True}))
    core = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    core["added_tokens"].append({
        "id": 384, "content": " .", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": False,
    })  # fmt: skip
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(core))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.clean_up_tokenization_spaces
    assert token_strings(tokenizer, 385)[384] == "' .'"


def test_a_folder_without_a_tokenizer_and_a_damaged_one(tied_model, tmp_path):
    assert read_vocabulary(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        read_vocabulary(tmp_path)


def test_ids_that_mean_different_strings_are_refused(tied_model, tmp_path):
    vocabulary = read_vocabulary(tied_model)
    core = json.loads((tied_model / "tokenizer.json").read_text())
    swapped = core["model"]["vocab"]
    names = sorted(swapped, key=swapped.get)
    swapped[names[100]], swapped[names[101]] = 101, 100
    (tmp_path / "tokenizer.json").write_text(json.dumps(core))
    check_same(vocabulary, vocabulary, ("a", "b"))
    check_same(vocabulary, None, ("a", "b"))
    with pytest.raises(UserError, match=r"a and b mean different strings by 2 ids, the first of them 100 "):
        check_same(vocabulary, read_vocabulary(tmp_path), ("a", "b"))
