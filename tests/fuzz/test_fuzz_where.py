"""Random templates, texts, gates and files: spans are those of a definition, and what cannot be read is one UserError."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from amount import examples
from hypothesis import given
from hypothesis import strategies as st

import ks_lottery
from ks_lottery import Corpus, RowPatch, UserError, Where
from ks_lottery.corpus.batches import Example, collate
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.source_span import by_pieces, source_ranges, source_tokens
from ks_lottery.evaluation.patches import Gate, predict_patches
from ks_lottery.evaluation.where_sections import conclusion
from ks_lottery.models.gate import gated
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.sides import installed_patch
from ks_lottery.tickets.span_counts import SPANS_FILE, SpanCounts

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.text(" abĠ▁\n.é漢\N{GRINNING FACE}{}", max_size=14)


def check_one_line(error: UserError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600


@pytest.fixture(scope="module")
def loaded(tied_model):
    return load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")


@cache
def alphabet() -> frozenset[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return frozenset(bytes_to_unicode().values())


@examples(150)
@given(parts=st.lists(st.one_of(WORDS, ANY), min_size=2, max_size=3), order=WORDS, source=st.one_of(WORDS, ANY))
def test_a_token_is_source_when_all_its_bytes_are(loaded, parts, order, source):
    tokenizer = loaded.tokenizer
    template = "{source}".join(part.replace("{source}", "") for part in parts)
    if "{source}" not in template or not source.strip():
        if "{source}" in template and order.strip() and "{instruction}" not in template:
            with pytest.raises(UserError, match="shows no instruction"):
                PromptForm(tokenizer, template).prompts([order], [source])
        return
    form = PromptForm(tokenizer, template)
    (prompt,) = form.prompts([order], [source])
    names = tokenizer.convert_ids_to_tokens(list(prompt))
    (found,) = source_tokens(form, [order], [source], [prompt])
    assert found is not None
    if not set("".join(names)) <= alphabet():  # a special token in the text is no row of bytes
        return
    text = form.render(order, source)
    ranges = [(len(text[:a].encode()), len(text[:b].encode())) for a, b in source_ranges(template, order, source)]
    ends = np.cumsum([0, *(len(name) for name in names)])
    assert ends[-1] == len(text.encode())
    spans = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
    assert found == tuple(any(a <= start and end <= b for a, b in ranges) for start, end in spans)
    ids, pieces = by_pieces(tokenizer, text, source_ranges(template, order, source), special=True)
    assert tuple(ids) == prompt
    # Pieces cannot see every token that straddles, but say source of no token that lies outside.
    outside = [all(end <= a or start >= b for a, b in ranges) for start, end in spans]
    assert not any(here and out for here, out in zip(pieces, outside, strict=True))


@examples(25)
@given(data=st.data())
def test_a_gated_pass_is_the_pass_by_hand(loaded, data):
    """Random masks, one a sentence, with and without sharing, against embeddings put together by hand."""
    number = st.integers(10, 40)
    common = data.draw(st.lists(number, max_size=12), label="common")
    drawn = lambda most: data.draw(st.lists(number, min_size=1, max_size=most))  # noqa: E731
    texts = [Example((*common, *drawn(5)), tuple(drawn(4))) for _ in range(data.draw(st.integers(1, 4)))]
    masks = [data.draw(st.lists(st.booleans(), min_size=len(e.prompt), max_size=len(e.prompt))) for e in texts]
    rest, share = data.draw(st.booleans()), data.draw(st.booleans())
    ids = np.array(sorted(data.draw(st.sets(number, min_size=1, max_size=20))), dtype=np.int64)
    rows = loaded.checkpoint.rows(ids)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(len(ids)))
    patch = RowPatch(ids, rows + noise, loaded.checkpoint.describe())
    gate = Gate(prompts=masks, rest=rest)
    inputs = collate([e.features() for e in gate.marked(texts)])
    lm = loaded.lm
    with installed_patch(lm, patch), gated(lm, rest=rest), torch.no_grad():
        found, _ = LabelledLanguageModel(lm, share_prefix=share).label_logits(**inputs)
    shared = predict_patches(
        lm, {"gated": patch, "whole": patch}, texts, batch_size=2, share_prefix=share, gates={"gated": gate}
    )
    wanted = []
    for e, mask in zip(texts, masks, strict=True):
        active = torch.tensor([*mask, *[rest] * (len(e.response) - 1)])
        tokens = torch.tensor([e.sequence[:-1]])
        base = lm.get_input_embeddings()(tokens)
        with installed_patch(lm, patch):
            ours = lm.get_input_embeddings()(tokens)
        with torch.no_grad():
            logits = lm(inputs_embeds=torch.where(active[None, :, None], ours, base), use_cache=False).logits[0]
        wanted.append(logits[len(e.prompt) - 1 :])
    logits = torch.cat(wanted)
    assert torch.allclose(found, logits, atol=1e-4)
    labels = torch.tensor([token for e in texts for token in e.response])
    logs = logits.double().log_softmax(-1).gather(1, labels[:, None])[:, 0].numpy()
    assert shared.predictions["gated"].log_p == pytest.approx(logs, abs=1e-4)


@pytest.fixture(scope="module")
def saved(loaded, tmp_path_factory) -> dict[str, Any]:
    corpus = Corpus(tuple(Pair(f"The house {i}", f"La casa {i}") for i in range(6)), "en", "ca", "here")
    ids = np.arange(30, 90, dtype=np.int64)
    rows = loaded.checkpoint.rows(ids)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    patch = RowPatch(ids, rows + noise, loaded.checkpoint.describe())
    file = ks_lottery.where(loaded, corpus, patch, resamples=50).save(tmp_path_factory.mktemp("where") / "w.json")
    return json.loads(file.read_text(encoding="utf-8"))


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@examples(200)
@given(data=st.data())
def test_a_file_with_a_changed_value_is_read_or_refused(saved, tmp_path_factory, data):
    content = json.loads(json.dumps(saved))
    place: Any = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(VALUES)
    file = tmp_path_factory.mktemp("changed") / "w.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    try:
        opened = Where.open(file)
    except UserError as error:
        check_one_line(error)
        return
    assert len(opened.fingerprint) == 64
    assert repr(opened)
    assert opened.sections()
    assert opened.sentence == conclusion(opened.as_dict())


COLUMNS = st.sampled_from(["row", "instruction", "source", "target", "x"])


@examples(60)
@given(columns=st.dictionaries(COLUMNS, st.lists(st.integers(-3, 9), max_size=3)))
def test_counts_are_read_or_refused(tmp_path_factory, columns):
    from ks_lottery.store.files import write_table
    from ks_lottery.store.manifest import manifest

    size = min(map(len, columns.values()), default=0)
    cut = {name: values[:size] for name, values in columns.items()}
    folder = tmp_path_factory.mktemp("counts")
    write_table(folder / SPANS_FILE, cut, manifest("span-counts", made_from={}, settings={}))
    try:
        opened = SpanCounts.open(folder)
    except UserError as error:
        check_one_line(error)
        return
    assert opened.of(np.array([0, 5]))["source"].shape == (2,)


@examples(100)
@given(
    settings=st.fixed_dictionaries(
        {},
        optional={
            "translate": st.one_of(st.none(), st.integers(-2, 2)), "resamples": st.integers(-1, 3), "seed": st.integers(-1, 2),
            "confidence": st.floats(allow_nan=True), "paraphrase": st.one_of(st.none(), WORDS),
            "batch_size": st.integers(-1, 3), "max_tokens": st.one_of(st.none(), st.integers(-1, 3)),
            "metrics": st.lists(st.sampled_from(["bleu", "chrf", "accuracy", "blue"]), max_size=2),
        },
    )
)  # fmt: skip
def test_settings_are_taken_or_refused(settings):
    from ks_lottery.evaluation.where_spec import WhereSpec

    try:
        spec = WhereSpec(**settings)
    except UserError as error:
        check_one_line(error)
        return
    assert WhereSpec(**spec.as_dict()) == WhereSpec(**{**spec.as_dict(), "metrics": list(spec.metrics)})
    assert spec.controlled == (spec.paraphrase is not None)
