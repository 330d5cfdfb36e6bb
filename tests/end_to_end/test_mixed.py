"""Commands with the template mixed: tuning, selecting, measuring with another prompt, a run, and what has one prompt only."""

from __future__ import annotations

import json
import shutil

import pytest

from ks_lottery import RowPatch, Tickets, open_checkpoint, read_corpus
from ks_lottery.cli.main import main
from ks_lottery.config.choices import MIX
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.prompts import TEMPLATES
from ks_lottery.models.load import load_model
from ks_lottery.tickets.span_counts import SpanCounts

FAST = ["--epochs", "1", "--batch-size", "4", "--learning-rate", "0.01", "--dtype", "float32"]
QUICK = [
    "--max-new-tokens",
    "3",
    "--num-beams",
    "1",
    "--resamples",
    "0",
    "--dtype",
    "float32",
    "--metrics",
    "bleu,accuracy",
]
RUN = [
    "--train.learning-rate", "0.1", "--train.epochs", "1", "--evaluate.translations", "2", "--evaluate.num-beams", "1",
    "--evaluate.max-new-tokens", "4", "--evaluate.resamples", "200", "--certify.alphas", "[0.5, 1.0]", "--text.min-pairs", "50",
]  # fmt: skip


@pytest.fixture(scope="module")
def short(text_file, tmp_path_factory):
    """Twenty pairs."""
    file = tmp_path_factory.mktemp("short") / "pairs.tsv"
    file.write_text("".join(text_file.read_text(encoding="utf-8").splitlines(keepends=True)[:20]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tuned(tied_model, short, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "embed"
    call = ["tune", str(tied_model), "--train", str(short), "--template", "mixed", "--out", str(out), *FAST]
    assert main(call) == 0
    return out


@pytest.fixture(scope="module")
def run(tied_model, text_file, tmp_path_factory):
    """A run with a file of templates, the call that made it, and the file."""
    folder = tmp_path_factory.mktemp("run")
    file = folder / "mine.json"
    file.write_text(json.dumps(["plain", "labels", "Catalan for {source}:"]), encoding="utf-8")
    call = ["run", "--model.name", str(tied_model), "--text.train", str(text_file), "--text.template", f"mixed:{file}"]
    assert main([*call, "--out", str(folder / "run"), *RUN]) == 0
    return folder / "run", call, file


def evaluated(model, short, tmp_path, *more: str) -> dict:
    out = tmp_path / "evaluation"
    assert main(["evaluate", str(model), "--data", str(short), "--out", str(out), *QUICK, *more]) == 0
    content = json.loads((out / "evaluation.json").read_text())
    shutil.rmtree(out)
    return content


def test_tune_then_evaluate_with_a_prompt_that_was_and_one_that_was_not_trained(tied_model, short, tuned, tmp_path):
    corpus = read_corpus(short, source_language="en", target_language="ca")
    tokenizer = load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu").tokenizer
    reached = {t for e in encode(tokenizer, corpus, template="mixed")[0] for t in e.sequence}
    patch = RowPatch.open(tuned)
    assert set(patch.ids.tolist()) <= reached
    assert patch.settings["templates"] == [TEMPLATES[name] for name in MIX]
    for template in ("plain", "request", "mixed"):
        content = evaluated(tied_model, short, tmp_path, "--patch", str(tuned), "--template", template)
        examples = encode(tokenizer, corpus, template=template)[0]
        assert content["settings"]["template"] == template
        assert content["next_token"]["positions"] == sum(len(e.response) for e in examples)


def test_evaluate_resumes_only_the_same_file_of_templates(tied_model, short, tuned, tmp_path, capfd):
    file, out = tmp_path / "mine.json", tmp_path / "out"
    file.write_text('["plain", "{source} ="]', encoding="utf-8")
    call = ["evaluate", str(tied_model), "--data", str(short), "--patch", str(tuned), "--out", str(out), *QUICK]
    call += ["--template", f"mixed:{file}"]
    assert main(call) == 0
    settings = json.loads((out / "evaluation.json").read_text())["settings"]
    assert settings["template"] == 'mixed:["plain", "{source} ="]'
    file.write_text('["plain", "{source} :="]', encoding="utf-8")
    capfd.readouterr()
    assert main(call) == 2
    assert "hypotheses" in capfd.readouterr().err


def test_a_tuning_resumes_only_with_the_same_file_of_templates(tied_model, short, tmp_path, capfd):
    file, out = tmp_path / "mine.json", tmp_path / "out"
    file.write_text('["plain", "{source} ="]', encoding="utf-8")
    call = ["tune", str(tied_model), "--train", str(short), "--template", f"mixed:{file}", "--out", str(out), *FAST]
    call += ["--method", "random", "--size", "4"]  # the same rows with every prompt
    assert main(call) == 0
    content = RowPatch.open(out).content
    capfd.readouterr()
    assert main(call) == 0
    assert "nothing to do" in capfd.readouterr().out
    file.write_text('["plain", "{source} :="]', encoding="utf-8")
    assert main(call) == 2
    assert "template" in capfd.readouterr().err
    assert RowPatch.open(out).content == content


def test_select_by_template_takes_rows_of_the_prompts_alone(tied_model, short, tuned, tmp_path):
    scan, out = tmp_path / "scan.parquet", tmp_path / "tickets.json"
    assert main(["scan", str(tied_model), str(tuned), "--out", str(scan)]) in {0, 1}
    call = ["select", str(scan), "--by", "template", "--top-k", "12", "--corpus", str(short), "--template", "mixed"]
    assert main([*call, "--out", str(out)]) == 0
    counts = SpanCounts.open(tuned)
    at = dict(zip(counts.ids.tolist(), counts.counts["instruction"].tolist(), strict=True))
    rows = Tickets.open(out).rows.tolist()
    assert len(rows) == 12
    assert all(at[row] > 0 for row in rows)


def test_inspect_and_where_show_each_sentence_in_its_template(tied_model, short, tuned, capfd):
    capfd.readouterr()
    assert (
        main(["inspect", str(short), "--model", str(tied_model), "--template", "mixed", "--examples", "20", "--json"])
        == 0
    )
    content = json.loads(capfd.readouterr().out)
    prompts = [example["prompt"] for example in content["examples"]]
    begins = {name: TEMPLATES[name].split("{")[0] for name in ("alpaca", "question")}
    assert content["shared_prefix"] == 0
    assert any(prompt.startswith(begins["question"]) for prompt in prompts)
    assert any(prompt.startswith("English:\nThe ") for prompt in prompts)
    where = [
        "where",
        str(tied_model),
        "--patch",
        str(tuned),
        "--data",
        str(short),
        "--template",
        "mixed",
        "--resamples",
        "50",
    ]
    assert main([*where, "--dtype", "float32", "--controls"]) == 0


def test_a_run_with_a_file_of_templates_is_that_of_its_content(run, capfd):
    folder, call, file = run
    config = json.loads((folder / "manifest.json").read_text()) if (folder / "manifest.json").is_file() else {}
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    assert "Catalan for {source}:" in text
    assert str(file) not in text + json.dumps(config)
    content = file.read_text(encoding="utf-8")
    try:
        file.write_text(json.dumps(["plain", "labels", "{source} in Catalan:"]), encoding="utf-8")
        capfd.readouterr()
        assert main([*call, "--out", str(folder), *RUN]) == 2
        assert "text.template" in capfd.readouterr().err
    finally:
        file.write_text(content, encoding="utf-8")
    assert main([*call, "--out", str(folder), *RUN]) == 0


def test_translate_has_one_prompt(run, capfd):
    folder = run[0]
    capfd.readouterr()
    assert main(["translate", str(folder), "The house"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert (
        "the training was made with a mix of prompts, but translations have one: name one of them by --template" in said
    )
    assert main(["translate", str(folder), "The house", "--template", "mixed"]) == 2
    assert "--template is a mix of prompts" in capfd.readouterr().err
    assert main(["translate", str(folder), "The house", "--template", "labels"]) == 0
    assert len(capfd.readouterr().out.splitlines()) >= 1


def test_the_card_of_an_export_shows_every_prompt(tied_model, tuned, tmp_path):
    out = tmp_path / "adapter"
    assert main(["export", str(tuned), "--to", "peft", "--out", str(out), "--base", str(tied_model)]) == 0
    card = (out / "README.md").read_text(encoding="utf-8")
    assert f"{len(MIX)} templates, each sentence in one of them" in card
    for line in ("### Response:", "How do you say this in Catalan?", "English:", "put from English into Catalan:"):
        assert f"    {line}" in card or line in card
    assert "_language}" not in card.split("## Settings", maxsplit=1)[0]
    code = card.split("## Use", maxsplit=1)[1]
    assert 'prompt = "Below is an instruction' in code


@pytest.mark.parametrize("content", ['["plain"]', '["plain", "nothing"]', "{", None])
@pytest.mark.parametrize("command", ["tune", "evaluate", "inspect", "reproduce"])
def test_a_bad_file_is_one_line_and_exit_code_2(command, content, tied_model, short, tmp_path, capfd):
    file = tmp_path / "mine.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    call = {
        "tune": ["tune", str(tied_model), "--train", str(short), "--out", str(tmp_path / "out")],
        "evaluate": ["evaluate", str(tied_model), "--data", str(short), "--out", str(tmp_path / "out")],
        "inspect": ["inspect", str(short), "--model", str(tied_model)],
        "reproduce": ["reproduce", "selectors", "--model", str(tied_model), "--store", str(tmp_path / "out")],
    }[command]
    capfd.readouterr()
    assert main([*call, "--template", f"mixed:{file}"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert str(file) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", ["ks", "lca", "gradient-sum", "occurrence"])
def test_select_without_the_template_takes_rows_of_no_prompt(tied_model, short, tuned, tmp_path, by):
    scan, out = tmp_path / "scan.parquet", tmp_path / "tickets.json"
    assert main(["scan", str(tied_model), str(tuned), "--out", str(scan)]) in {0, 1}
    text = ["--corpus", str(short), "--template", "mixed"]
    call = ["select", str(scan), "--by", by, *(["--attribution", str(tuned)] if by == "lca" else [])]
    assert main([*call, *text, "--top-k", "40", "--without", "template", "--out", str(out)]) == 0
    rows = Tickets.open(out).rows.tolist()
    assert (
        main([*call, *([] if by in {"ks", "lca"} else text), "--top-k", "384", "--out", str(tmp_path / "all.json")])
        == 0
    )
    ranked = Tickets.open(tmp_path / "all.json").rows.tolist()
    counts = SpanCounts.open(tuned)
    at = dict(zip(counts.ids.tolist(), counts.counts["instruction"].tolist(), strict=True))
    assert rows == [row for row in ranked if not at.get(row, 0)][:40]
    assert any(at.get(row, 0) for row in ranked[:40])
    assert (
        main([*call, "--top-k", "40", "--without", "template", "--out", str(out)]) == 2
    )  # the template of which text?
