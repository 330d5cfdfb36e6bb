"""The command inspect: what it shows is what training and translating use."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from ks_lottery import open_checkpoint, read_corpus
from ks_lottery.cli.main import main
from ks_lottery.config.settings import TextSource
from ks_lottery.corpus.batches import collate, encode
from ks_lottery.corpus.inspection import describe, histogram
from ks_lottery.evaluation.inspect import inspect as inspect_text
from ks_lottery.models.prefix import shared_length


def inspect(capfd, *arguments):
    code = main(["inspect", *map(str, arguments)])
    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    return out


def as_json(capfd, *arguments):
    return json.loads(inspect(capfd, *arguments, "--json"))


def test_every_token_and_its_loss(tied_model, text_file, capfd):
    found = as_json(capfd, text_file, "--model", tied_model, "--template", "plain", "--examples", 2)
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    assert len(found["examples"]) == 2
    for example in found["examples"]:
        prompt = [t["id"] for t in example["tokens"] if not t["loss"]]
        response = [t["id"] for t in example["tokens"] if t["loss"]]
        assert [t["loss"] for t in example["tokens"]] == [False] * len(prompt) + [True] * len(response)
        assert prompt == tokenizer(example["prompt"])["input_ids"]
        assert tokenizer.decode(prompt) == example["prompt"]
        assert tokenizer.decode(response) == example["target"] + "</s>"
        assert example["prompt"].endswith(f"Catalan.\n{example['source']}\n")


def test_lengths_are_those_of_training(tied_model, text_file, capfd):
    found = as_json(capfd, text_file, "--model", tied_model, "--max-tokens", 231)
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    corpus = read_corpus(text_file, source_language="en", target_language="ca")
    every = encode(tokenizer, corpus, max_tokens=10**6)[0]
    totals = np.array([len(example.prompt) + len(example.response) for example in every])
    lengths = found["lengths"]
    assert lengths["overlong"] == int((totals > 231).sum()) > 0
    assert len(encode(tokenizer, corpus, max_tokens=231)[0]) == len(corpus) - lengths["overlong"]
    for name in ("p5", "p50", "p90", "p95", "p99"):
        assert lengths["total"][name] == np.percentile(totals, int(name[1:]), method="inverted_cdf")
    assert (lengths["total"]["min"], lengths["total"]["max"]) == (totals.min(), totals.max())
    assert lengths["total"]["mean"] == pytest.approx(totals.mean())
    for entry in lengths["histogram"]:
        assert entry["count"] == int(((totals >= entry["from"]) & (totals <= entry["to"])).sum())
    assert sum(entry["count"] for entry in lengths["histogram"]) == len(corpus)
    reached = {t for e in every if len(e) <= 231 for t in e.sequence[:-1]} - {0}
    assert found["reachable_rows"] == len(reached)
    words = sum(len(pair.target.split()) for pair in corpus)
    tokens = sum(len(tokenizer(pair.target)["input_ids"]) for pair in corpus)
    assert found["tokens_per_word"]["target"]["ratio"] == pytest.approx(tokens / words)


def test_what_people_read(tied_model, text_file, capfd):
    out = inspect(capfd, text_file, "--model", tied_model, "--max-tokens", 231, "--examples", 2)
    longest = as_json(capfd, text_file, "--model", tied_model)["lengths"]["total"]["max"]
    assert "120 pairs read from" in out
    assert f"examples have more than 231 tokens and are left out of training: raise max_tokens to {longest}" in out
    assert "  | ### Response:" in out
    assert "as in the first example" in out
    assert "with its end token '</s>' (2) alone" in out
    shown = as_json(capfd, text_file, "--model", tied_model, "--examples", 2)["examples"]
    rows = [line.split() for line in out.splitlines() if line.endswith(" loss") and line.split()[0].isdecimal()]
    assert [int(row[1]) for row in rows] == [t["id"] for example in shown for t in example["tokens"] if t["loss"]]


def test_tokens_that_look_like_markup_or_control_are_shown_safely(tied_model, tmp_path, capfd):
    file = tmp_path / "a.tsv"
    file.write_text("Press [bold] now please \x1b[31m red\tPrem [/bold] ara \x07 si us plau\n", encoding="utf-8")
    out = inspect(capfd, file, "--model", tied_model, "--template", "{source}", "--no-clean")
    assert not {"\x1b", "\x07"} & set(out)
    assert "Press [bold] now please \\x1b[31m red" in out
    assert out.count("'['") == 3


def test_cleaning_as_a_run_does_it(tied_model, tmp_path, capfd):
    file = tmp_path / "a.tsv"
    file.write_text("one\tun\nThis is a sentence\tAixò és una frase\n\tempty\n", encoding="utf-8")
    assert as_json(capfd, file, "--model", tied_model)["text"] == {
        "origin": str(file), "source_language": "en", "target_language": "ca", "read": 2, "left_out": {"empty": 1},
        "cleaning": "1 of 2 pairs kept; dropped 1 under 4 words, 0 with format placeholders, 0 with markup, "
        "0 with a source sentence that had already occurred", "pairs": 1, "unit": "pairs", "columns": None,
    }  # fmt: skip
    assert as_json(capfd, file, "--model", tied_model, "--no-clean")["text"]["pairs"] == 2
    file.write_text("one\tun\n", encoding="utf-8")
    assert main(["inspect", str(file), "--model", str(tied_model)]) == 2
    assert "nothing is left; --no-clean" in capfd.readouterr().err


def test_two_files_and_an_instruction_of_the_user(tied_model, tmp_path, capfd):
    (tmp_path / "a.en").write_text("This is a sentence\n")
    (tmp_path / "a.ca").write_text("Això és una frase\n")
    found = as_json(
        capfd, tmp_path / "a.en", "--target", tmp_path / "a.ca", "--model", tied_model, "--template", "plain",
        "--instruction", "Do it.",
    )  # fmt: skip
    assert found["examples"][0]["prompt"] == "Do it.\nThis is a sentence\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.tsv"], "nowhere.tsv does not exist"),
        (["TEXT", "--template", "chat"], "has no chat template"),
        (["TEXT", "--template", "alpacca"], "unknown template 'alpacca': use alpaca,"),
        (["TEXT", "--examples", "-1"], "examples is -1"),
        (["TEXT", "--max-tokens", "2"], "max_tokens is 2"),
        (["TEXT", "--limit", "0"], "limit is 0"),
        (["TEXT", "--target-language", "klingonish"], "'klingonish' is not known"),
        (["TEXT", "--model", "nowhere"], "nowhere does not exist"),
    ],
)
def test_mistakes_get_one_line(tied_model, text_file, capfd, arguments, message):
    arguments = [str(text_file) if a == "TEXT" else a for a in arguments]
    assert main(["inspect", "--model", str(tied_model), *arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line


def test_small_distributions():
    assert describe([4, 1, 3, 2]) == {"min": 1, "p5": 1, "p50": 2, "p90": 4, "p95": 4, "p99": 4, "max": 4, "mean": 2.5}
    assert histogram([5]) == [{"from": 5, "to": 5, "count": 1}]
    assert histogram([1, 2, 12]) == [
        {"from": start, "to": start + 1, "count": count}
        for start, count in zip(range(1, 13, 2), [2, 0, 0, 0, 0, 1], strict=True)
    ]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=200))
def test_distributions_by_their_definition(lengths):
    described = describe(lengths)
    ordered = sorted(lengths)
    for percent in (5, 50, 90, 95, 99):
        rank = -(-percent * len(ordered) // 100)  # the first place at or below which so many percent lie
        assert described[f"p{percent}"] == ordered[rank - 1]
    bars = histogram(lengths)
    assert 1 <= len(bars) <= 10
    assert [sum(bar["from"] <= length <= bar["to"] for length in lengths) for bar in bars] == [b["count"] for b in bars]
    assert [bar["from"] for bar in bars[1:]] == [bar["to"] + 1 for bar in bars[:-1]]


ASK = "Please translate the following sentence into Catalan: "


@pytest.mark.parametrize(
    ("sources", "max_tokens"),
    [
        # The overlong example begins otherwise, and training leaves it out.
        ([*(f"{ASK}{word}" for word in ("house", "garden", "page", "dog", "file")), "Q " * 300], 120),
        # One prompt is the beginning of another: its last token predicts, and is not shared.
        ([f"{ASK}the house", f"{ASK}the house is old", f"{ASK}the house is old and cold"], 120),
        # Fewer tokens than are worth sharing.
        (["The house", "The dog", "The page"], 120),
    ],
)
def test_the_shared_prefix_is_what_training_shares_in_every_batch(tied_model, tmp_path, sources, max_tokens):
    """By the function that training calls on its batches, over all batches of two examples and one of all."""
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"en": s, "ca": f"frase {n}"}) + "\n" for n, s in enumerate(sources)))
    source = TextSource(path=str(file))
    content = inspect_text(source, tied_model, template="{source}", max_tokens=max_tokens, clean=False).content
    corpus = read_corpus(file, source_language="en", target_language="ca")
    examples = encode(AutoTokenizer.from_pretrained(tied_model), corpus, template="{source}", max_tokens=max_tokens)[0]
    batches = [list(pair) for pair in itertools.combinations(examples, 2)] + [examples]
    shared = [shared_length(**collate([example.features() for example in batch])) for batch in batches]
    assert content["shared_prefix"] == min(shared)


def test_what_is_as_in_the_first_example_is_left_out(tied_model, tmp_path, capfd):
    """The shown examples share more than all examples do."""
    file = tmp_path / "a.tsv"
    rows = [f"{ASK}the house\tLa casa", f"{ASK}the dog\tEl gos", "Other words that are not the same\tUna frase"]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    arguments = (file, "--model", tied_model, "--template", "{source}", "--no-clean", "--examples", 2)
    first, second = ([t["id"] for t in e["tokens"]] for e in as_json(capfd, *arguments)["examples"])
    same = next(place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    assert f"0-{same - 1}" in inspect(capfd, *arguments)


def test_the_call_takes_what_the_command_takes(tied_model, text_file, capfd):
    wanted = as_json(capfd, text_file, "--model", tied_model, "--examples", 1)
    corpus = read_corpus(text_file, source_language="en", target_language="ca")
    for text in (text_file, str(text_file), TextSource(path=str(text_file)), corpus):
        for model in (tied_model, str(tied_model), open_checkpoint(str(tied_model))):
            assert inspect_text(text, model, examples=1).as_dict() == wanted


def test_the_vocabulary_is_that_of_the_checkpoint(tied_model, text_file, capfd):
    found = as_json(capfd, text_file, "--model", tied_model, "--examples", 0)
    assert found["model"] == {
        "name": str(tied_model),
        "vocabulary": open_checkpoint(str(tied_model)).vocabulary,
        "context": 512,
    }
    assert found["examples"] == []
