"""The card of an export: the hub's own library reads it, its figures are the run's, and no hostile name breaks it."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from gguf_models import write
from huggingface_hub import ModelCard, metadata_eval_result
from markdown_it import MarkdownIt

from ks_lottery import RowPatch, UserError, export, open_checkpoint
from ks_lottery.cli.main import main
from ks_lottery.config.choices import EXPORTS
from ks_lottery.models.load import load_model
from ks_lottery.models.model_card import fenced
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch

HOSTILE = "`|\n---\nlicense: mit\n# <script>alert(1)</script> [x](http://y) \u202e\r\n|"
SETTINGS = {
    "method": "partial", "rule": {"selector": "ks", "alpha": 0.05}, "template": "alpaca", "source_language": "eng_Latn",
    "instruction": "Translate the following sentence from English to Catalan.", "target_language": "ca",
}  # fmt: skip
IDS = np.array([5, 77, 301])


def patch_of(checkpoint, **more):
    values = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    return RowPatch(IDS, values, checkpoint.describe(), {**SETTINGS, **more})


def run_around(patch, folder, method="partial"):
    """Write what a run has of a patch: its figures are invented here, so that the card can only have read them."""
    home = folder / "run"
    (home / method).mkdir(parents=True)
    patch.save(home / method)
    evaluation = {
        "kind": "evaluation", "format": 1, "made_from": {"made": patch.content}, "sentences": 17,
        "scores": {"metrics": {"chrf": {"score": 31.25, "interval": [30.5, 32.75], "signature": "nrefs:1|nc:6"}}},
        "first_line": {"metrics": {"chrf": {"score": 33.5, "interval": None}}},
        "ended": {"share": 0.75, "interval": [0.5, 0.875], "count": 3, "outputs": 4},
        "next_token": {
            "accuracy": 0.4375, "accuracy_interval": [0.40625, 0.46875], "loss": 2.125, "loss_interval": None,
            "positions": 383, "confidence": 0.95, "without_end": {"accuracy": 0.28125, "accuracy_interval": None},
        },
        "forgetting": {
            "sentences": 19, "loss_difference": 0.3125, "loss_interval": [0.125, 0.5], "accuracy_difference": -0.0625,
            "untouched": 2, "identical": 2,
        },
    }  # fmt: skip
    (home / "evaluation").mkdir()
    (home / "evaluation" / f"{method}.json").write_text(json.dumps(evaluation))
    original = {"kind": "evaluation", "format": 1, "next_token": {"accuracy": 0.1875}}
    (home / "evaluation" / "original.json").write_text(json.dumps(original))
    said = "With confidence 0.95 (over the draw of 14 sentences from the held-out text of /secret/place/pairs.tsv), it agrees."
    certificate = {
        "kind": "certificate", "format": 1, "tau": "empirical", "counted": {"bound": 20, "guarantee": 7},
        "guarantees": [
            {"model": method, "bounded": "agreement", "statement": said, "positions": 7, "delta": 0.05},
            {"model": "another", "bounded": "agreement", "statement": "Of another model.", "positions": None},
        ],
        "levels": [{"name": method, "bounds": {"empirical": {"rules": {"theorem": {
            "accuracy": 0.21875, "rate": 0.125, "positions": 93}}}}}],
    }  # fmt: skip
    (home / "certificate").mkdir()
    (home / "certificate" / f"{method}.json").write_text(json.dumps(certificate))
    text = {"train": 69, "calibration": 14, "test": 17}
    (home / "summary.json").write_text(json.dumps({"text": text, "model": {"dtype": "bfloat16"}}))
    (home / "config.yaml").write_text(
        "text: {train: /secret/place/pairs.tsv, source_language: en, target_language: ca}\nselect: {alpha: 0.05}\n"
    )
    return home / method


def card_of(folder):
    """Read the card with the hub's library, which raises where the front matter is not what the hub takes."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return text, ModelCard(text, ignore_metadata_errors=False)


def section(text, title):
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def code_of(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


LIBRARY = {"peft": "peft", "lora": "peft", "merged": "transformers", "gguf": "llama.cpp", "gguf-lora": "llama.cpp"}
USED_IN = {
    "peft": {"PEFT"}, "lora": {"PEFT", "vLLM"}, "merged": {"transformers", "vLLM"}, "gguf": {"llama.cpp"},
    "gguf-lora": {"llama.cpp"},
}  # fmt: skip


@pytest.mark.parametrize("to", EXPORTS)
def test_every_export_has_a_card_that_the_hub_reads(to, untied_model, tmp_path, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(tmp_path / "cache"))
    base = write(tmp_path / "base.gguf", tied=False) if to.startswith("gguf") else untied_model
    checkpoint = open_checkpoint(str(base))
    width = checkpoint.block(checkpoint.embedding, 0, 1).shape[1]
    patch = RowPatch(np.array([5, 77, 200]), torch.randn(3, width), checkpoint.describe(), SETTINGS)
    export(checkpoint, run_around(patch, tmp_path), tmp_path / "out", to=to)
    text, card = card_of(tmp_path / "out")
    data = card.data
    assert data.library_name == LIBRARY[to]
    assert data.language == ["en", "ca"]
    assert data.pipeline_tag == "text-generation"
    assert {"ks-lottery", "partial", "translation"} <= set(data.tags)
    assert data.base_model is None  # a folder of this machine is nothing that the hub knows
    assert set(re.findall(r"^In (\S+):$", section(text, "Use"), re.MULTILINE)) == USED_IN[to]
    assert "3 rows, chosen by ks (p of the KS test, ascending) at level 0.05" in section(text, "Rows")
    measured = {result.metric_type: result.metric_value for result in data.eval_results or ()}
    # What rounds or runs elsewhere was not measured itself.
    exact = to in {"peft", "lora", "merged"}
    assert measured == ({"accuracy": 0.4375, "chrf": 31.25} if exact else {})
    assert ("it agrees" in section(text, "Guarantee")) == exact


def test_the_figures_are_those_of_the_run(untied_model, tmp_path):
    checkpoint = open_checkpoint(str(untied_model))
    export(checkpoint, run_around(patch_of(checkpoint), tmp_path), tmp_path / "out", to="peft")
    text, card = card_of(tmp_path / "out")
    assert "pairs.tsv: 69 to train, 14 to calibrate, 17 to test" in section(text, "Data")
    scores = section(text, "Scores")
    for line in (
        "| next-token accuracy | 0.4375 | 0.4062-0.4688 | 0.1875 |",
        "| the same without the ends of sentences | 0.2812 | - | - |",
        "| chrF++ | 31.25 | 30.5-32.75 | - |",
        "| chrF++ of the first line | 33.5 | - | - |",
        "| outputs that ended by themselves | 0.75 | 0.5-0.875 | - |",
        "the loss changes by +0.3125 (+0.1250 to +0.5000) nats a token",
        "383 target positions under teacher forcing, 4 translated, of which 3 ended",
        "transformers, in bfloat16",
    ):
        assert line in scores, line
    said = section(text, "Guarantee")
    assert (
        "With confidence 0.95 (over the draw of 14 sentences from the held-out text of pairs.tsv), it agrees." in said
    )
    assert "It counts the first 7 positions of a sentence." in said
    assert "21.87% of the positions are certified, over the first 20 positions of each test sentence" in said
    assert "Of another model" not in said
    assert "/secret" not in text
    # As the hub's library itself writes a result.
    (model,) = card.data.to_dict()["model-index"]
    own = metadata_eval_result(
        model_pretty_name=model["name"], task_pretty_name="Translation", task_id="translation",
        metrics_pretty_name="chrF++", metrics_id="chrf", metrics_value=31.25, metrics_config="nrefs:1|nc:6",
        dataset_pretty_name="pairs.tsv", dataset_id="ks-lottery-run", dataset_split="test",
    )  # fmt: skip
    (result,) = own["model-index"][0]["results"]
    assert result["metrics"][0].pop("verified") is False  # which the hub alone can change
    assert [{**each, "metrics": each["metrics"][1:]} for each in model["results"]] == [result]
    (chrf,) = [result for result in card.data.eval_results if result.metric_type == "chrf"]
    assert (chrf.metric_config, chrf.dataset_name, chrf.dataset_split) == ("nrefs:1|nc:6", "pairs.tsv", "test")


def test_figures_of_other_rows_are_not_shown(untied_model, tmp_path):
    checkpoint = open_checkpoint(str(untied_model))
    folder = run_around(patch_of(checkpoint), tmp_path)
    opened = RowPatch.open(folder)
    for name, patch in (("changed", replace(opened, values=opened.values + 1)), ("alone", patch_of(checkpoint))):
        export(checkpoint, patch, tmp_path / name, to="peft")
        text, card = card_of(tmp_path / name)
        assert "Nothing was measured of this where it was exported" in section(text, "Scores")
        assert section(text, "Guarantee") == ""
        assert card.data.eval_results is None


def test_a_damaged_run_is_one_sentence_and_writes_nothing(untied_model, tmp_path):
    checkpoint = open_checkpoint(str(untied_model))
    folder = run_around(patch_of(checkpoint), tmp_path)
    (folder.parent / "evaluation" / "partial.json").write_text("{")
    with pytest.raises(UserError, match=r"partial\.json is not valid JSON"):
        export(checkpoint, folder, tmp_path / "out", to="peft")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hostile_model(untied_model, tmp_path):
    """A base with a hostile name and hostile tokens, and a README that names its licence."""
    import shutil

    folder = tmp_path / "a `b` | <i> --- [c](d)"
    shutil.copytree(untied_model, folder)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    names = {i: token for token, i in content["model"]["vocab"].items()}
    for i in (77, 301):
        vocabulary, token = content["model"]["vocab"], f"{HOSTILE}{i}"
        content["model"]["merges"] = [m for m in content["model"]["merges"] if names[i] not in (*m, "".join(m))]
        vocabulary[token] = vocabulary.pop(names[i])
        content["added_tokens"].append({
            "id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True,
        })  # fmt: skip
    file.write_text(json.dumps(content), encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# x\n")
    return folder


def test_nothing_hostile_breaks_the_card(hostile_model, tmp_path):
    checkpoint = open_checkpoint(str(hostile_model))
    patch = patch_of(
        checkpoint, method=HOSTILE, instruction=HOSTILE, rule={"selector": HOSTILE, "size": HOSTILE},
        template=f"{HOSTILE}{{source}}\n```\n~~~~\n</pre>", source_language=HOSTILE,
    )  # fmt: skip
    patch = replace(patch, base={"name": HOSTILE, "fingerprint": HOSTILE})
    folder = run_around(patch, tmp_path)
    (folder.parent / "config.yaml").write_text(json.dumps({"text": {"train": HOSTILE, "target_language": HOSTILE}}))
    saved = json.loads((folder.parent / "certificate" / "partial.json").read_text())
    saved["guarantees"][0]["statement"] = HOSTILE
    (folder.parent / "certificate" / "partial.json").write_text(json.dumps(saved))
    export(checkpoint, folder, tmp_path / "out", to="peft", force=True)
    text, card = card_of(tmp_path / "out")
    assert card.data.license == "mit"
    assert card.data.eval_results is not None
    assert "\n---\n" in text
    assert text.count("\n---\n") == 1  # the end of the front matter, and no other
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(card.text)
    inline = [child for token in tokens for child in token.children or ()]
    assert [t.content for t in (*tokens, *inline) if t.type.startswith("html")] == []
    assert [child.attrs for child in inline if child.type in {"link_open", "image"}] == []
    titles = [after.content for t, after in pairwise(tokens) if t.type == "heading_open" and t.tag == "h2"]
    assert titles == [
        "Base model", "Method", "Rows", "Data", "Scores", "Guarantee", "Prompt", "Use", "License", "Settings",
    ]  # fmt: skip
    assert len([t for t in tokens if t.type == "heading_open" and t.tag == "h1"]) == 1
    rows = section(text, "Rows").strip().splitlines()
    assert [line.count(" | ") for line in rows[:5]] == [1] * 5
    assert "\u202e" not in text.replace(section(text, "Prompt"), "")  # which is the prompt, character for character
    assert "script" in rows[3]


def test_a_fence_is_longer_than_what_it_holds():
    for run in ("", "`", "```", "`" * 9):
        (block,) = [t for t in MarkdownIt().parse(fenced(f"a\n{run}\nb\n", "sh")) if t.type == "fence"]
        assert block.content == f"a\n{run}\nb\n"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("to", ["peft", "lora", "merged"])
def test_the_python_of_the_card_answers_as_the_patch_does(to, untied_model, tmp_path, monkeypatch, capsys):
    checkpoint = open_checkpoint(str(untied_model))
    patch = patch_of(checkpoint)
    export(checkpoint, patch, tmp_path / "out", to=to)
    text, _ = card_of(tmp_path / "out")
    (code,) = code_of(section(text, "Use"), "python")
    monkeypatch.chdir(tmp_path / "out")
    names: dict[str, object] = {}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)
    answer = capsys.readouterr().out
    loaded = load_model(checkpoint, dtype="float32", device="cpu")
    given = loaded.tokenizer(names["prompt"], return_tensors="pt")
    assert "Your session has expired." in names["prompt"]

    def answered():
        output = loaded.lm.generate(**given, do_sample=False, max_new_tokens=64)
        return loaded.tokenizer.decode(output[0, given["input_ids"].shape[1] :], skip_special_tokens=True)

    with quiet():
        before = answered()
        with installed_patch(loaded.lm, patch):
            wanted = answered()
    assert answer.strip() == wanted.strip() != before.strip()


def test_the_command_shows_the_figures_too(untied_model, tmp_path):
    """The command opens the patch and gives it on, which must not lose where it is."""
    checkpoint = open_checkpoint(str(untied_model))
    folder = run_around(patch_of(checkpoint), tmp_path)
    for to in ("lora", "merged"):
        assert main(["export", str(folder), "--to", to, "--out", str(tmp_path / to)]) == 0
        assert card_of(tmp_path / to)[1].data.eval_results is not None


def test_a_base_of_the_hub_and_its_licence_are_named(untied_model, tmp_path, monkeypatch):
    checkpoint = replace(open_checkpoint(str(untied_model)), name="owner/model-1.5")
    export(checkpoint, patch_of(checkpoint), tmp_path / "out", to="peft")
    assert card_of(tmp_path / "out")[1].data.base_model == "owner/model-1.5"
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "model-1.5").mkdir()
    monkeypatch.chdir(tmp_path)  # where the same name is a folder
    export(checkpoint, patch_of(checkpoint), tmp_path / "again", to="peft")
    assert card_of(tmp_path / "again")[1].data.base_model is None
