"""An evaluation against the calls that it is made of, what its folder holds, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from ks_lottery import RowPatch, UserError, evaluate, open_checkpoint, read_corpus
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.evaluation import translate as module
from ks_lottery.evaluation.evaluate import EvaluationSpec, evaluate_with
from ks_lottery.evaluation.evaluation import Evaluation
from ks_lottery.evaluation.next_token import predict
from ks_lottery.evaluation.predictions import COLUMNS
from ks_lottery.evaluation.scores import score
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model
from ks_lottery.models.sides import installed_patch

SPEC = EvaluationSpec(
    metrics=("bleu", "chrf", "accuracy"),
    translations=3,
    num_beams=2,
    max_new_tokens=5,
    batch_size=2,
    resamples=20,
    seed=3,
)


@pytest.fixture(scope="module")
def loaded(untied_model):
    return load_model(open_checkpoint(untied_model), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def corpus(text_file):
    return read_corpus(text_file, source_language="en", target_language="ca").head(9)


@pytest.fixture(scope="module")
def patch(loaded, corpus):
    examples, _ = encode(loaded.tokenizer, corpus)
    ids = np.array(sorted({token for e in examples for token in e.sequence[:-1]})[::2], dtype=np.int64)
    noise = 0.3 * torch.randn(len(ids), 32, generator=torch.Generator().manual_seed(1))
    return RowPatch(ids, loaded.checkpoint.rows(ids) + noise, loaded.checkpoint.describe())


@pytest.fixture(scope="module")
def evaluation(loaded, corpus, patch):
    return evaluate_with(SPEC, loaded, corpus, patch)


def same_predictions(ours, theirs) -> bool:
    return all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in COLUMNS)


def test_it_is_the_calls_that_it_is_made_of(evaluation, loaded, corpus, patch):
    """Bit for bit: one forced pass over every sentence; the first three translated by themselves and scored."""
    form, pairs = PromptForm(loaded.tokenizer), corpus.pairs[:3]
    prompts = form.prompts(orders(corpus)[:3], [pair.source for pair in pairs])
    with installed_patch(loaded.lm, patch):
        predictions = predict(LabelledLanguageModel(loaded.lm), encode(loaded.tokenizer, corpus)[0], batch_size=2)
        hypotheses = translate(loaded.lm, form, prompts, num_beams=2, max_new_tokens=5, batch_size=2)
    assert same_predictions(evaluation.predictions, predictions)
    assert evaluation.predictions.made_from["patch"] == patch.content
    assert evaluation.hypotheses == hypotheses
    assert len(set(hypotheses)) > 1
    assert evaluation.sources == [pair.source for pair in pairs]
    assert evaluation.references == [pair.target for pair in pairs]
    scores = score(hypotheses, evaluation.references, metrics=("bleu", "chrf"), resamples=20, seed=3)
    assert evaluation.scores.metrics == scores.metrics
    assert (evaluation.sentences, evaluation.scores.sentences) == (9, 3)
    assert evaluation.next_token["accuracy_interval"] == predictions.interval(resamples=20, seed=3)
    before = evaluate_with(SPEC, loaded, corpus)
    assert not same_predictions(before.predictions, predictions)  # the patch is off again, and was on


def test_what_is_saved_is_read_back(evaluation, loaded, corpus, tmp_path):
    other, folder = tmp_path / "other", tmp_path / "folder"
    evaluate_with(SPEC, loaded, corpus).save(other)
    spec = EvaluationSpec(metrics=("chrf", "accuracy"), language=True, translations=3, num_beams=1, max_new_tokens=4,
                          resamples=10, against=[other])  # fmt: skip
    compared = evaluate_with(spec, loaded, corpus, folder=folder)
    assert [difference.system for difference in compared.comparison.differences] == [str(other)]
    compared.save(folder)
    names = {"evaluation.json", "scores.json", "predictions.parquet", "hypotheses.jsonl", "hypotheses.journal", ".lock"}
    assert {file.name for file in folder.iterdir()} == names
    for saved, place in ((compared, folder), (evaluation, tmp_path / "third")):
        saved.save(place)
        again = Evaluation.open(place)
        assert again.content() == saved.content()
        assert again.settings == json.loads(json.dumps(saved.settings))
        assert again.made_from == saved.made_from
        assert (again.sources, again.references, again.hypotheses) == (
            saved.sources, saved.references, saved.hypotheses
        )  # fmt: skip
        assert same_predictions(again.predictions, saved.predictions)
        assert again.scores == saved.scores
        assert again.language == saved.language
        assert str(len(corpus)) in repr(again)


def test_without_torch_a_finished_evaluation_opens_and_shows_itself(evaluation, tmp_path):
    evaluation.save(tmp_path)
    script = (
        "import sys\n"
        "from ks_lottery.evaluation.evaluation import Evaluation\n"
        f"evaluation = Evaluation.open({str(tmp_path)!r})\n"
        "assert evaluation.sections()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_resamples_there_are_no_intervals(loaded, corpus):
    spec = EvaluationSpec(metrics=("chrf", "accuracy"), translations=1, num_beams=1, max_new_tokens=2, resamples=0)
    evaluation = evaluate_with(spec, loaded, corpus)
    assert evaluation.next_token["accuracy_interval"] is evaluation.next_token["loss_interval"] is None
    assert evaluation.scores["chrf"].interval is None
    said = [line for section in evaluation.sections() for line in section.sentences]
    assert not any("interval" in line for line in said)
    assert any(f"accuracy {evaluation.next_token['accuracy']:.4f}, loss" in line for line in said)


def test_names_do_for_what_they_open(evaluation, untied_model, loaded, corpus, patch, tmp_path):
    patch.save(tmp_path / "patch")
    opened = evaluate(loaded, corpus, patch, metrics=["accuracy"])
    for product in (str(tmp_path / "patch"), tmp_path / "patch"):
        named = evaluate(loaded, corpus, product, metrics=["accuracy"])
        assert same_predictions(named.predictions, opened.predictions)
        assert named.made_from == opened.made_from
    by_name = evaluate(str(untied_model), corpus, tmp_path / "patch", metrics=["accuracy"])
    assert by_name.made_from["base"]["fingerprint"] == opened.made_from["base"]["fingerprint"]
    assert by_name.made_from["made"] == patch.content


def test_the_same_call_resumes(loaded, corpus, tmp_path, monkeypatch):
    settings = {"metrics": ["chrf"], "num_beams": 1, "max_new_tokens": 3, "resamples": 0}
    first = evaluate(loaded, corpus, folder=tmp_path, **settings)
    monkeypatch.setattr(module, "generate", None)
    again = evaluate(loaded, corpus, folder=tmp_path, **settings)
    assert again.hypotheses == first.hypotheses


def test_the_folder_of_something_else_stays_as_it_is(loaded, corpus, patch, tmp_path):
    spec = EvaluationSpec(metrics=("accuracy",), resamples=0)
    evaluation = evaluate_with(spec, loaded, corpus)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    evaluation.save(tmp_path / "done")
    before = (tmp_path / "done" / "evaluation.json").read_bytes()
    for text, product, folder, said in (
        (corpus, None, "mine", "is not the folder of an evaluation"),
        (corpus, patch, "done", "another patch or adapter"),
        (corpus.head(4), None, "done", "another text"),
    ):
        with pytest.raises(UserError, match=said):
            evaluate_with(spec, loaded, text, product, folder=tmp_path / folder)
    with pytest.raises(UserError, match="is not the folder of an evaluation"):
        evaluation.save(tmp_path / "mine")
    assert (tmp_path / "done" / "evaluation.json").read_bytes() == before
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_newer_format_is_refused(evaluation, tmp_path):
    evaluation.save(tmp_path)
    file = tmp_path / "evaluation.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "format": content["format"] + 1}))
    with pytest.raises(UserError, match="newer ks-lottery"):
        Evaluation.open(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metrics": ["blue"]}, "metric 'blue' does not exist"),
        ({"metrics": []}, "no metric is named"),
        ({"num_beams": 0}, "`num_beams` is 0, but must be 1 or more"),
        ({"translations": 0}, "`translations` is 0, but must be 1 or more"),
        ({"positions": 0}, "`positions` is 0, but must be 1 or more"),
        ({"resamples": -1}, "`resamples` is -1, but must be 0 or more"),
        ({"confidence": 1.0}, "`confidence` is 1.0, but must be between 0 and 1"),
        ({"against": ["/nowhere"]}, "/nowhere holds no hypotheses.jsonl"),
        ({"beams": 4}, "evaluate: unknown setting `beams`; did you mean `num_beams`?"),
    ],
)
def test_settings_that_cannot_be(loaded, corpus, settings, said):
    with pytest.raises(UserError, match=said):
        evaluate(loaded, corpus, **{"metrics": ["accuracy"], **settings})


def test_a_comparison_needs_scores_and_resamples(tmp_path):
    (tmp_path / "hypotheses.jsonl").write_text("")
    with pytest.raises(UserError, match="no metric here scores them"):
        EvaluationSpec(metrics=["accuracy"], against=[tmp_path])
    with pytest.raises(UserError, match="`resamples` is 0"):
        EvaluationSpec(metrics=["bleu"], against=[tmp_path], resamples=0)
