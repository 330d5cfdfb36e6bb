"""Forgetting against plain forward passes of transformers, and what no trained row touches against equal logits."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from ks_lottery import Corpus, Evaluation, Pair, RowPatch, TextSource, UserError, evaluate, load_model, open_checkpoint
from ks_lottery.corpus.batches import Example, collate
from ks_lottery.evaluation.evaluate import evaluate_with, predict_general
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.evaluation.forgetting import Forgetting, paired_differences
from ks_lottery.evaluation.general_text import general_sentences, general_text, untouched
from ks_lottery.evaluation.next_token import predict
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.models.equipped import equipped
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.quiet import quiet
from ks_lottery.stats.intervals import bootstrap_interval

GENERAL = [
    "The house is old", "A dog", "We could not save the image, and the page does not exist", "zzz qqq", "12 34 56 78",
    "The garden", "Choose a valid password, please", "x", "éàü",
]  # fmt: skip
SPEC = EvaluationSpec(metrics=("accuracy",), resamples=50, batch_size=4, seed=3)


@pytest.fixture(scope="module", params=["tied", "untied"])
def loaded(request):
    model = request.getfixturevalue(f"{request.param}_model")
    return load_model(open_checkpoint(model), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def corpus():
    return Corpus(
        (Pair("The house is old", "La casa és vella"), Pair("The dog eats", "El gos menja")), "en", "ca", "here"
    )


def patch_of(loaded, tokens, side="input"):
    ids = np.array(sorted(set(tokens)), dtype=np.int64)
    noise = torch.randn(len(ids), 32, generator=torch.Generator().manual_seed(1))
    values = loaded.checkpoint.rows(ids) + noise
    return RowPatch(ids, values, loaded.checkpoint.describe(), side=side)


@pytest.fixture(scope="module")
def patch(loaded):
    """Rows of two words that some of the sentences hold."""
    return patch_of(loaded, loaded.tokenizer("house page", add_special_tokens=False)["input_ids"])


def plain_logits(lm, ids):
    with torch.inference_mode():
        return lm(torch.tensor([ids])).logits[0]


def patched_copy(loaded, patch):
    """A model whose embedding itself holds the new rows; its head keeps the old ones."""
    lm = copy.deepcopy(loaded.lm)
    head = copy.deepcopy(loaded.lm.lm_head.weight.detach())
    lm.lm_head.weight = torch.nn.Parameter(head)
    with torch.no_grad():
        lm.get_input_embeddings().weight[torch.from_numpy(patch.ids)] = patch.values
    return lm


def test_it_is_the_loss_of_plain_forward_passes(loaded, corpus, patch):
    found = evaluate_with(SPEC, loaded, corpus, patch, general=GENERAL).forgetting
    sums = {"tuned": [], "original": []}
    for name, lm in (("tuned", patched_copy(loaded, patch)), ("original", loaded.lm)):
        for ids in loaded.tokenizer(GENERAL)["input_ids"]:
            if len(ids) > 1:
                logs = plain_logits(lm, ids)[:-1].log_softmax(-1)
                labels = torch.tensor(ids[1:])
                right = int((logs.argmax(-1) == labels).sum())
                sums[name].append([float(-logs.gather(1, labels[:, None]).sum()), right, len(labels)])
    tuned, original = np.array(sums["tuned"]), np.array(sums["original"])
    count = original[:, 2].sum()
    short = sum(len(ids) < 2 for ids in loaded.tokenizer(GENERAL)["input_ids"])
    assert short == 1
    assert (found.sentences, found.positions, found.short) == (len(GENERAL) - short, count, short)
    wanted = [tuned[:, 0], original[:, 0], tuned[:, 1], original[:, 1]]
    figures = [found.loss, found.original_loss, found.accuracy, found.original_accuracy]
    assert figures == pytest.approx([column.sum() / count for column in wanted], rel=1e-4)
    for name, column in (("loss", 0), ("accuracy", 1)):
        gaps = tuned[:, column] - original[:, column]
        assert getattr(found, f"{name}_difference") == pytest.approx(gaps.sum() / count, rel=1e-3, abs=1e-6)
        interval = bootstrap_interval(gaps, original[:, 2], resamples=50, seed=3)
        assert getattr(found, f"{name}_interval") == pytest.approx(interval, rel=1e-3, abs=1e-6)
    assert found.loss_difference != 0


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_sentences_without_a_trained_row_have_equal_logits(loaded, corpus, patch, batch_size):
    text = general_text(loaded, GENERAL)
    clean = [not set(patch.ids.tolist()) & set(e.sequence) for e in text.examples]
    assert untouched(text.examples, patch) == clean
    assert 0 < sum(clean) < len(clean)
    spec = EvaluationSpec(metrics=("accuracy",), resamples=0, batch_size=batch_size)
    found = evaluate_with(spec, loaded, corpus, patch, general=GENERAL).forgetting
    assert found.untouched == found.identical == sum(clean)
    assert found.untouched_share == sum(clean) / len(clean)
    assert found.loss_interval is found.accuracy_interval is None
    inputs = collate([example.features() for example in text.examples])
    sizes = [len(example.response) for example in text.examples]
    with torch.inference_mode():
        before = LabelledLanguageModel(loaded.lm).label_logits(**inputs)[0].split(sizes)
        with equipped(loaded, patch) as model:
            after = model.labelled.label_logits(**inputs)[0].split(sizes)
    assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == clean


def test_one_pass_of_the_original_serves_several_products(loaded, corpus, patch):
    original = predict_general(SPEC, loaded, GENERAL)
    once = evaluate_with(SPEC, loaded, corpus, patch, general=GENERAL, general_original=original).forgetting
    assert once == evaluate_with(SPEC, loaded, corpus, patch, general=GENERAL).forgetting
    with pytest.raises(UserError, match="different positions"):
        evaluate_with(SPEC, loaded, corpus, patch, general=GENERAL[:3], general_original=original)


def test_a_trained_row_of_the_output_side_touches_everything(loaded, corpus):
    patch = patch_of(loaded, [5], side="output")
    found = evaluate_with(SPEC, loaded, corpus, patch, general=GENERAL).forgetting
    assert (found.untouched, found.identical) == (0, 0)
    assert found.loss_difference != 0


def test_the_original_model_forgets_nothing(loaded, corpus):
    found = evaluate_with(SPEC, loaded, corpus, general=GENERAL).forgetting
    assert found.untouched == found.identical == found.sentences
    assert (found.loss_difference, found.accuracy_difference) == (0, 0)
    assert found.loss_interval == (0, 0)


def test_an_adapter_is_measured_against_the_model_without_it(loaded, corpus, tmp_path):
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, r=4)
    with quiet():
        adapted = get_peft_model(copy.deepcopy(loaded.lm), config).eval()
        adapted.save_pretrained(tmp_path)
    found = evaluate_with(SPEC, loaded, corpus, tmp_path, general=GENERAL).forgetting
    assert found.untouched is found.identical is found.untouched_share is None
    text = general_text(loaded, GENERAL)
    tuned = predict(LabelledLanguageModel(adapted.get_base_model()), text.examples)
    original = predict(LabelledLanguageModel(loaded.lm), text.examples)
    assert found.loss == pytest.approx(tuned.loss, rel=1e-5)
    assert found.original_loss == pytest.approx(original.loss, rel=1e-5)
    assert found.loss != found.original_loss
    assert any("act on every sentence" in line for section in found.sections() for line in section.sentences)


def test_it_is_saved_opened_and_shown(loaded, corpus, patch, tmp_path):
    evaluation = evaluate_with(SPEC, loaded, corpus, patch, general=GENERAL)
    again = Evaluation.open(evaluation.save(tmp_path))
    assert again == evaluation
    assert again.forgetting == evaluation.forgetting
    saved = json.loads((tmp_path / "evaluation.json").read_text())["forgetting"]
    assert Forgetting.of(saved) == evaluation.forgetting
    lines = [line for section in again.sections() if section.title == "Forgetting" for line in section.sentences]
    found = evaluation.forgetting
    assert any(f"difference {found.loss_difference:+.4f} (" in line for line in lines)
    assert any(
        f"{found.untouched_share:.1%} of the sentences ({found.untouched}) hold no trained row" in s for s in lines
    )
    assert any("left out 1 of fewer than two tokens" in line for line in lines)
    saved["loss"] = "much"
    (tmp_path / "evaluation.json").write_text(
        json.dumps({**json.loads((tmp_path / "evaluation.json").read_text()), "forgetting": saved})
    )
    with pytest.raises(UserError, match="is damaged: evaluate again"):
        Evaluation.open(tmp_path)


def test_every_kind_of_general_text(loaded, corpus, tmp_path):
    sentences = [pair.source for pair in corpus]
    (tmp_path / "plain.txt").write_text("\n".join(sentences) + "\n\n", encoding="utf-8")
    (tmp_path / "plain.tsv").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("".join(f"{p.source}\t{p.target}\n" for p in corpus), encoding="utf-8")
    for text in (
        corpus, sentences, tuple(sentences), tmp_path / "plain.txt", str(tmp_path / "pairs.tsv"),
        TextSource(path=str(tmp_path / "pairs.tsv")), TextSource(path=str(tmp_path / "plain.tsv"), format="lines"),
    ):  # fmt: skip
        assert general_sentences(text) == sentences
        found = evaluate(loaded, corpus, general=text, metrics=["accuracy"], resamples=0).forgetting
        assert (found.sentences, found.overlong) == (2, 0)


def test_longer_sentences_are_left_out_or_refused(loaded, corpus):
    long = "house " * 600
    spec = EvaluationSpec(metrics=("accuracy",), resamples=0, max_tokens=300)
    found = evaluate_with(spec, loaded, corpus, general=["The house", long]).forgetting
    assert (found.sentences, found.overlong) == (1, 1)
    with pytest.raises(UserError, match="`general`: 1 of 2 sentences are longer than the context .* is sentence 2"):
        evaluate_with(SPEC, loaded, corpus, general=["The house", long])


@pytest.mark.parametrize(
    ("general", "said"),
    [
        ([], "`general` holds no sentence"),
        (["x"], "no sentence of two tokens or more"),
        (["a", "\ud800"], "`general`: sentence 2 is not text in UTF-8"),
        (["a", 3], "`general`: sentence 2 is not text in UTF-8"),
        (["a" * 100_001], "`general`: sentence 1 has 100,001 characters"),
        ("/nowhere.txt", "/nowhere.txt"),
    ],
)
def test_general_text_that_cannot_be_measured(loaded, corpus, general, said):
    with pytest.raises(UserError, match=said):
        evaluate(loaded, corpus, general=general, metrics=["accuracy"])


def test_a_beginning_of_sentence_token_is_no_target_and_can_be_trained(loaded):
    tokenizer = copy.deepcopy(loaded.tokenizer)
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    with_bos = copy.copy(loaded)
    object.__setattr__(with_bos, "tokenizer", tokenizer)
    ids = loaded.tokenizer("A dog", add_special_tokens=False)["input_ids"]
    assert general_text(with_bos, ["A dog"]).examples == [Example((1,), tuple(ids))]
    assert untouched([Example((1,), tuple(ids))], patch_of(loaded, [1])) == [False]


def test_a_paired_interval_is_narrow_where_both_models_err_alike():
    """Sentences differ widely, the models by a constant: only a paired resample knows."""
    rng = np.random.default_rng(0)
    sentence = np.repeat(np.arange(40), 5)
    base = {
        "sentence": sentence, "position": np.tile(np.arange(5), 40), "label": np.ones(200, dtype=np.int64),
        "first": np.ones(200, dtype=np.int64), "second": np.zeros(200, dtype=np.int64), "p_first": np.ones(200),
        "p_second": np.zeros(200), "made_from": {},
    }  # fmt: skip
    logs = -rng.uniform(1, 9, 40)[sentence]
    original, tuned = Predictions(**base, log_p=logs), Predictions(**base, log_p=logs - 0.25)
    figures = paired_differences(tuned, original, confidence=0.95, resamples=200, seed=0)
    assert figures["loss_difference"] == pytest.approx(0.25)
    assert figures["loss_interval"] == pytest.approx((0.25, 0.25))
    with pytest.raises(UserError, match="different positions"):
        paired_differences(tuned.head(3), original, confidence=0.95, resamples=9, seed=0)
