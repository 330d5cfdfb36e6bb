"""New tokens from the command line to every use of them, what is refused, and which pieces of a text cost most."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from torch import nn
from transformers import AutoTokenizer

import ks_lottery
from ks_lottery import Corpus, RowPatch, Tickets, UserError, load_model, open_checkpoint, read_corpus, tune
from ks_lottery.checkpoint.added_tokens import added_tokens
from ks_lottery.cli.main import main
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.costly_pieces import costly_pieces
from ks_lottery.evaluation.general_text import general_text
from ks_lottery.models.head import RowHead, float32_logits
from ks_lottery.models.load import load_tokenizer
from ks_lottery.models.new_tokens import extended, with_new_tokens
from ks_lottery.models.opened_model import open_models
from ks_lottery.models.rows import RowEmbedding
from ks_lottery.recipes.translation import translate_sentences
from ks_lottery.tuning.token_rows import read_tokens
from ks_lottery.tuning.transfer import transfer
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec

TEMPLATE = "<a>{source}<b>"


@pytest.fixture(scope="module")
def corpus(text_file):
    return read_corpus(text_file, source_language="en", target_language="ca").head(12)


@pytest.fixture(scope="module")
def loaded(tied_model):
    return load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def patch(loaded, corpus):
    return tune(
        loaded, corpus, method="new-tokens", tokens=["<a>", "<b>"], template=TEMPLATE, epochs=4, learning_rate=0.1
    )


def test_the_command_tunes_evaluates_translates_and_exports(tied_model, text_file, tmp_path, capfd):
    (tmp_path / "tokens.txt").write_text("<a>\n<b>\n", encoding="utf-8")
    words = [
        "tune", str(tied_model), "--method", "new-tokens", "--tokens", str(tmp_path / "tokens.txt"), "--template", TEMPLATE,
        "--train", str(text_file), "--limit", "12", "--no-clean", "--out", str(tmp_path / "new"), "--dtype", "float32",
        "--device", "cpu", "--epochs", "4", "--learning-rate", "0.1",
    ]  # fmt: skip
    assert main(words) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "2 new tokens, in new rows: the matrix grows from 384 to 386 rows" in said
    assert "new tokens: '<a>', '<b>'; their rows start from the mean of all rows" in said
    patch = RowPatch.open(tmp_path / "new")
    corpus = read_corpus(text_file, source_language="en", target_language="ca").head(12)
    one = tune(
        str(tied_model), corpus, method="new-tokens", tokens="<a>,<b>", template=TEMPLATE, epochs=4, learning_rate=0.1,
        dtype="float32", device="cpu",
    )  # fmt: skip
    assert patch == one  # command and library are one path
    assert (tmp_path / "new" / "patch.safetensors").stat().st_size < 4_000
    assert len(AutoTokenizer.from_pretrained(tmp_path / "new" / "tokenizer")) == 386
    assert main(words) == 0
    assert "nothing to do" in capfd.readouterr().out
    more = ["--data", str(text_file), "--limit", "4", "--metrics", "accuracy", "--json", "--no-clean"]
    assert main(["evaluate", str(tied_model), "--patch", str(tmp_path / "new"), "--template", TEMPLATE,
                 "--out", str(tmp_path / "scores"), *more]) == 0  # fmt: skip
    assert json.loads(capfd.readouterr().out)["sentences"] == 4
    assert main(["translate", str(tmp_path / "new"), "The house is old", "--max-new-tokens", "4"]) == 0
    translated = capfd.readouterr().out.rstrip("\n")
    assert main(["export", str(tmp_path / "new"), "--to", "merged", "--out", str(tmp_path / "merged"), "--check"]) == 0
    assert "the matrix grows from 384 to 386 rows" in (tmp_path / "merged" / "README.md").read_text()
    capfd.readouterr()
    assert main(["translate", str(tmp_path / "merged"), "The house is old", "--max-new-tokens", "4"]) == 0
    assert capfd.readouterr().out.rstrip("\n") == translated


def test_the_loss_of_the_training_falls_and_the_original_is_asked_without_the_tokens(loaded, corpus, patch, tmp_path):
    result = prepare(loaded, corpus, TuneSpec(method="new-tokens", tokens="<a>,<b>", template=TEMPLATE,
                     settings={"epochs": 4, "learning_rate": 0.1})).run()  # fmt: skip
    assert result.fixed.after < result.fixed.before
    patch.save(tmp_path / "patch")
    answers = translate_sentences(tmp_path / "patch", ["A dog <a>"], compare=True, max_new_tokens=3, dtype="float32")
    plain = translate_sentences(
        loaded.checkpoint.folder, ["A dog <a>"], template=TEMPLATE, source_language="en", target_language="ca",
        max_new_tokens=3, dtype="float32",
    )  # fmt: skip
    assert answers[0].original == plain[0].small


@pytest.mark.parametrize(
    ("tokens", "more", "message"),
    [
        ("<s>", {}, "'<s>' is token 1 of the tokenizer already"),
        ("<a>,<s>,</s>", {}, "'<s>' is token 1 of the tokenizer already, and 1 more are"),
        ("<a>,<a>", {}, "`tokens` holds '<a>' twice"),
        (["\ud800"], {}, "which is not UTF-8 text"),
        ("", {}, "`tokens` holds no token"),
        ("<a>,,<b>", {}, "`tokens` holds an empty token"),
        ([], {}, "`tokens` holds no token"),
        ("nowhere.txt", {}, r"there is no file nowhere\.txt"),
        ("auto", {}, "new-tokens tuning needs `tokens`, or `count`"),
        ("<a>", {"count": 3}, "`count` is how many pieces `tokens=auto` finds"),
        ("<a>", {"init": "nothing"}, "`init` is 'nothing', but must be one of auto, mean, subwords, description"),
        ("<a>", {"init": "description"}, "'<a>' has no description"),
        ("<a>", {"init": "description", "description": "  "}, "'<a>' has no description"),
        ("<a>", {"description": "a mark"}, "a description is what `init=description` starts from"),
        ("<a>", {"tickets": Tickets(rows=np.array([3]), rule={})}, "give further rows as `also_rows`"),
        (
            "<a>",
            {"method": "embed"},
            "`tokens` is for token-prompt, prompt, prefix and new-tokens tuning, not for embed",
        ),
        ("auto", {"method": "partial", "count": 3}, "`count` is for new-tokens tuning, not for partial"),
        ("auto", {"method": "partial", "init": "mean"}, "`init` is for new-tokens tuning, not for partial"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(loaded, corpus, tokens, more, message):
    with pytest.raises(UserError, match=message):
        tune(loaded, corpus, **{"method": "new-tokens", "tokens": tokens, **more})
    assert loaded.checkpoint.vocabulary == 384


def test_the_command_ends_with_exit_code_2(tied_model, text_file, tmp_path, capfd):
    words = [
        "tune",
        str(tied_model),
        "--method",
        "new-tokens",
        "--train",
        str(text_file),
        "--out",
        str(tmp_path / "out"),
    ]
    for tokens, message in (("<s>", "--tokens: '<s>' is token 1"), ("<a>,<a>", "--tokens holds '<a>' twice")):
        assert main([*words, "--tokens", tokens]) == 2
        assert message in capfd.readouterr().err
    (tmp_path / "empty.txt").write_text("\n\n")
    assert main([*words, "--tokens", str(tmp_path / "empty.txt")]) == 2
    assert "empty.txt holds no token: give one a line" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_examples_and_a_damaged_patch_are_refused(loaded, corpus, patch, tmp_path):
    from ks_lottery.corpus.batches import encode

    with pytest.raises(UserError, match="new-tokens tuning splits the text into tokens itself"):
        tune(loaded, encode(loaded.tokenizer, corpus)[0], method="new-tokens", tokens="<a>")
    for wrong in ({}, {"texts": ["<a>"], "ids": [1, 2], "base_rows": 3}, {"texts": ["", ""], "ids": [1, 2], "base_rows": 3},
                  {"texts": ["a", "b"], "ids": [2, 1], "base_rows": 3}, {"texts": 3, "ids": [1], "base_rows": 3},
                  {"texts": ["a"], "ids": ["1"], "base_rows": 3}, {"texts": ["a"], "ids": [10**12], "base_rows": 3},
                  [1], "x"):  # fmt: skip
        with pytest.raises(UserError, match="the new tokens of the patch are damaged"):
            added_tokens({"new_tokens": wrong})


def test_a_base_with_another_tokenizer_is_refused(loaded, patch):
    other = load_tokenizer(loaded.checkpoint)
    other.add_tokens(["<z>"])
    changed = ks_lottery.LoadedModel(loaded.checkpoint, loaded.lm, other)
    with pytest.raises(UserError, match="is not the one that the patch was made with: it gives '<a>' the id 385"):
        with_new_tokens(changed, patch)


def test_a_model_in_memory_has_the_tokens_while_it_is_asked(loaded, corpus, tmp_path):
    model = ks_lottery.from_memory(loaded.lm, loaded.tokenizer, name="mine")
    patch = tune(model, corpus, method="new-tokens", tokens="<a>,<b>", template=TEMPLATE, side="both", epochs=1)
    assert ks_lottery.evaluate(model, corpus, product=patch, metrics=["accuracy"], template=TEMPLATE).sentences == 12
    ks_lottery.to_merged(model, patch, tmp_path / "merged")
    assert load_model(str(tmp_path / "merged")).tokenizer.convert_tokens_to_ids("<b>") == 385
    assert len(model.tokenizer) == model.checkpoint.vocabulary == 384


def test_transfer_knows_the_rows(loaded, patch):
    rule = Tickets(rows=np.array([385]), rule={"selector": "tickets"})
    small = transfer(loaded.checkpoint, patch, rule)
    assert small.ids.tolist() == [385]
    assert small.added == patch.added
    assert torch.equal(small.values, patch.values[1:])


def test_what_compares_with_the_original_model_is_refused(loaded, corpus, patch):
    with pytest.raises(UserError, match="adds 2 tokens to the vocabulary, whose rows the base does not have"):
        ks_lottery.scan(loaded.checkpoint, patch)
    with pytest.raises(UserError, match="adds 2 tokens to the vocabulary, which the original model cannot read"):
        ks_lottery.where(loaded, corpus, patch=patch, template=TEMPLATE)
    with pytest.raises(UserError, match="adds 2 tokens to the vocabulary, and certify compares models that share one"):
        ks_lottery.certify(loaded, patch, None, corpus)
    longer = with_new_tokens(loaded, patch)
    assert len(general_text(longer, ["A dog eats", "The house"]).examples) == 2
    with pytest.raises(UserError, match="holds tokens that the patch adds, and the original model"):
        general_text(longer, ["A dog <b> eats"])


def test_agree_opens_a_patch_with_its_tokens(loaded, patch, tied_model, tmp_path):
    patch.save(tmp_path / "patch")
    base, tuned = open_models([str(tied_model), str(tmp_path / "patch")])
    assert (len(base.tokenizer), len(tuned.tokenizer)) == (384, 386)
    assert tuned.checkpoint.fingerprint == base.checkpoint.fingerprint
    assert tuned.checkpoint.vocabulary == 386


def test_a_part_of_the_rows_leaves_the_mean_of_the_base_in_the_others(loaded, patch):
    """Partial transfer of a patch with new tokens."""
    from ks_lottery.models.sides import installed_patch

    part = patch.restrict(np.array([385]))
    ids = torch.tensor([[384, 5, 385]])
    mean = loaded.lm.get_input_embeddings().weight.mean(dim=0)
    with installed_patch(loaded.lm, part):
        embedded = loaded.lm.get_input_embeddings()(ids)[0]
    torch.testing.assert_close(embedded[0], mean)
    torch.testing.assert_close(embedded[1], loaded.lm.get_input_embeddings().weight[5])
    torch.testing.assert_close(embedded[2], patch.values[1])


@pytest.mark.parametrize(("init", "said"), [("mean", "mean of all rows"), ("subwords", "texts were before"),
                                            ("description", "rows of their descriptions")])  # fmt: skip
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_row_starts_from_what_init_says(loaded, untied_model, corpus, init, said, side, tmp_path):
    loaded = load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")
    (tmp_path / "t.txt").write_text("<a>\tThe house\n<b>\tA dog\n" if init == "description" else "<a>\n<b>\n")
    spec = TuneSpec(method="new-tokens", tokens=str(tmp_path / "t.txt"), template=TEMPLATE, side=side, init=init)
    tuning = prepare(loaded, corpus, spec)
    assert any(said in sentence for sentence in tuning.sections()[0].sentences)
    matrix = (loaded.lm.get_input_embeddings() if side == "input" else loaded.lm.get_output_embeddings()).weight
    texts = {"subwords": ["<a>", "<b>"], "description": ["The house", "A dog"]}.get(init, [])
    wanted = [matrix[loaded.tokenizer(text).input_ids].mean(dim=0) for text in texts] or [matrix.mean(dim=0)] * 2
    with tuning.trainable() as trainable:
        torch.testing.assert_close(trainable.collect().values, torch.stack(wanted))


def test_tokens_that_cannot_be_trained_are_named(loaded):
    corpus = Corpus((Pair("The house", "La casa<c>"), Pair("A dog", "Un gos")), "en", "ca", "text")
    spec = TuneSpec(method="new-tokens", tokens="<a>,<c>,<d>", template="<a>{source}\n")
    said = " ".join(prepare(loaded, corpus, spec).sections()[0].sentences)
    assert "1 of the new tokens do not occur in the examples" in said
    assert (
        "1 of the new tokens occur in what the model is to write, and side input trains no row to write them by" in said
    )


def test_read_tokens_takes_a_file_a_list_or_texts(tmp_path):
    file = tmp_path / "tokens.tsv"
    file.write_text(" casa\n<b>\tbold text \n\n", encoding="utf-8")
    assert read_tokens(str(file)) == [(" casa", ""), ("<b>", "bold text")]
    assert read_tokens('["a,b", " c"]') == [("a,b", ""), (" c", "")]
    assert read_tokens("<a>, <b>") == [("<a>", ""), ("<b>", "")]
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_tokens(str(file))
    for wrong in ("[1]", "[", '{"a": 1}x['):
        if wrong.startswith("["):
            with pytest.raises(UserError, match="`tokens` is"):
                read_tokens(wrong)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_grown_head_and_embedding_are_those_of_longer_matrices(bias, kind):
    """Against the matrices written out, with a row that is not replaced."""
    torch.manual_seed(0)
    frozen, table = nn.Linear(8, 20, bias=bias, dtype=kind), nn.Embedding(20, 8, dtype=kind)
    ids, values = np.array([3, 21, 22]), torch.randn(3, 8)
    hidden, tokens = torch.randn(2, 5, 8, dtype=kind), torch.tensor([[0, 3, 20, 21, 22, 19]])
    with torch.no_grad():

        def longer(weight):
            return torch.cat([weight.float(), weight.float().mean(dim=0).expand(3, *weight.shape[1:])]).to(kind)

        matrix, rows = longer(frozen.weight), longer(table.weight)
        matrix[ids], rows[ids] = values.to(kind), values.to(kind)
        offset = longer(frozen.bias) if bias else None
        head, embedding = RowHead(frozen, ids, values, 23), RowEmbedding(table, ids, values, 23)
        close = {"atol": 1e-6, "rtol": 1e-5} if kind == torch.float32 else {"atol": 0.03, "rtol": 0.03}
        torch.testing.assert_close(head(hidden), nn.functional.linear(hidden, matrix, offset), **close)
        exact = nn.functional.linear(hidden.float(), matrix.float(), None if offset is None else offset.float())
        torch.testing.assert_close(float32_logits(head, hidden), exact, **close)
        torch.testing.assert_close(embedding(tokens), rows[tokens])
        every = RowHead(frozen, np.arange(23), matrix.float(), 23)
        torch.testing.assert_close(every(hidden), nn.functional.linear(hidden, matrix, offset), **close)


def brute_force(texts, count, tokenizer):
    """Each round tries every word as a token, and counts the tokens of the whole text with it."""
    import re

    chosen, words = [], sorted({word for text in texts for word in re.findall(r" [^\W\d_]+", text)})

    def total(pieces):
        longer = extended(tokenizer, pieces)[0] if pieces else tokenizer
        return sum(map(len, longer(list(texts)).input_ids))

    for _ in range(count):
        now = total(chosen)
        saved = {word: now - total([*chosen, word]) for word in words if word not in chosen}
        best = max(saved, key=lambda word: (saved[word], [-ord(letter) for letter in word]))
        if saved[best] <= 0:
            break
        chosen.append(best)
    return chosen


def test_the_costly_pieces_are_those_that_save_most_when_each_is_tried(loaded):
    """With words that begin other words, where a piece can cost more than it saves."""
    texts = [
        "el gat dorm i la gata dorm", "els gats i les gates dormen", "una gatera per als gats, a casa",
        "a casa hi ha casament", "zzzz casaments de gats",
    ]  # fmt: skip
    tokenizer = loaded.tokenizer

    def lengths(words):
        return [len(ids) for ids in tokenizer(list(words)).input_ids] if words else []

    pieces = costly_pieces(texts, 8, lengths)
    assert [piece.text for piece in pieces] == brute_force(texts, 8, tokenizer)
    names = sorted(piece.text for piece in pieces)
    assert any(word.startswith(begin) for begin, word in pairwise(names))
    longer = extended(tokenizer, [piece.text for piece in pieces])[0]
    before, after = (sum(map(len, one(texts).input_ids)) for one in (tokenizer, longer))
    assert before - after == sum(piece.saved for piece in pieces)
    assert len(costly_pieces(texts, 1000, lengths)) < 30


def test_auto_trains_the_pieces_from_the_mean_of_their_parts(loaded, corpus):
    spec = TuneSpec(method="new-tokens", count=3, side="both")
    tuning = prepare(loaded, corpus, spec)
    said = " ".join(tuning.sections()[0].sentences)
    assert "3 pieces of the training text that cost most: " in said
    added = tuning.new_tokens.added
    with tuning.trainable() as trainable:
        values = trainable.collect().values
    weight = loaded.lm.get_input_embeddings().weight
    for text, row in zip(added.texts, values, strict=True):
        torch.testing.assert_close(row, weight[loaded.tokenizer(text).input_ids].mean(dim=0))
    counts = Counter(token for example in tuning.examples for token in example.sequence)
    assert all(counts[token] for token in added.ids)
    patch = tune(loaded, corpus, method="new-tokens", count=3, side="both", epochs=1)
    assert patch.added == added
    with pytest.raises(UserError, match="has no word of more than one token: give `tokens` yourself"):
        tune(loaded, Corpus((Pair("1", "2"),), "en", "ca", "text"), method="new-tokens", count=3)


def test_a_token_keeps_its_spaces_and_wins_over_the_splitting_of_text(loaded):
    longer, ids = extended(loaded.tokenizer, [" gat", "<a>"])
    assert ids == [384, 385]
    parts = [loaded.tokenizer(text).input_ids for text in ("el", "era")]
    assert longer("el gat<a>era").input_ids == [*parts[0], 384, 385, *parts[1]]
    assert longer.decode([384, 385], skip_special_tokens=True) == " gat<a>"
    assert isinstance(longer.added_tokens_decoder[384], AddedToken)


def test_a_text_without_a_row_to_start_from_is_refused_and_not_given_the_mean(loaded, corpus):
    """A tokenizer can be longer than the embedding: what a description becomes then has no row."""
    longer = copy.deepcopy(loaded.tokenizer)
    longer.add_tokens(["zzz"])
    beyond = replace(loaded, tokenizer=longer)
    assert longer.convert_tokens_to_ids("zzz") >= loaded.checkpoint.vocabulary
    with pytest.raises(UserError, match="nothing that '<a>' would start from has a row .* give `init=mean`"):
        tune(beyond, corpus, method="new-tokens", tokens="<a>", init="description", description="zzz")
