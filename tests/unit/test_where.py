"""`where` on models in which by construction one span matters, and against passes and translations made one by one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import ks_lottery
from ks_lottery import Corpus, RowPatch, UserError, Where
from ks_lottery.config.choices import SPANS
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.evaluation.controls import random_directions, shuffled
from ks_lottery.evaluation.gated_runs import COMBINATIONS
from ks_lottery.evaluation.next_token import predict
from ks_lottery.evaluation.translate import end_tokens, translate
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.sides import installed_patch

TEMPLATE = "qqqqqqqqqqqq{source}\n"


def corpus_of(count: int = 40, seed: int = 0) -> Corpus:
    draw = np.random.default_rng(seed)
    pairs = [Pair("w" * int(draw.integers(3, 9)) + "k", "y" * int(draw.integers(4, 9))) for _ in range(count)]
    return Corpus(tuple(pairs), "en", "ca", "here")


@pytest.fixture(scope="module")
def averaging(untied_model):
    """A model whose prediction is the mean of all embeddings so far: attention is even, and nothing else is computed."""
    loaded = load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")
    with torch.no_grad():
        loaded.lm.get_input_embeddings().weight[:] = 0.01 * loaded.lm.get_input_embeddings().weight
        for layer in loaded.lm.model.layers:
            attention = layer.self_attn
            for part in (attention.q_proj, attention.k_proj, layer.mlp.down_proj):
                part.weight.zero_()
            attention.v_proj.weight.zero_()
            attention.v_proj.weight[:] = torch.eye(32)[: attention.v_proj.weight.shape[0]]
            attention.o_proj.weight.zero_()
        # One layer passes the first key-value head's coordinates on, ten times as large as the token's own embedding.
        first = loaded.lm.model.layers[0].self_attn.o_proj.weight
        width = 32 // 4
        for head in range(4):
            for i in range(width):
                source = head // 2 * width + i
                if head % 2 == 0:
                    first[source, head * width + i] = 30.0
    return ks_lottery.from_memory(loaded.lm, loaded.tokenizer)


def pushing(loaded, character: str, *, towards: str = "y", size: float = 20.0) -> RowPatch:
    """A patch of the one row of a character, which pushes whatever averages it towards a token."""
    ids = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (character, towards)]
    assert [len(i) for i in ids] == [1, 1]
    goal = loaded.lm.get_output_embeddings().weight[ids[1][0]].detach().clone()
    goal[16:] = 0
    return RowPatch(np.array(ids[0]), (size * goal / goal.norm()).unsqueeze(0), loaded.checkpoint.describe())


@pytest.mark.parametrize(("span", "character"), [("instruction", "q"), ("source", "w"), ("target", "y")])
def test_the_one_span_that_matters_is_found(averaging, span, character):
    found = ks_lottery.where(averaging, corpus_of(), pushing(averaging, character), template=TEMPLATE)
    assert found["everywhere"].difference > 0.05
    assert found["everywhere"].is_measured
    for name, active in COMBINATIONS.items():
        effect = found[name]
        if span in active:
            assert effect.difference == found["everywhere"].difference
            assert effect.share == 1.0
            assert effect.share_interval == (1.0, 1.0)
        else:
            assert effect.difference == effect.loss_difference == effect.share == 0.0
    assert found.sentence.endswith(f"more than half of the gain is there with the rows in the {span} alone.")
    assert f"1.00 (1.00 to 1.00) in the {span} alone" in found.sentence


def test_nothing_is_said_where_the_gain_is_not_measured(averaging):
    patch = pushing(averaging, "q", towards="k")  # a token that no target has
    found = ks_lottery.where(averaging, corpus_of(), patch, template=TEMPLATE)
    assert not found["everywhere"].is_measured
    assert all(effect.share is None and effect.share_interval is None for effect in found.spans)
    assert "contains 0, so that nothing follows" in found.sentence


@pytest.fixture(scope="module")
def loaded(narrow_untied_model):
    return load_model(open_checkpoint(str(narrow_untied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def corpus(text_file):
    return ks_lottery.read_corpus(str(text_file), source_language="en", target_language="ca").head(24)


@pytest.fixture(scope="module")
def tuned(loaded, corpus):
    return ks_lottery.tune(loaded, corpus, method="embed", learning_rate=2e-2, epochs=6)


@pytest.fixture(scope="module")
def measured(loaded, corpus, tuned):
    return ks_lottery.where(
        loaded, corpus, tuned, controls=True, paraphrase="Put this into Catalan.", translate=5, max_new_tokens=20
    )


def alone(loaded, corpus, patch=None, template="alpaca"):
    """Predictions of one plain pass."""
    examples, _ = encode(loaded.tokenizer, corpus, template=template)
    model = LabelledLanguageModel(loaded.lm)
    if patch is None:
        return predict(model, examples)
    with installed_patch(loaded.lm, patch):
        return predict(model, examples)


def test_everywhere_is_the_patch_and_nowhere_the_original(measured, loaded, corpus, tuned):
    patch, original = alone(loaded, corpus, tuned), alone(loaded, corpus)
    everywhere, nowhere = measured["everywhere"], measured["nowhere"]
    assert (everywhere.accuracy, everywhere.original, nowhere.accuracy) == (
        patch.accuracy, original.accuracy, original.accuracy,
    )  # fmt: skip
    assert everywhere.loss == pytest.approx(patch.loss, abs=1e-5)
    assert everywhere.loss_difference == pytest.approx(patch.loss - original.loss, abs=1e-5)
    assert (everywhere.difference, everywhere.difference_interval) == patch.difference(original)
    assert nowhere.difference == nowhere.loss_difference == 0.0
    assert [effect.name for effect in measured.spans] == [
        "nowhere", "instruction", "source", "target", "instruction and source", "instruction and target",
        "source and target", "everywhere",
    ]  # fmt: skip


def test_a_share_is_a_ratio_of_two_differences_resampled_together(measured):
    from scipy.stats import bootstrap

    whole = measured["everywhere"]
    part = measured["instruction"]
    assert part.share == pytest.approx(part.difference / whole.difference)
    low, high = part.share_interval
    assert low < part.share < high
    assert whole.share_interval == (1.0, 1.0)
    # The interval itself, against SciPy's percentile bootstrap of a ratio of means.
    draw = np.random.default_rng(1)
    below = draw.normal(2.0, 1.0, 80)
    above = 0.5 * below + draw.normal(0.0, 0.3, 80)
    from ks_lottery.stats.intervals import ratio_interval

    ours = ratio_interval(above, below, resamples=20000)
    theirs = bootstrap(
        (above, below), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, method="percentile", n_resamples=20000,
        vectorized=True, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_printed_tokens_are_those_that_the_model_computed(loaded, corpus, tuned):
    counted = []

    def count(_, args, kwargs):
        ids, mask = kwargs["input_ids"], kwargs.get("attention_mask")
        counted.append(ids.numel() if mask is None else int(mask[:, -ids.shape[1] :].sum()))

    handle = loaded.lm.base_model.register_forward_pre_hook(count, with_kwargs=True)
    found = ks_lottery.where(loaded, corpus, tuned)
    one = len(counted)
    examples, _ = encode(loaded.tokenizer, corpus)
    predict(LabelledLanguageModel(loaded.lm), examples, batch_size=len(examples))
    handle.remove()
    # One token is looked up to learn the size of keys and values.
    assert found.tokens["spans"] in (sum(counted[:one]), sum(counted[:one]) - 1)
    assert found.tokens["pass"] == sum(counted[one:])
    assert 1 < found.ratio <= 7
    assert found.tokens["controls"] == 0


def test_controls_are_what_their_names_say(measured, loaded, corpus, tuned):
    examples, _ = encode(loaded.tokenizer, corpus, spans=True)
    template = {t for e in examples for t, s in zip(e.prompt, e.in_source, strict=True) if not s}
    rows = np.array([row for row in tuned.ids if row in template])
    original = alone(loaded, corpus)
    effect = measured["template rows alone"]
    assert effect.rows == len(rows)
    assert (effect.difference, effect.difference_interval) == alone(loaded, corpus, tuned.restrict(rows)).difference(
        original
    )
    assert effect.share == pytest.approx(effect.difference / measured["everywhere"].difference)
    others = measured["as many rows in no template"]
    assert others.rows <= len(rows)
    for name, template_of in (("prompt plain", "plain"),):
        base = alone(loaded, corpus, template=template_of)
        patch = alone(loaded, corpus, tuned, template=template_of)
        assert (measured[name].accuracy, measured[name].original) == (patch.accuracy, base.accuracy)
        assert measured[name].difference_interval == patch.difference(base)[1]
    said = corpus.with_instruction("Put this into Catalan.")
    assert measured["paraphrase"].accuracy == alone(loaded, said, tuned).accuracy
    assert sum(effect.name.startswith("random direction") for effect in measured.controls) == 3
    assert any("chat template" in note for note in measured.notes)
    assert any("BOS" in note for note in measured.notes)
    shown = measured.sections()[2].rows
    draws = [effect.difference for effect in measured.controls if effect.name.startswith("random direction")]
    (row,) = [row for row in shown if str(row[0]).startswith("random direction")]
    assert row[4] == pytest.approx(np.mean(draws))
    assert row[5] == f"range {min(draws):+.4f} to {max(draws):+.4f}"


def test_rows_in_no_template_are_in_none(loaded, corpus, tuned, monkeypatch):
    from ks_lottery.corpus.prompts import TEMPLATES
    from ks_lottery.evaluation import controls as module
    from ks_lottery.evaluation.measured import measured_text
    from ks_lottery.evaluation.where_spec import WhereSpec

    spec = WhereSpec(controls=True, paraphrase="Kindly do {source} now")
    text = measured_text(loaded, corpus, spans=True)
    made = module.controls_of(loaded, tuned, text, spec)
    chosen = made.patches["as many rows in no template"].ids
    assert len(chosen)
    counts = {row: sum(e.sequence[:-1].count(row) for e in text.examples) for row in tuned.ids.tolist()}
    banned = set()
    for template in [*TEMPLATES, spec.paraphrase]:
        form = PromptForm(loaded.tokenizer, template, (corpus.source_language, corpus.target_language))
        for prompt in form.prompts(orders(corpus), ["\x00"] * len(corpus)):
            banned |= set(prompt)
    assert not banned & set(chosen.tolist())
    left = [counts[row] for row in tuned.ids.tolist() if row not in banned and row not in chosen]
    assert min(counts[row] for row in chosen.tolist()) >= max(left, default=0)


def test_random_directions_keep_the_distance_and_shuffled_rows_the_values(tuned, loaded):
    base = loaded.checkpoint.rows(tuned.ids)
    moves = tuned.values - base
    drawn = [random_directions(tuned, moves, seed) for seed in (0, 1)]
    for patch in drawn:
        assert torch.allclose((patch.values - base).norm(dim=1), moves.norm(dim=1), rtol=1e-4)
        cosines = torch.nn.functional.cosine_similarity(patch.values - base, moves)
        assert float(cosines.abs().mean()) < 0.3
    assert not torch.equal(drawn[0].values, drawn[1].values)
    mixed = shuffled(tuned, 0)
    assert sorted(map(tuple, mixed.values.tolist())) == sorted(map(tuple, tuned.values.tolist()))
    assert not (mixed.values == tuned.values).all(dim=1).any()
    assert np.array_equal(mixed.ids, tuned.ids)


def test_translations_are_those_of_the_patch_and_of_the_original(measured, loaded, corpus, tuned):
    from sacrebleu.metrics import BLEU

    form = PromptForm(loaded.tokenizer, "alpaca")
    pairs = corpus.pairs[:5]
    prompts = form.prompts(orders(corpus)[:5], [pair.source for pair in pairs])
    stops = end_tokens(loaded.lm, form)
    for name, patch in (("nowhere", None), ("everywhere", tuned)):
        more = {"num_beams": 1, "max_new_tokens": 20}
        if patch is None:
            outputs = translate(loaded.lm, form, prompts, **more)
            written = [_greedy(loaded.lm, prompt, stops, 20) for prompt in prompts]
        else:
            with installed_patch(loaded.lm, patch):
                outputs = translate(loaded.lm, form, prompts, **more)
                written = [_greedy(loaded.lm, prompt, stops, 20) for prompt in prompts]
        assert [output.ended for output in outputs] == [bool(stops) and row[-1] in stops for row in written]
        assert measured[name].ended == pytest.approx(np.mean([row[-1] in stops for row in written]))
        wanted = BLEU().corpus_score([output.sentence for output in outputs], [[pair.target for pair in pairs]]).score
        assert measured[name].scores["bleu"] == pytest.approx(wanted)
    assert measured.translated == 5
    assert set(measured.signatures) == {"bleu", "chrf"}


def test_the_ended_share_counts_what_the_model_ended_itself(averaging):
    """Rows of the instruction that push to the end token end every translation at once; those of the target none."""
    corpus = corpus_of()
    end = pushing(averaging, "q", towards="</s>", size=60.0)
    found = ks_lottery.where(averaging, corpus, end, template=TEMPLATE, translate=6, max_new_tokens=5)
    assert {name: found[name].ended for name in COMBINATIONS} == {
        name: float("instruction" in active) for name, active in COMBINATIONS.items()
    }
    assert found["everywhere"].scores["bleu"] == 0.0


def _greedy(lm, prompt, stops, most):
    tokens, written = list(prompt), []
    while len(written) < most and (not written or written[-1] not in stops):
        with torch.no_grad():
            written.append(int(lm(input_ids=torch.tensor([tokens + written]), use_cache=False).logits[0, -1].argmax()))
    return written


def test_it_is_saved_and_opened_and_shows_itself(measured, tmp_path):
    file = measured.save(tmp_path / "where.json")
    opened = Where.open(file)
    assert opened == measured
    assert opened.as_dict() == measured.as_dict()
    assert repr(measured).startswith("Where(")
    assert "\n" not in repr(measured)
    frame = measured.to_pandas()
    assert list(frame["name"]) == [effect.name for effect in (*measured.spans, *measured.controls)]
    assert list(frame["kind"])[:8] == ["span"] * 8
    assert json.loads(file.read_text(encoding="utf-8"))["kind"] == "where"
    assert measured.sections()[-1].sentences[-1] == measured.sentence
    assert "<table" in measured._repr_html_()
    other = replace(opened, spans=(replace(opened.spans[0], accuracy=0.5), *opened.spans[1:]))
    assert other != measured


def test_what_each_sentence_adds_is_that_of_plain_passes(measured, loaded, corpus, tuned, tmp_path):
    found = ks_lottery.where(loaded, corpus, tuned, by_sentence=True)
    assert measured.by_sentence == {}
    assert set(found.by_sentence) == set(COMBINATIONS)
    for name, patch in (("nowhere", None), ("everywhere", tuned)):
        one_by_one = [alone(loaded, replace(corpus, pairs=(pair,)), patch) for pair in corpus.pairs]
        added = found.by_sentence[name]
        assert added["positions"] == [len(one) for one in one_by_one]
        assert added["correct"] == [int(one.correct.sum()) for one in one_by_one]
        assert added["loss"] == pytest.approx([float(-one.log_p.sum()) for one in one_by_one], rel=1e-4)
    for effect in found.spans:
        added = found.by_sentence[effect.name]
        assert effect.accuracy == pytest.approx(sum(added["correct"]) / sum(added["positions"]))
    file = found.save(tmp_path / "where.json")
    assert Where.open(file) == found
    content = json.loads(file.read_text(encoding="utf-8"))
    content["by_sentence"]["source"]["loss"][0] = "much"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="is not whole"):
        Where.open(file)
    del content["by_sentence"]  # as older versions wrote it
    file.write_text(json.dumps(content), encoding="utf-8")
    assert Where.open(file) == replace(found, by_sentence={})


def test_a_damaged_file_is_refused(measured, tmp_path):
    file = measured.save(tmp_path / "where.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    for broken in (
        {**content, "spans": [{}]},
        {**content, "spans": 3},
        {k: v for k, v in content.items() if k != "rows"},
    ):
        file.write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(UserError, match="is not whole"):
            Where.open(file)


def test_a_library_call_and_the_command_measure_the_same(
    loaded, corpus, tuned, narrow_untied_model, tmp_path, text_file, capfd
):
    from ks_lottery.cli.main import main

    tuned.save(tmp_path / "patch")
    words = ["where", str(narrow_untied_model), "--patch", str(tmp_path / "patch"), "--data", str(text_file)]
    more = ["--limit", "24", "--dtype", "float32", "--device", "cpu", "--max-tokens", "400"]
    assert main([*words, *more, "--out", str(tmp_path / "where.json")]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    found = Where.open(tmp_path / "where.json")
    wanted = ks_lottery.where(loaded, corpus, tmp_path / "patch", max_tokens=400)
    assert [effect.accuracy for effect in found.spans] == [effect.accuracy for effect in wanted.spans]
    assert " ".join(found.sentence.split()) in shown
    assert f"{found.ratio:.2f} times" in shown
    assert main([*words, *more, "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed["spans"] == json.loads(json.dumps(found.as_dict()))["spans"]


def test_what_cannot_be_measured_is_one_sentence(loaded, corpus, tuned, tied_model):
    calls = [
        ({"patch": replace(tuned, side="output")}, "only rows of the input side act at a position"),
        ({"patch": tuned.restrict(tuned.ids[:0])}, "changes no row"),
        ({"base": str(tied_model)}, "give the base that the patch belongs to"),
        ({"resamples": 0}, "`resamples` is 0, but what follows"),
        ({"translate": 0}, "`translate` is 0, but must be 1 or more"),
        ({"confidence": 1.0}, "`confidence` is 1.0, but must be between 0 and 1"),
        ({"metrics": ("accuracy",)}, "accuracy, which is measured in any case"),
        ({"paraphrase": " "}, "`paraphrase` is empty"),
        ({"template": "chat"}, "no chat template"),
        ({"max_tokens": 5}, "no example of"),
        ({"patch": "nowhere"}, "holds no patch"),
    ]
    for changed, message in calls:
        arguments = {"base": loaded, "corpus": corpus, "patch": tuned, **changed}
        with pytest.raises(UserError, match=message) as caught:
            ks_lottery.where(**arguments)
        assert "\n" not in str(caught.value)


def test_every_span_has_a_name_in_the_help():
    assert list(SPANS) == ["instruction", "source", "target"]
    assert set(COMBINATIONS.values()) == {
        tuple(span for span, on in zip(SPANS, bits, strict=True) if on) for bits in np.ndindex(2, 2, 2)
    }
