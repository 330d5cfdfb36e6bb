"""The short job: its stages are the library's own calls, it resumes, and what it shows follows from its files."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_gemma import write_gemma

import ks_lottery
from ks_lottery import RowPatch, RunConfig, UserError
from ks_lottery.config.settings import EvaluateConfig, ModelConfig, TextConfig, TrainConfig
from ks_lottery.recipes import few_rows
from ks_lottery.recipes.few_rows import SIZE, few_rows_recipe
from ks_lottery.recipes.few_rows_sections import few_rows_sections
from ks_lottery.recipes.run import run
from ks_lottery.recipes.translation import translate_sentences
from ks_lottery.report.screen import Screen
from ks_lottery.report.terminal import to_text

TEMPLATE = "Say it in Catalan now, in one plain line of text: {source}\nSo, the answer is this one: "


@pytest.fixture(scope="module")
def config(tmp_path_factory, text_file):
    place = tmp_path_factory.mktemp("short")
    write_gemma(place / "model.gguf", [text_file.read_text(encoding="utf-8")])
    with pytest.MonkeyPatch.context() as patching:
        patching.setenv("KS_LOTTERY_CACHE", str(place / "cache"))
        yield RunConfig(
            model=ModelConfig(name=str(place / "model.gguf"), dtype="float32", device="cpu"),
            text=TextConfig(train=str(text_file), template=TEMPLATE, max_train=24, max_test=6, min_pairs=50),
            train=TrainConfig(learning_rate=0.05, epochs=1.0, batch_size=8),
            evaluate=EvaluateConfig(translations=4, num_beams=1, max_new_tokens=5, resamples=100),
        )


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "short"
    return out, run(config, out, Screen(), few_rows_recipe)


def part(out, name):
    return ks_lottery.read_corpus(out / "text" / f"{name}.jsonl", source_language="en", target_language="ca")


@pytest.mark.parametrize("method", ["partial", "token-prompt"])
def test_rows_are_those_of_the_library_call(config, done, method):
    out, _ = done
    rows = {"partial": {"by": "template", "size": SIZE}, "token-prompt": {}}[method]
    patch = ks_lottery.tune(
        config.model.name, part(out, "train"), method=method, template=TEMPLATE, learning_rate=0.05, epochs=1.0,
        batch_size=8, dtype="float32", device="cpu", **rows,
    )  # fmt: skip
    saved = RowPatch.open(out / method)
    assert patch.ids.tolist() == saved.ids.tolist()
    assert torch.equal(patch.values, saved.values)


@pytest.mark.parametrize("method", ["original", "partial", "token-prompt"])
def test_figures_are_those_of_evaluate(config, done, method):
    out, summary = done
    product = None if method == "original" else out / method
    own = {} if method == "token-prompt" else {"template": TEMPLATE}
    measured = ks_lottery.evaluate(
        config.model.name, part(out, "test"), product, metrics=["chrf", "accuracy"], translations=4, num_beams=1,
        max_new_tokens=5, resamples=100, dtype="float32", device="cpu", **own,
    )  # fmt: skip
    figures = summary["methods"][method]
    assert figures["ended"]["count"] == measured.ended["count"]
    assert figures["chrf"] == measured.scores.metrics["chrf"].score
    assert figures["first_line"] == measured.first_line.metrics["chrf"].score
    assert figures["accuracy"] == measured.next_token["accuracy"]
    shown = [example["outputs"][method] for example in summary["examples"]]
    assert shown == list(measured.hypotheses)[: len(shown)]


def test_what_ships_is_the_file(done):
    out, summary = done
    assert summary["methods"]["original"]["bytes"] == 0
    for method in ("partial", "token-prompt"):
        assert summary["methods"][method]["bytes"] == (out / method / "patch.safetensors").stat().st_size
        assert summary["methods"][method]["trained_parameters"] == RowPatch.open(out / method).values.numel()


def test_the_same_call_makes_nothing_again(config, done):
    out, summary = done
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file() and file.name != ".lock"}
    assert run(config, out, Screen(), few_rows_recipe) == summary
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_folder_of_the_main_job_is_refused(config, done, tmp_path):
    out, _ = done
    inputs = json.loads((out / "inputs.json").read_text())
    (tmp_path / "inputs.json").write_text(json.dumps({key: value for key, value in inputs.items() if key != "recipe"}))
    (tmp_path / "config.yaml").write_text((out / "config.yaml").read_text())
    with pytest.raises(UserError, match="another recipe"):
        run(config, tmp_path, Screen(), few_rows_recipe)


@pytest.mark.parametrize("method", ["partial", "token-prompt"])
def test_its_folder_translates(done, method):
    out, summary = done
    example = summary["examples"][0]
    (answer,) = translate_sentences(out, [example["source"]], method=method, compare=True)
    assert answer.small == example["outputs"][method]
    assert answer.original == example["outputs"]["original"]


def test_the_screen_shows_every_system_and_sentence(done):
    _, summary = done
    sections = few_rows_sections(summary, "runs/x")
    before, text = to_text(sections[:-1]), to_text(sections)  # the last says which to ship
    assert text.count("Ship ") == 1
    for name in ("original model", "partial tuning", "token prompt"):
        forgets = name != "original model"  # a sentence says what each tuned one forgot
        assert before.count(name) == 1 + len(summary["examples"]) + forgets
    for example in summary["examples"]:
        assert example["source"] in text
        assert example["reference"] in text
    ended = summary["methods"]["partial"]["ended"]
    assert f"{ended['count']} of {ended['outputs']}" in text
    assert "ks-lottery translate runs/x" in text


def test_only_sentences_that_every_system_translated_are_shown_beside_each_other():
    def row(source):
        return {"source": source, "reference": f"r {source}"}

    outputs = {
        "original": [{**row(s), "hypothesis": f"o {s}"} for s in ("one", "two", "three")],
        "partial": [{**row(s), "hypothesis": f"p {s}"} for s in ("two", "three")],
    }
    shown = few_rows._examples(outputs)
    assert [example["source"] for example in shown] == ["two", "three"]
    assert shown[0] == {"source": "two", "reference": "r two", "outputs": {"original": "o two", "partial": "p two"}}
