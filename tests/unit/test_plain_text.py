"""Text of one language: how it is read, what the loss is taken on (against transformers), and what refuses it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ks_lottery import TextSource, UserError, evaluate, inspect, keep_useful, read_corpus, split, tune
from ks_lottery.corpus.batches import NO_LABEL, encode
from ks_lottery.corpus.monolingual import read_sentences
from ks_lottery.evaluation.general_text import general_sentences

LINES = [f"La casa és vella i freda número {n}" for n in range(40)]


def plain(path, lines=LINES):
    path.write_text("\n".join([*lines, "", "   "]), encoding="utf-8")
    return read_corpus(path, source_language="en", target_language="ca", format="plain")


def test_each_line_is_a_text(tmp_path):
    corpus = plain(tmp_path / "a.txt", ["  Una casa\u00a0 vella. ", "Amb una\ttabulació", "I \u2028 més"])
    assert [(p.source, p.target, p.instruction) for p in corpus] == [
        ("", text, "") for text in ("Una casa\u00a0 vella.", "Amb una\ttabulació", "I \u2028 més")
    ]
    assert corpus.monolingual
    assert (corpus.source_language, corpus.target_language, corpus.unit) == ("ca", "ca", "texts")
    assert "3 texts, ca" in repr(corpus)


@pytest.mark.parametrize("key", ["text", "body"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "folder"])
def test_each_object_is_a_text_of_any_number_of_lines(tmp_path, kind, key):
    texts = ["Una línia.\n\nUna altra.", "Dues."]
    records = [{key: text, "more": 3} for text in texts] + [{key: None}, {key: " "}]
    path = tmp_path / ("data" if kind == "folder" else f"a.{kind}")
    if kind == "folder":
        path.mkdir()
    file = path / "train.jsonl" if kind == "folder" else path
    file.write_text(json.dumps(records) if kind == "json" else "\n".join(map(json.dumps, records)), encoding="utf-8")
    column = None if key == "text" else key
    corpus = read_corpus(path, source_language="en", target_language="ca", format="plain", target_column=column)
    assert [pair.target for pair in corpus] == texts
    assert corpus.left_out == {"empty": 2}
    again = read_corpus(corpus.save(tmp_path / "b.jsonl"), source_language="en", target_language="ca", format="plain")
    assert again == corpus
    assert again.fingerprint == corpus.fingerprint


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"target": "a.txt"}, "is read as plain, text of one language: leave `target` and `source_column` out"),
        ({"source_column": "a"}, "is read as plain, text of one language: leave `target` and `source_column` out"),
        ({"target_column": "a"}, "is read as plain, a text a line: leave `target_column` out"),
    ],
)
def test_what_such_a_text_has_not_is_refused(tmp_path, more, message):
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(UserError, match=message):
        read_corpus(
            tmp_path / "a.txt", source_language="en", target_language="ca", format="plain",
            **{name: tmp_path / value if name == "target" else value for name, value in more.items()},
        )  # fmt: skip


def test_a_record_without_the_text_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n')
    with pytest.raises(UserError, match="record 2 has no 'text'; it has body: name the text with `target_column`"):
        read_corpus(tmp_path / "a.jsonl", source_language="en", target_language="ca", format="plain")


def test_an_instruction_is_refused(tmp_path):
    plain(tmp_path / "a.txt")
    with pytest.raises(UserError, match="is plain text, which is shown without a prompt: leave `instruction` out"):
        read_sentences(TextSource(path=str(tmp_path / "a.txt"), format="plain", instruction="Write."))


def test_only_texts_that_had_occurred_are_dropped(tmp_path):
    texts = ["Curt", "curt ", "A https://example.org <b>100</b> %d", "Una casa"]
    kept, report = keep_useful(plain(tmp_path / "a.txt", texts))
    assert [pair.target for pair in kept] == ["Curt", texts[2], "Una casa"]
    assert report.sentence() == "3 of 4 texts kept; dropped 1 that had already occurred"


def test_texts_are_split_by_themselves(tmp_path):
    parts = split(plain(tmp_path / "a.txt", [f"Text {n}" for n in range(400)]))
    assert [len(part) for part in (parts.calibration, parts.test)] == pytest.approx([60, 60], abs=25)
    assert parts.train.monolingual


def test_forgetting_and_counts_take_the_texts(tmp_path):
    corpus = plain(tmp_path / "a.txt")
    source = TextSource(path=str(tmp_path / "a.txt"), format="plain")
    assert general_sentences(corpus) == read_sentences(source) == read_sentences(source, side="source") == LINES


@pytest.mark.parametrize("adds", [False, True])
def test_every_token_but_the_first_is_predicted_and_the_end(tmp_path, tied_model, adds):
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    if adds:
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    (example, *_), kept = encode(tokenizer, plain(tmp_path / "a.txt"), template="labels", spans=True)
    ids = tokenizer(LINES[0], add_special_tokens=False)["input_ids"]
    assert example.sequence == [*([1] if adds else []), *ids, 2]
    assert example.features()["labels"] == example.sequence[1:]
    assert NO_LABEL not in example.features()["labels"]
    assert not any(example.in_source)
    assert kept == list(range(len(LINES)))


def test_the_loss_is_that_of_transformers_on_the_whole_text(tmp_path, tied_model):
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    model = AutoModelForCausalLM.from_pretrained(tied_model, dtype=torch.float32)
    total = count = 0
    for line in LINES:
        ids = torch.tensor([[*tokenizer(line)["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    measured = evaluate(tied_model, plain(tmp_path / "a.txt"), metrics=("accuracy",), dtype="float32", resamples=0)
    assert measured.next_token["positions"] == count
    assert measured.next_token["loss"] == pytest.approx(total / count, rel=1e-5)


def test_tuning_on_texts_lowers_their_loss(tmp_path, tied_model):
    corpus = plain(tmp_path / "a.txt")
    patch = tune(tied_model, corpus, epochs=2, learning_rate=0.03, dtype="float32")
    more = {"metrics": ("accuracy",), "dtype": "float32", "resamples": 0}
    before, after = (evaluate(tied_model, corpus, product, **more).next_token["loss"] for product in (None, patch))
    assert after < before - 0.5


def test_a_translation_or_a_prompt_of_such_a_text_is_refused(tmp_path, tied_model):
    corpus = plain(tmp_path / "a.txt")
    with pytest.raises(UserError, match="from which nothing is translated: give `metrics` accuracy alone"):
        evaluate(tied_model, corpus)
    with pytest.raises(UserError, match="has examples without a source"):
        tune(tied_model, corpus, method="token-prompt")


def test_an_inspection_shows_the_text_without_a_prompt(tmp_path, tied_model):
    content = inspect(plain(tmp_path / "a.txt"), tied_model, examples=1).as_dict()
    tokens = content["examples"][0]["tokens"]
    assert [token["loss"] for token in tokens] == [False, *[True] * (len(tokens) - 1)]
    assert content["examples"][0]["prompt"] == ""
    assert list(content["tokens_per_word"]) == ["target"]
