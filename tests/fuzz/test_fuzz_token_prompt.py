"""Token prompts over tokenizers, templates and sentences of any kind: the exact tokens around the source, or one UserError."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from amount import examples
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from ks_lottery import Corpus, RowPatch, UserError
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.numbered_tokens import by_number, template_parts
from ks_lottery.models.unused_tokens import is_reserved, unused_tokens
from ks_lottery.tuning.token_prompt import token_prompt
from ks_lottery.tuning.tune_spec import TuneSpec

PIECES = (
    "{source}", "{instruction}", "{token:", "{token:7}", "{token:301}", "{token:99999999999}", "}", "<unused1>", "<s>", "a ",
    "\n", "é",
)  # fmt: skip
NAMES = (
    "<unused{}>", "<|reserved_{}|>", "[control_{}]", "<{{source}}unused{}>", "<unused {}>", "<unused_{{token:{}}}>", "<x{}>",
    "«unused{}»",
)  # fmt: skip
WORDS = st.text(st.sampled_from("ab <>unsed01{}\u0338é字\n\t"), max_size=12)


@cache
def vocabulary(kind):
    core = Tokenizer(models.BPE(unk_token="<unk>") if kind == "metaspace" else models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "prefix")
    core.decoder = decoders.ByteLevel()
    if kind == "metaspace":
        core.pre_tokenizer, core.decoder, alphabet = (
            pre_tokenizers.Metaspace(),
            decoders.Metaspace(),
            list("abunsed01 ▁<>"),
        )
        core.normalizer = normalizers.NFKC()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(["a house is old", "una casa és vella"], trainer)
    return core.to_str()


def tokenizer_of(kind, names, flags, *, begins, ends):
    core = Tokenizer.from_str(vocabulary(kind))
    if begins or ends:
        single = f"{'<s> ' if begins else ''}$A{' </s>' if ends else ''}"
        core.post_processor = TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    for name, (left, right, word, normalized, special) in zip(names, flags, strict=False):
        token = AddedToken(name, lstrip=left, rstrip=right, single_word=word, normalized=normalized, special=special)
        tokenizer.add_tokens([token], special_tokens=special)
    return tokenizer


@examples(200)
@given(st.data())
def test_a_prompt_has_exactly_its_tokens_around_the_source(data):
    kind = data.draw(st.sampled_from(("bytes", "prefix", "metaspace")))
    names = [data.draw(st.sampled_from(NAMES)).format(i) for i in range(data.draw(st.sampled_from((8, 5, 3, 0))))]
    flags = [data.draw(st.tuples(*[st.booleans()] * 5)) for _ in names]
    tokenizer = tokenizer_of(kind, names, flags, begins=data.draw(st.booleans()), ends=data.draw(st.booleans()))
    rows = len(tokenizer) + data.draw(st.integers(-4, 12))
    pairs = [Pair(data.draw(WORDS) or "a", data.draw(WORDS) or "b") for _ in range(3)]
    corpus = Corpus(tuple(pairs), "en", "ca", "here")
    checkpoint = SimpleNamespace(
        vocabulary=rows, config={"pad_token_id": 0, "nested": {"x_token_id": [5]}}, name="tiny"
    )
    loaded = SimpleNamespace(tokenizer=tokenizer, checkpoint=checkpoint, lm=SimpleNamespace())
    before, after = ("".join(data.draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4))) for _ in range(2))
    template = before + data.draw(st.sampled_from(("{source}", "{source}", "{source}", ""))) + after
    tokens = data.draw(st.sampled_from(("2", "3", "1", "5", "auto", "40")))
    try:
        prompt = token_prompt(loaded, corpus, TuneSpec(method="token-prompt", tokens=tokens, template=template))
    except UserError:
        return
    known = {one.token for one in unused_tokens(loaded)}
    assert set(prompt.ids) <= known
    assert len(set(prompt.ids)) == len(prompt.ids)
    assert max(prompt.ids) < rows
    plain = [*pairs, Pair("a", "b"), Pair("1 .", "b")]
    try:
        made, _ = encode(
            tokenizer, Corpus(tuple(plain), "en", "ca", "here"), template=prompt.template, rows=rows, spans=True
        )
    except UserError:  # a word of the text has no row
        assert rows < len(tokenizer)
        return
    own = set(prompt.ids)
    for example in made:
        assert [token for token in example.prompt if token in own] == list(prompt.ids)
        assert example.in_source is None or len(example.in_source) == len(example.prompt)
        assert example.in_source is None or not any(
            here for token, here in zip(example.prompt, example.in_source, strict=True) if token in own
        )


@examples(500)
@given(st.text(st.sampled_from("<>|[]_ abdeglmnorsuvy0129ｘ▁é\n"), max_size=200))
def test_any_name_is_reserved_or_not(name):
    assert is_reserved(name) in {True, False}
    assert not is_reserved(name * 1000)


@examples(500)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_the_parts_of_a_template_are_the_template(pieces):
    template = "".join(pieces)
    parts = template_parts(template)
    assert "".join(part if isinstance(part, str) else by_number(part) for part in parts) == template
    assert not any(part == "" for part in parts)


@examples(100)
@given(st.one_of(st.none(), st.integers(), st.text(max_size=30), st.lists(st.text(max_size=5)), st.just("x{source}")))
def test_the_prompt_of_a_patch_has_a_place_for_the_source(prompt):
    patch = RowPatch(np.array([1]), torch.zeros(1, 2), {"fingerprint": "f"}, {"prompt": prompt})
    if prompt is None or (isinstance(prompt, str) and "{source}" in prompt):
        assert patch.prompt == prompt
    else:
        with pytest.raises(UserError, match="damaged"):
            _ = patch.prompt
