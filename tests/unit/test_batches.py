"""From pairs to tokens, labels and batches."""

from __future__ import annotations

import pytest
import torch

from ks_lottery import Corpus, open_checkpoint
from ks_lottery.corpus.batches import (
    NO_LABEL,
    Example,
    batches_by_length,
    collate,
    encode,
    occurrences,
)
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import special_token
from ks_lottery.models.load import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tied_model):
    return load_tokenizer(open_checkpoint(str(tied_model)))


CORPUS = Corpus((Pair("The dog eats", "El gos menja"), Pair("The house", "La casa " * 40)), "en", "ca", "test")


def test_an_example_reads_back_as_text(tokenizer):
    examples, kept = encode(tokenizer, CORPUS, template="plain")
    assert kept == [0, 1]
    prompt = "Translate the following sentence from English to Catalan.\nThe dog eats\n"
    assert tokenizer.decode(examples[0].prompt) == prompt
    assert tokenizer.decode(examples[0].response) == "El gos menja</s>"


def test_labels_stand_where_they_are_predicted(tokenizer):
    example = encode(tokenizer, CORPUS, template="plain")[0][0]
    features = example.features()
    assert len(features["input_ids"]) == len(features["labels"]) == len(example.sequence) - 1
    for position, label in enumerate(features["labels"]):
        if position < len(example.prompt) - 1:
            assert label == NO_LABEL
        else:
            assert label == example.sequence[position + 1]


def test_long_examples_are_left_out_whole(tokenizer):
    examples, kept = encode(tokenizer, CORPUS, template="plain", max_tokens=70)
    assert kept == [0]
    assert tokenizer.decode(examples[0].response) == "El gos menja</s>"


def test_batches_are_padded_on_the_right():
    one, two = Example((5, 6), (7, 2)), Example((5,), (2,))
    batch = collate([one.features(), two.features()])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[NO_LABEL, 7, 2], [2, NO_LABEL, NO_LABEL]]
    assert batch["labels"].dtype == torch.long


def test_groups_hold_each_index_once():
    lengths = [3, 9, 9, 1, 4, 4, 4]
    groups = batches_by_length(lengths, 3)
    assert groups == [[1, 2, 4], [5, 6, 0], [3]]


def test_occurrences_count_prompt_and_response():
    counts = occurrences([Example((5, 6), (6, 2)), Example((5,), (2,))])
    assert counts == {5: 2, 6: 2, 2: 2}


def test_special_token_zero_counts(tokenizer):
    assert special_token(tokenizer, "pad_token_id", "eos_token_id") == 0
    with pytest.raises(ValueError, match="sep_token_id"):
        special_token(tokenizer, "sep_token_id")
