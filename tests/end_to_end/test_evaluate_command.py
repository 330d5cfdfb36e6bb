"""The command evaluate: what it leaves, held against sacrebleu and plain transformers, that it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import sacrebleu
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from ks_lottery import RowPatch, UserError, evaluate, open_checkpoint, read_corpus, tune
from ks_lottery.cli.main import main
from ks_lottery.corpus import language_identity
from ks_lottery.corpus.batches import encode
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.models.load import load_model, load_tokenizer
from ks_lottery.models.quiet import quiet
from ks_lottery.store.files import read_json_lines


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("ks_lottery.evaluation.spm.fetched", lambda url: "there is no network")


def fails(capfd, arguments) -> str:
    capfd.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def text(text_file, tmp_path_factory):
    file = tmp_path_factory.mktemp("short") / "pairs.tsv"
    file.write_text("".join(text_file.read_text(encoding="utf-8").splitlines(keepends=True)[:10]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def made(untied_model, text, tmp_path_factory):
    """A row patch and adapters of LoRA and prefix tuning."""
    folder = tmp_path_factory.mktemp("made")
    corpus = read_corpus(text, source_language="en", target_language="ca")
    loaded = load_model(open_checkpoint(str(untied_model)), dtype="float32")
    for method, settings in (("embed", {}), ("lora", {"learning_rate": 1e-2}), ("prefix", {})):
        found = tune(loaded, corpus, method=method, epochs=2, **settings)
        found.save(folder / method)
    return folder


@pytest.fixture
def call(untied_model, text):
    flags = ["--data", str(text), "--dtype", "float32", "--max-new-tokens", "6", "--num-beams", "2"]
    return ["evaluate", str(untied_model), *flags]


def answers_by_hand(model, examples):
    first, logs = [], []
    for example in examples:
        with torch.no_grad(), quiet():
            logits = model(input_ids=torch.tensor([example.sequence[:-1]])).logits[0, -len(example.response) :]
        first += logits.argmax(-1).tolist()
        picked = logits.double().log_softmax(-1)[torch.arange(len(example.response)), list(example.response)]
        logs += picked.tolist()
    return first, logs


def test_scores_and_predictions(call, untied_model, text, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*call, "--metrics", "bleu,chrf,accuracy", "--positions", "5", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "sentences/s" in shown
    assert "nrefs:1|bs:2000|seed:0" in shown
    lines = read_json_lines(out / "hypotheses.jsonl")
    corpus = read_corpus(text, source_language="en", target_language="ca")
    assert [line["reference"] for line in lines] == [pair.target for pair in corpus]
    content = json.loads((out / "evaluation.json").read_text())
    wanted = sacrebleu.corpus_chrf([x["hypothesis"] for x in lines], [[x["reference"] for x in lines]], word_order=2)
    assert content["scores"]["metrics"]["chrf"]["score"] == pytest.approx(wanted.score)
    model = AutoModelForCausalLM.from_pretrained(untied_model)
    examples = [e.cut(5) for e in encode(load_tokenizer(open_checkpoint(str(untied_model))), corpus)[0]]
    first, logs = answers_by_hand(model, examples)
    found = Predictions.open(out / "predictions.parquet")
    assert found.first.tolist() == first
    assert content["next_token"]["accuracy"] == np.mean(np.array(first) == found.label)
    assert content["next_token"]["loss"] == pytest.approx(-np.mean(logs), abs=1e-5)
    low, high = content["next_token"]["loss_interval"]
    assert low < content["next_token"]["loss"] < high


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_an_adapter_answers_as_in_peft(call, untied_model, text, made, method, tmp_path):
    out = tmp_path / "out"
    assert main([*call, "--adapter", str(made / method), "--metrics", "accuracy,bleu", "--out", str(out)]) == 0
    with quiet():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(untied_model), made / method).eval()
    corpus = read_corpus(text, source_language="en", target_language="ca")
    examples = encode(load_tokenizer(open_checkpoint(str(untied_model))), corpus)[0]
    first, logs = answers_by_hand(model, examples)
    found = Predictions.open(out / "predictions.parquet")
    assert found.first.tolist() == first
    assert found.log_p == pytest.approx(logs, abs=1e-4)
    plain = evaluate(open_checkpoint(str(untied_model)), corpus, metrics=["accuracy"])
    assert plain.predictions.log_p.tolist() != found.log_p.tolist()


def test_a_patch_is_compared_with_the_original(call, made, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    metrics = ["--metrics", "spbleu,chrf"]
    assert main([*call, *metrics, "--out", str(one)]) == 0
    more = ["--patch", str(made / "embed"), "--against", str(one), "--language-check", "--out", str(two)]
    assert main([*call, *metrics, *more]) == 0
    shown = capsys.readouterr().out
    assert "paired bootstrap against" in shown
    assert shown.count("spBLEU (FLORES-200) is missing") == 2  # once each time, and everything else is there
    content = json.loads((two / "evaluation.json").read_text())
    (difference,) = content["comparison"]["differences"]
    scores = [json.loads((folder / "scores.json").read_text())["metrics"]["chrf"]["score"] for folder in (one, two)]
    assert difference["difference"] == pytest.approx(scores[1] - scores[0])  # new minus old
    assert (difference["system"], difference["baseline"]) == (str(two), str(one))
    assert content["language"]["outputs"] == 10
    assert content["references_language"]["package"] == "py3langid"


def test_accuracy_is_compared_too_new_minus_old(call, made, tmp_path, capsys):
    """The gap is that of the two files; without translations, with predictions alone, it is compared as well."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*call, "--metrics", "accuracy", "--out", str(one)]) == 0
    more = ["--patch", str(made / "embed"), "--against", str(one), "--out", str(two)]
    assert main([*call, "--metrics", "accuracy", *more]) == 0
    assert "this - other" in capsys.readouterr().out
    (gap,) = json.loads((two / "evaluation.json").read_text())["comparison"]["differences"]
    new, old = (Predictions.open(folder / "predictions.parquet") for folder in (two, one))
    assert gap["difference"] == pytest.approx(100 * (new.correct.mean() - old.correct.mean()))
    low, high = gap["interval"]
    assert low <= gap["difference"] <= high
    assert (low > 0 or high < 0) == (gap["p_value"] <= 0.05)
    three = [*call, "--metrics", "chrf", "--out", str(tmp_path / "three")]
    assert main([*three, "--against", str(one)]) == 2
    assert "holds no hypotheses.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["plain", "pairs", "lines"])
def test_forgetting_on_general_text(call, made, text, tmp_path, capsys, kind):
    """Plain sentences and the source side of the same pairs are one general text."""
    pairs = read_corpus(text, source_language="en", target_language="ca")
    plain = tmp_path / ("general.tsv" if kind == "lines" else "general.txt")
    plain.write_text("".join(f"{pair.source}\n" for pair in pairs), encoding="utf-8")
    general = [
        "--general",
        str(text if kind == "pairs" else plain),
        *(["--general-format", "lines"] * (kind == "lines")),
    ]
    out = tmp_path / "out"
    metrics = ["--metrics", "chrf,accuracy", "--patch", str(made / "embed")]
    assert main([*call, *metrics, *general, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    content = json.loads((out / "evaluation.json").read_text())
    forgotten = content["forgetting"]
    found = evaluate(
        call[1], pairs, made / "embed", metrics=["accuracy"], general=[pair.source for pair in pairs], dtype="float32"
    ).forgetting
    assert forgotten == json.loads(json.dumps(found.content()))
    assert f"{forgotten['loss_difference']:+.4f}" in shown
    assert "hold no trained row" in shown
    assert f"({content['ended']['count']} of 10) ended by themselves" in shown
    assert "first line" in shown
    assert "without the end-of-sentence positions" in shown
    assert main([*call, *metrics, *general, "--out", str(out), "--json"]) == 0  # the same folder, resumed
    assert json.loads(capsys.readouterr().out) == {
        name: content[name] for name in content if name in found_keys(content)
    }


def found_keys(content):
    return content.keys() - {"kind", "format", "made_from", "settings", "versions"}


def test_general_text_that_cannot_be_read_is_refused(call, tmp_path, capfd):
    out = ["--metrics", "accuracy", "--out", tmp_path / "out"]
    assert "nowhere.txt" in fails(capfd, [*call, *out, "--general", tmp_path / "nowhere.txt"])
    (tmp_path / "empty.txt").write_text("\n\n")
    assert "holds no sentence" in fails(capfd, [*call, *out, "--general", tmp_path / "empty.txt"])
    assert "--general-format describes a general text" in fails(capfd, [*call, *out, "--general-format", "tsv"])
    assert not (tmp_path / "out").exists()


def test_a_broken_evaluation_goes_on_to_the_same_bytes(call, tmp_path, monkeypatch):
    import ks_lottery.evaluation.translate as module

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ["--metrics", "bleu", "--batch-size", "3"]
    assert main([*call, *more, "--out", str(whole)]) == 0
    plain, batches = module.generate, []

    def stops(lm, prompts, *rest):
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(len(prompts))
        return plain(lm, prompts, *rest)

    monkeypatch.setattr(module, "generate", stops)
    assert main([*call, *more, "--out", str(broken)]) == 130
    monkeypatch.setattr(
        module, "generate", lambda lm, prompts, *rest: batches.append(len(prompts)) or plain(lm, prompts, *rest)
    )
    assert main([*call, *more, "--out", str(broken)]) == 0
    assert batches == [3, 3, 3, 1]
    for name in ("hypotheses.jsonl", "scores.json", "evaluation.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert main([*call, *more, "--out", str(broken)]) == 0
    assert batches == [3, 3, 3, 1]


def test_some_sentences_are_translated_and_all_are_predicted(call, text, tmp_path, capfd):
    out = tmp_path / "out"
    capfd.readouterr()
    flags = ["--metrics", "chrf,accuracy", "--translations", "3", "--json", "--out", str(out)]
    assert main([*call, *flags]) == 0
    printed = json.loads(capfd.readouterr().out)
    saved = json.loads((out / "evaluation.json").read_text())
    assert printed == {name: saved[name] for name in printed}
    corpus = read_corpus(text, source_language="en", target_language="ca")
    lines = read_json_lines(out / "hypotheses.jsonl")
    assert [line["source"] for line in lines] == [pair.source for pair in corpus.pairs[:3]]
    wanted = sacrebleu.corpus_chrf([x["hypothesis"] for x in lines], [[x["reference"] for x in lines]], word_order=2)
    assert printed["scores"]["metrics"]["chrf"]["score"] == pytest.approx(wanted.score)
    assert len(np.unique(Predictions.open(out / "predictions.parquet").sentence)) == len(corpus)


def test_what_cannot_be_evaluated_is_refused(call, tied_model, made, text, tmp_path, capfd):
    out = ["--out", str(tmp_path / "out")]
    assert "--metrics is 'blue', but must be one of spbleu," in fails(capfd, [*call, "--metrics", "blue", *out])
    assert "length_penalt is unknown" in fails(capfd, [*call, "--generation", "length_penalt=1", *out])
    assert "takes NAME=VALUE" in fails(capfd, [*call, "--generation", "length_penalty", *out])
    assert "--num-beams is 0" in fails(capfd, [*call, "--num-beams", "0", *out])
    assert "confidence is 2" in fails(capfd, [*call, "--confidence", "2", *out])
    assert "holds no hypotheses.jsonl" in fails(capfd, [*call, "--against", tmp_path / "none", *out])
    assert "no SentencePiece model of spBLEU" in fails(capfd, [*call, "--spm", f"flores1={text}", *out])
    assert str(text) in fails(capfd, [*call, "--spm", f"flores101={text}", *out])
    assert "give the base that the patch belongs to" in fails(
        capfd, ["evaluate", tied_model, *call[2:], "--patch", made / "embed", *out]
    )
    assert "does not exist" in fails(capfd, [*call, "--adapter", tmp_path / "none", *out])
    single = tmp_path / "single.txt"
    single.write_text("One sentence without a reference\n")
    assert "single.txt" in fails(capfd, ["evaluate", call[1], "--data", single, *out])
    (tmp_path / "long.tsv").write_text(f"{'word ' * 600}\tparaula\n")
    assert "512 tokens" in fails(capfd, ["evaluate", call[1], "--data", tmp_path / "long.tsv", "--no-clean", *out])
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    assert "is not the folder of an evaluation" in fails(
        capfd, [*call, "--metrics", "accuracy", "--out", tmp_path / "full"]
    )
    assert main([*call, "--metrics", "accuracy", *out]) == 0
    before = (tmp_path / "out" / "evaluation.json").read_bytes()
    more = ["--patch", made / "embed", "--metrics", "accuracy"]
    assert "another patch or adapter" in fails(capfd, [*call, *more, *out])
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == before


def test_what_needs_no_model_is_checked_before_one_is_loaded(
    call, tied_model, made, text, tmp_path, capfd, monkeypatch
):
    def load(*_args, **_more):
        raise AssertionError("the model is loaded")

    done = tmp_path / "done"
    assert main([*call, "--metrics", "accuracy", "--out", str(done)]) == 0
    monkeypatch.setattr("ks_lottery.models.load.load_model", load)
    out = ["--out", tmp_path / "out"]
    assert "length_penalt is unknown" in fails(capfd, [*call, "--generation", "length_penalt=1", *out])
    assert "is a setting of its own" in fails(capfd, [*call, "--generation", "num_beams=1", *out])
    (tmp_path / "long.tsv").write_text(f"{'word ' * 600}\tparaula\n")
    assert "512 tokens" in fails(capfd, ["evaluate", call[1], "--data", tmp_path / "long.tsv", "--no-clean", *out])
    assert "is not the folder of an evaluation" in fails(capfd, [*call, "--out", made / "embed"])
    more = ["--patch", made / "embed", "--metrics", "accuracy"]
    assert "another patch or adapter" in fails(capfd, [*call, *more, "--out", done])
    assert "another text" in fails(capfd, [*call, "--limit", "3", "--out", done])
    monkeypatch.setattr(language_identity.util, "find_spec", lambda name: None)
    language_identity.identifier.cache_clear()
    assert "pip install 'ks-lottery[language]'" in fails(capfd, [*call, "--language-check", *out])
    assert not (tmp_path / "out").exists()


def test_packages_files_and_folders_are_checked_before_the_model_is_opened(
    call, text, made, tmp_path, capfd, monkeypatch
):
    def opened(*_args, **_more):
        raise AssertionError("the model is opened")

    assert main([*call, "--metrics", "chrf", "--translations", "2", "--out", str(tmp_path / "other")]) == 0
    monkeypatch.setattr("ks_lottery.models.load.open_checkpoint", opened)
    out = ["--out", tmp_path / "out"]
    against = [*call, "--metrics", "chrf", "--against", tmp_path / "other"]
    assert "was scored on other references than this text" in fails(capfd, [*against, *out])
    assert "there is no network" in fails(capfd, [*call, "--metrics", "spbleu", *out])
    assert str(text) in fails(capfd, [*call, "--metrics", "chrf", "--spm", f"flores200={text}", *out])
    assert "has no adapter_config.json" in fails(capfd, [*call, "--metrics", "chrf", "--adapter", made / "embed", *out])
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "holds no adapter_model" in fails(capfd, [*call, "--metrics", "chrf", "--adapter", tmp_path / "half", *out])
    monkeypatch.setattr(language_identity.util, "find_spec", lambda name: None)
    language_identity.identifier.cache_clear()
    assert "pip install 'ks-lottery[language]'" in fails(capfd, [*call, "--metrics", "chrf", "--language-check", *out])
    capfd.readouterr()
    assert main([str(word) for word in [*against, "--translations", "2", *out]]) == 70  # the same text passes
    assert "the model is opened" in capfd.readouterr().err


def test_where_no_metric_that_was_asked_for_is_scored_the_exit_code_is_2(call, untied_model, text, tmp_path, capfd):
    out = ["--out", str(tmp_path / "out")]
    assert "no other metric was asked for: there is no" in fails(capfd, [*call, "--metrics", "spbleu", *out])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no other metric was asked for"):
        evaluate(untied_model, text, metrics=["spbleu"])
    assert main([*call, "--metrics", "spbleu", "chrf", "--translations", "2", *out]) == 0
    said = capfd.readouterr().out
    assert said.index("One metric will be missing: there is no") < said.index("open model and text")


def test_an_adapter_of_a_resized_vocabulary_is_measured_over_its_base_alone(call, untied_model, text, tmp_path, capfd):
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = AutoModelForCausalLM.from_pretrained(untied_model)
        base.resize_token_embeddings(390)
        base.save_pretrained(tmp_path / "base")
        config = LoraConfig(
            r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
        )
        adapted = get_peft_model(base, config)
        adapted.get_input_embeddings().weight.data += 0.1
        adapted.save_pretrained(tmp_path / "adapter")
    for file in untied_model.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "base")
    more = ["--adapter", str(tmp_path / "adapter"), "--metrics", "accuracy"]
    assert main(["evaluate", str(tmp_path / "base"), *call[2:], *more, "--out", str(tmp_path / "out")]) == 0
    said = fails(capfd, [*call, *more, "--out", str(tmp_path / "no")])
    assert "size mismatch for" in said
    assert "[390, 32]" in said
    assert said.endswith("give the base it belongs to")


def test_in_python(untied_model, text, made):
    corpus = read_corpus(text, source_language="en", target_language="ca")
    base = open_checkpoint(str(untied_model))
    patch = RowPatch.open(made / "embed")
    found = evaluate(base, corpus, patch, metrics=["chrf", "accuracy"], max_new_tokens=4, num_beams=1)
    assert len(found.hypotheses) == 10
    assert set(found.scores.content()["metrics"]) == {"chrf"}
    assert found.next_token["positions"] == len(found.predictions)
    assert evaluate(base, corpus, metrics=["accuracy"]).hypotheses is None


def test_separators_in_sentences_end_no_line(untied_model, tmp_path, capfd):
    """From a text with them over saved translations to a comparison, the second time from the folder."""
    rows = [(f"The house\u2028is old\x85 number {n}", f"La casa\x0bés\x0c vella\x1c número {n}") for n in range(4)]
    file = tmp_path / "a.tsv"
    file.write_bytes("".join(f"{source}\t{target}\r\n" for source, target in rows).encode())
    call = [
        "evaluate",
        str(untied_model),
        "--data",
        str(file),
        "--dtype",
        "float32",
        "--max-new-tokens",
        "3",
        "--num-beams",
        "1",
    ]
    call += ["--metrics", "bleu", "--resamples", "20"]
    assert main([*call, "--out", str(tmp_path / "one")]) == 0
    for _ in range(2):
        assert main([*call, "--out", str(tmp_path / "two"), "--against", str(tmp_path / "one")]) == 0
        assert "paired bootstrap against" in capfd.readouterr().out
    kept = read_json_lines(tmp_path / "two" / "hypotheses.jsonl")
    assert [(row["source"], row["reference"]) for row in kept] == rows


def test_bleu_of_chinese_is_split_into_characters(untied_model, tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("The house is old.\t这座房子又旧又冷。\nThe dog eats.\t狗在花园里吃东西。\n", encoding="utf-8")
    call = [
        "evaluate",
        str(untied_model),
        "--data",
        str(file),
        "--target-language",
        "zho_Hans",
        "--max-new-tokens",
        "3",
    ]
    call += ["--metrics", "bleu", "--resamples", "20", "--dtype", "float32"]
    assert main([*call, "--out", str(tmp_path / "one")]) == 0
    assert main([*call, "--out", str(tmp_path / "two"), "--against", str(tmp_path / "one")]) == 0
    saved = json.loads((tmp_path / "two" / "scores.json").read_text(encoding="utf-8"))
    rows = read_json_lines(tmp_path / "two" / "hypotheses.jsonl")
    theirs = sacrebleu.metrics.BLEU(trg_lang="zh").corpus_score(
        [row["hypothesis"] for row in rows], [[row["reference"] for row in rows]]
    )
    assert saved["metrics"]["bleu"]["score"] == theirs.score
    assert "tok:zh" in saved["metrics"]["bleu"]["signature"]
