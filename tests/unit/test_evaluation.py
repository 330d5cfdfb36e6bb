"""An evaluation against the calls that it is made of, what its folder holds, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from ks_lottery import RowPatch, UserError, evaluate, open_checkpoint, read_corpus
from ks_lottery.corpus.batches import Example, encode
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.evaluation import translate as module
from ks_lottery.evaluation.evaluate import EvaluationSpec, evaluate_with, summary
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
    assert evaluation.hypotheses == [output.sentence for output in hypotheses]
    assert len(set(evaluation.hypotheses)) > 1
    assert evaluation.sources == [pair.source for pair in pairs]
    assert evaluation.references == [pair.target for pair in pairs]
    scores = score(evaluation.hypotheses, evaluation.references, metrics=("bleu", "chrf"), resamples=20, seed=3)
    assert evaluation.scores.metrics == scores.metrics
    assert (evaluation.sentences, evaluation.scores.sentences) == (9, 3)
    assert evaluation.next_token["accuracy_interval"] == predictions.interval(resamples=20, seed=3)
    before = evaluate_with(SPEC, loaded, corpus)
    assert not same_predictions(before.predictions, predictions)  # the patch is off again, and was on


def test_what_ended_is_what_generate_ended(loaded, corpus, patch, monkeypatch):
    """Checked against the tokens of generate: an end token among the first `max_new_tokens`; line breaks are cut by hand."""
    rows: dict[int, list[int]] = {}
    plain, first = module.generate, loaded.tokenizer("La\n casa\nvella", add_special_tokens=False)["input_ids"]

    def spy(lm, batch, *rest):
        return [tokens for tokens, _ in zip(fixed, batch, strict=False)] if fixed else plain(lm, batch, *rest)

    monkeypatch.setattr(module, "generate", spy)
    fixed = [[*first, 2], [2, 0, 0], first]
    form = PromptForm(loaded.tokenizer)
    told = orders(corpus)[:3]
    prompts = form.prompts(told, ["a"] * 3)  # of one length, so that batches keep their order
    translate(loaded.lm, form, prompts, keep=rows.update, batch_size=3)
    assert [(rows[i].first_line, rows[i].sentence, rows[i].ended) for i in range(3)] == [
        ("La", "La casa vella", True), ("", "", True), ("La", "La casa vella", False),
    ]  # fmt: skip
    fixed = []
    spec = EvaluationSpec(metrics=("bleu", "chrf"), num_beams=1, max_new_tokens=40, batch_size=3, resamples=20)
    evaluation = evaluate_with(spec, loaded, corpus, patch)
    ended = []
    with installed_patch(loaded.lm, patch), torch.inference_mode():
        for prompt in form.prompts(orders(corpus), [pair.source for pair in corpus]):
            row = loaded.lm.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
                max_new_tokens=40, eos_token_id=2, pad_token_id=0,
            )[0, len(prompt) :]  # fmt: skip
            ended.append(bool((row == 2).any()))
    assert [output.ended for output in evaluation.outputs] == ended
    assert evaluation.ended["share"] == sum(ended) / 9


def test_lengths_and_first_lines_are_those_of_sacrebleu(loaded, corpus, monkeypatch):
    from sacrebleu.metrics import BLEU, CHRF

    lines = [f"\n{pair.target} i prou\nEnglish: {pair.source}" for pair in corpus]
    monkeypatch.setattr(
        module, "generate", lambda lm, batch, *rest: [loaded.tokenizer(lines.pop(0))["input_ids"] for _ in batch]
    )
    monkeypatch.setattr(module, "batches_by_length", lambda lengths, size: [[i] for i in range(len(lengths))])
    spec = EvaluationSpec(metrics=("bleu", "chrf"), resamples=10)
    evaluation = evaluate_with(spec, loaded, corpus)
    references = [[pair.target for pair in corpus]]
    whole, first = evaluation.hypotheses, [f"{pair.target} i prou" for pair in corpus]
    for found, wanted in ((evaluation.scores, whole), (evaluation.first_line, first)):
        bleu = BLEU().corpus_score(wanted, references)
        assert found["bleu"].score == pytest.approx(bleu.score)
        assert found["bleu"].length_ratio == bleu.ratio
        assert found["bleu"].length_unit == "tokens"
        assert found["chrf"].score == pytest.approx(CHRF(word_order=2).corpus_score(wanted, references).score)
        characters = [sum(len("".join(line.split())) for line in text) for text in (wanted, references[0])]
        assert found["chrf"].length_ratio == pytest.approx(characters[0] / characters[1])
        assert found["chrf"].length_unit == "characters"
    assert evaluation.first_line["bleu"].score > evaluation.scores["bleu"].score


@pytest.mark.parametrize("positions", [None, 4])
def test_figures_without_the_end_of_sentence_positions(loaded, corpus, positions):
    """Against one plain forward pass a sentence; cut sentences have no end-of-sentence position to leave out."""
    spec = EvaluationSpec(metrics=("accuracy",), resamples=5, positions=positions)
    figures = evaluate_with(spec, loaded, corpus).next_token
    losses, right = [], []
    for example in encode(loaded.tokenizer, corpus)[0]:
        kept = example.response[:positions]
        with torch.inference_mode():
            logits = loaded.lm(torch.tensor([example.sequence])).logits[0, len(example.prompt) - 1 : -1]
        for token, row in list(zip(kept, logits, strict=False))[: -1 if positions is None else None]:
            assert token != 2
            losses.append(-float(row.log_softmax(-1)[token]))
            right.append(int(row.argmax()) == token)
    rest = figures["without_end"]
    assert rest["positions"] == len(losses)
    assert rest["positions"] == figures["positions"] - (9 if positions is None else 0)
    assert rest["accuracy"] == pytest.approx(np.mean(right))
    assert rest["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert rest["loss_interval"][0] < rest["loss"] < rest["loss_interval"][1]


def test_an_end_alone_leaves_no_other_position(loaded, corpus):
    predictions = predict(LabelledLanguageModel(loaded.lm), [Example((5, 6), (2,))] * 2)
    figures = summary(predictions, EvaluationSpec(metrics=("accuracy",), resamples=3), 2)
    assert (figures["positions"], figures["without_end"]) == (2, None)
    assert len(summary(predictions, EvaluationSpec(metrics=("accuracy",)), 7)["without_end"]) == 5


@pytest.mark.parametrize(
    "content",
    [b'{"kind": "evaluation", "format": 1}', b'{"kind": "evaluation", "format": 1, "scores": 3, "next_token": {}}'],
)
def test_a_damaged_evaluation_is_refused(tmp_path, content):
    (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(UserError, match=r"evaluation\.json is damaged: evaluate again"):
        Evaluation.open(tmp_path)


def test_what_is_saved_is_read_back(evaluation, loaded, corpus, tmp_path):
    other, folder = tmp_path / "other", tmp_path / "folder"
    evaluate_with(SPEC, loaded, corpus).save(other)
    spec = EvaluationSpec(metrics=("chrf", "accuracy"), language=True, translations=3, num_beams=1, max_new_tokens=4,
                          resamples=10, against=[other])  # fmt: skip
    compared = evaluate_with(spec, loaded, corpus, folder=folder)
    assert [difference.baseline for difference in compared.comparison.differences] == [str(other)] * 2
    compared.save(folder)
    names = {
        "evaluation.json", "scores.json", "first_line.json", "predictions.parquet", "hypotheses.jsonl", "hypotheses.journal",
        ".lock",
    }  # fmt: skip
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
        assert (again.scores, again.first_line) == (saved.scores, saved.first_line)
        assert (again.outputs, again.ended) == (saved.outputs, saved.ended)
        assert again == saved
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
        ({"against": ["/nowhere"]}, "/nowhere holds no predictions.parquet"),
        ({"beams": 4}, "evaluate: unknown setting `beams`; did you mean `num_beams`?"),
    ],
)
def test_settings_that_cannot_be(loaded, corpus, settings, said):
    with pytest.raises(UserError, match=said):
        evaluate(loaded, corpus, **{"metrics": ["accuracy"], **settings})


def test_a_comparison_needs_resamples(tmp_path):
    (tmp_path / "hypotheses.jsonl").write_text("")
    with pytest.raises(UserError, match="`resamples` is 0"):
        EvaluationSpec(metrics=["bleu"], against=[tmp_path], resamples=0)
