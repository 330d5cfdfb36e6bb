"""The template mixed: which sentence gets which template, and what follows for tokens, spans and training."""

from __future__ import annotations

import hashlib
import json
import random
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from ks_lottery import Corpus, Tickets, UserError, open_checkpoint, read_corpus, split, tune
from ks_lottery.config.choices import MIX
from ks_lottery.corpus.batches import collate, encode, span_occurrences
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.mixed_templates import is_mixed, mixed_place, mixed_templates, resolved_template
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import LANGUAGES, TEMPLATES, instruction, orders
from ks_lottery.corpus.selection import hold_out
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model
from ks_lottery.models.prefix import common_length, shared_length
from ks_lottery.tickets.selectors import Basis
from ks_lottery.tickets.text_selectors import TEXT_SELECTORS
from ks_lottery.tuning.tune import TuneSpec, prepare

OWN = ["alpaca-stanford", "plain", "{token:300}{source}{token:301}\n", "{source}, or: {source} =>", "request"]
"""Tokenized as one text, apart, with tokens by their ids, and with the source twice."""


@pytest.fixture(scope="module")
def loaded(tied_model):
    return load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def corpus(text_file):
    return read_corpus(str(text_file), source_language="en", target_language="ca")


def many(count: int) -> Corpus:
    return Corpus(tuple(Pair(f"The house has number {n}", f"Casa {n}") for n in range(count)), "en", "ca", "many")


def place_by_definition(source: str, count: int) -> int:
    """The definition in docs/tune.md, written out."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", source).casefold())
    digest = hashlib.sha256(f"template {''.join(folded.split())}".encode()).digest()
    return int.from_bytes(digest[:7], "big") * count // 2**56


def listed(*templates: str) -> str:
    return f"mixed:{json.dumps(templates)}"


def test_the_shipped_templates_differ_in_words_and_layout_and_one_is_held_out():
    texts = [TEMPLATES[name] for name in MIX]
    assert len(MIX) >= 4
    assert mixed_templates("mixed") == MIX
    assert "request" not in MIX
    assert "request" in TEMPLATES
    layouts = [text.split("{source}") for text in texts]
    assert len({before for before, _ in layouts}) == len({after for _, after in layouts}) == len(MIX)
    named = [name for name in [*MIX, "request"] if any(place in TEMPLATES[name] for place in LANGUAGES)]
    assert len(named) == len(MIX) - 1


def test_the_template_of_a_sentence_depends_on_the_sentence_alone(loaded, corpus):
    tokenizer = loaded.tokenizer
    whole = dict(zip((p.source for p in corpus), encode(tokenizer, corpus, template="mixed")[0], strict=True))
    pairs = list(corpus.pairs)
    random.Random(1).shuffle(pairs)
    part = replace(corpus, pairs=tuple(pairs[:31]), origin="elsewhere")
    for pair, example in zip(part, encode(tokenizer, part, template="mixed")[0], strict=True):
        assert example == whole[pair.source]
    told = replace(part, pairs=tuple(replace(p, target="Res", document="d") for p in part))
    prompts = [e.prompt for e in encode(tokenizer, told, template="mixed")[0]]
    assert prompts == [whole[p.source].prompt for p in part]
    for count in (2, 5, 7):
        for pair in pairs:
            assert mixed_place(pair.source, count) == place_by_definition(pair.source, count)
            assert mixed_place(f"  {pair.source.upper()}\t", count) == mixed_place(pair.source, count)


@pytest.mark.parametrize("count", [2, 4, 5])
def test_shares_are_about_equal_in_the_whole_and_in_each_part_of_a_split(count):
    """Every count within the binomial's bounds at 1e-9; the hash of the split would leave templates without a sentence."""
    corpus = many(6000)
    parted = split(corpus)
    held = hold_out(corpus, 0.2)
    for part in (corpus, parted.train, parted.calibration, parted.test, split(corpus, seed=3).train, *held):
        counts = Counter(mixed_place(pair.source, count) for pair in part)
        low, high = binom.interval(1 - 1e-9, len(part), 1 / count)
        assert sorted(counts) == list(range(count))
        assert all(low <= found <= high for found in counts.values())


@pytest.mark.parametrize("template", ["mixed", listed(*OWN)])
@pytest.mark.parametrize("max_tokens", [512, 100])
def test_a_mix_encodes_each_part_as_its_template_alone_does(loaded, corpus, template, max_tokens):
    """Brute force: each sentence alone in a corpus, with the template that the definition gives it."""
    told = replace(corpus, pairs=tuple(replace(p, instruction="Do it.") if n % 3 else p for n, p in enumerate(corpus)))
    templates = mixed_templates(template)
    settings = {"max_tokens": max_tokens, "rows": loaded.checkpoint.vocabulary, "spans": True}
    found, kept = encode(loaded.tokenizer, told, template=template, **settings)
    wanted, places = [], []
    for number, pair in enumerate(told):
        own = templates[place_by_definition(pair.source, len(templates))]
        one = encode(loaded.tokenizer, replace(told, pairs=(pair,)), template=own, **settings)[0]
        wanted += one
        places += [number] * len(one)
    assert (found, kept) == (wanted, places)
    assert [e.in_source for e in found] == [e.in_source for e in wanted]
    assert all(e.in_source is not None and any(e.in_source) for e in found)
    used = Counter(place_by_definition(told.pairs[n].source, len(templates)) for n in kept)
    assert len(used) >= 3  # with 100 tokens the long ones are left out
    form = PromptForm(loaded.tokenizer, template, ("en", "ca"))
    sources = [told.pairs[n].source for n in kept]
    assert form.prompts([orders(told)[n] for n in kept], sources) == [e.prompt for e in found]
    assert form.prompts([], []) == form.pairs([], [], []) == []


def test_origins_count_the_rows_of_every_template_that_is_used(loaded, corpus):
    """By the parts of each template, which line breaks keep apart for this tokenizer."""
    few = corpus.head(24)

    def tokens(text):
        return loaded.tokenizer(text, add_special_tokens=False)["input_ids"]

    mix = ["plain", "labels", "{instruction}\n\n{source}\n\nIn {target_language}:\n"]
    wanted = {name: Counter() for name in ("instruction", "source", "target")}
    for pair in few:
        text = mix[place_by_definition(pair.source, 3)]
        text = TEMPLATES.get(text, text).replace("{instruction}", instruction("en", "ca"))
        text = text.replace("{source_language}", "English").replace("{target_language}", "Catalan")
        before, after = text.split("{source}")
        wanted["instruction"].update([*tokens(before), *tokens(after)])
        wanted["source"].update(tokens(pair.source))
        wanted["target"].update([*tokens(pair.target), loaded.tokenizer.eos_token_id])
    examples = encode(loaded.tokenizer, few, template=listed(*mix), spans=True)[0]
    assert span_occurrences(examples) == wanted
    tuning = prepare(loaded, few, TuneSpec(method="embed", template=listed(*mix)))
    counts = tuning.span_counts
    assert counts is not None
    every = sorted(set().union(*wanted.values()))
    assert counts.ids.tolist() == every
    for name, times in wanted.items():
        assert counts.counts[name].tolist() == [times[token] for token in every]
    size = len(wanted["instruction"])
    basis = Basis(vocabulary=384, size=size, examples=lambda: examples, reachable=lambda: np.arange(384))
    assert set(TEXT_SELECTORS["template"](basis).rows.tolist()) == set(wanted["instruction"])
    single = {t for name in mix for e in encode(loaded.tokenizer, few, template=name)[0] for t in e.prompt}
    assert size <= len(single)


def test_prefix_sharing_changes_nothing_where_prompts_begin_differently(loaded, corpus):
    """Losses and gradients, with batches that share nothing, a little, and the whole of a template."""
    examples = encode(loaded.tokenizer, corpus.head(40), template="mixed")[0]
    alike = [e for e, p in zip(examples, corpus, strict=False) if place_by_definition(p.source, len(MIX)) == 0]
    shared = []
    weight = loaded.lm.get_input_embeddings().weight
    for batch in (examples[:6], examples[6:12], alike[:4], examples[:1]):
        inputs = collate([e.features() for e in batch])
        shared.append(shared_length(inputs["input_ids"], inputs["attention_mask"], inputs["labels"]))
        results = []
        for share in (True, False):
            weight.requires_grad_(True)
            loss = LabelledLanguageModel(loaded.lm, share_prefix=share)(**inputs)["loss"]
            loss.backward()
            results.append((float(loss.detach()), weight.grad.clone()))
            weight.grad = None
            weight.requires_grad_(False)
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
        assert (results[0][1] - results[1][1]).abs().max() < 1e-5 * (1 + results[1][1].abs().max())
    assert shared[0] == 0
    assert shared[2] > 0
    assert common_length([e.prompt for e in examples]) == 0


def test_training_on_a_mix_is_the_same_without_prefix_sharing(loaded, corpus):
    settings = {"method": "embed", "template": "mixed", "epochs": 1, "learning_rate": 0.01, "batch_size": 4}
    on, off = (tune(loaded, corpus.head(24), share_prefix=share, **settings) for share in (True, False))
    assert on.ids.tolist() == off.ids.tolist()
    moved = (off.values - loaded.checkpoint.rows(off.ids)).abs().max()
    assert (on.values - off.values).abs().max() < 0.01 * moved
    assert tune(loaded, corpus.head(24), share_prefix=True, **settings).content == on.content


def test_a_patch_records_the_texts_and_a_file_counts_by_its_content(loaded, corpus, tmp_path):
    few, file = corpus.head(8), tmp_path / "mine.json"
    settings = {"method": "partial", "tickets": Tickets(np.array([5, 6]), {"selector": "mine"}), "epochs": 1}
    file.write_text('["plain", "Catalan for {source}:"]', encoding="utf-8")
    from_file = tune(loaded, few, template=f"mixed:{file}", **settings)
    assert from_file.settings["template"] == listed("plain", "Catalan for {source}:")
    assert from_file.settings["templates"] == [TEMPLATES["plain"], "Catalan for {source}:"]
    assert tune(loaded, few, template="mixed", **settings).settings["templates"] == [TEMPLATES[name] for name in MIX]
    first = prepare(loaded, few, TuneSpec(template=f"mixed:{file}")).manifest
    (tmp_path / "same.json").write_text('[\n"plain",\n "Catalan for {source}:"]\n', encoding="utf-8")
    assert prepare(loaded, few, TuneSpec(template=f"mixed:{tmp_path / 'same.json'}")).manifest == first
    file.write_text('["plain", "Catalan of {source}:"]', encoding="utf-8")
    assert prepare(loaded, few, TuneSpec(template=f"mixed:{file}")).manifest["settings"] != first["settings"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "is JSON, but not a list"),
        ("[", "is not valid JSON"),
        ("[]", "has 0 of the 2 or more templates"),
        ('["plain"]', "has 1 of the 2 or more templates"),
        ('["plain", "no place"]', "template 2 is 'no place', but must be a text that contains {source}"),
        ('["plain", 3]', "template 2 is 3, but must be"),
        ('["plain", ["{source}"]]', r"template 2 is ['{source}'], but must be"),
        ('["plain", "chat"]', "template 2 is 'chat', which cannot be part of a mix"),
        ('["mixed", "plain"]', "template 1 is 'mixed', which cannot be part of a mix"),
        ('["mixed:[\\"{source}\\"]", "plain"]', "which cannot be part of a mix"),
        ('["{source}", "plain", "{source}"]', "template 3 occurs twice"),
        ('["plain", "\\ud800{source}"]', "template 2 is not UTF-8 text"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "does not exist"),
        (Path, "is a folder"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(loaded, corpus, tmp_path, content, problem):
    file = tmp_path / "mine.json"
    if content is Path:
        file.mkdir()
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for call in (
        lambda: resolved_template(f"mixed:{file}"),
        lambda: encode(loaded.tokenizer, corpus, template=f"mixed:{file}"),
        lambda: prepare(loaded, corpus, TuneSpec(template=f"mixed:{file}")),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert problem in str(caught.value)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    if isinstance(content, str) and content.startswith("["):
        with pytest.raises(UserError, match="the list of `template`"):
            resolved_template(f"mixed:{content}")


def test_a_text_of_one_s_own_may_begin_with_the_word(loaded):
    assert not is_mixed("mixed: {source}")
    assert PromptForm(loaded.tokenizer, "mixed: {source}").render("", "a") == "mixed: a"
    with pytest.raises(UserError, match="there is no file"):
        resolved_template("mixed:")
    with pytest.raises(UserError, match=r"\{token:384\} is token 384"):
        encode(loaded.tokenizer, many(2), template=listed("plain", "{token:384}{source}"), rows=384)
    with pytest.raises(UserError, match="names the languages of the text"):
        PromptForm(loaded.tokenizer, "labels").render("", "a")


def test_a_token_prompt_has_one_template(loaded, corpus):
    with pytest.raises(UserError, match="`template` is a mix of several: name one of them, such as alpaca"):
        prepare(loaded, corpus, TuneSpec(method="token-prompt", template="mixed"))
