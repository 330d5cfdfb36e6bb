"""`translate` with every folder that tune and export write: each answers as in plain transformers."""

from __future__ import annotations

import io
import warnings

import pytest
import torch

from ks_lottery import UserError, read_corpus, to_merged, to_peft, tune
from ks_lottery.cli.main import main
from ks_lottery.corpus.prompts import instruction, render_prompt
from ks_lottery.models.load import load_model
from ks_lottery.models.quiet import quiet
from ks_lottery.recipes.translation import translate_sentences

SENTENCES = ["The house is old", "This page does not exist"]
LIMIT = 6


def tuned_here(base, text_file, method, folder, **more):
    """Tune by the command's way in the library and save, as the command does."""
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=24)
    loaded = load_model(base, dtype="float32", device="cpu")
    settings = {"learning_rate": 3e-2, "epochs": 1, "template": "plain", **more}
    product = tune(loaded, text, method=method, **settings)
    product.save(folder)
    return product


def plain_answers(model, folder):
    """Return greedy answers of plain transformers in the prompt of the training."""
    from transformers import AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for sentence in SENTENCES:
        prompt = render_prompt("plain", instruction("en", "ca"), sentence)
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode(), quiet():
            output = model.generate(**inputs, do_sample=False, max_new_tokens=LIMIT, pad_token_id=0)
        answers.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


def with_peft(base, adapter):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(adapter))


def answers_of(model, **more):
    settings = {"num_beams": 1, "max_new_tokens": LIMIT, "dtype": "float32", **more}
    return [answer.small for answer in translate_sentences(model, SENTENCES, **settings)]


@pytest.fixture(scope="module")
def folders(tied_model, text_file, tmp_path_factory):
    """Return every kind of folder that tune and export write, with the answers of plain transformers."""
    from transformers import AutoModelForCausalLM

    home = tmp_path_factory.mktemp("products")
    patch = tuned_here(tied_model, text_file, "random-reachable", home / "patch", size=40)
    to_peft(tied_model, patch, home / "patch-peft")
    to_merged(tied_model, patch, home / "patch-merged")
    lora = tuned_here(tied_model, text_file, "lora", home / "lora")
    to_merged(tied_model, lora, home / "lora-merged")
    tuned_here(tied_model, text_file, "full", home / "full", learning_rate=1e-3)
    with quiet():
        merged, full = (
            AutoModelForCausalLM.from_pretrained(home / name, dtype=torch.float32) for name in ("patch-merged", "full")
        )
    rows = plain_answers(merged, tied_model)
    adapted = plain_answers(with_peft(tied_model, home / "lora"), tied_model)
    wanted = {
        "patch": rows, "patch-peft": rows, "patch-merged": rows, "lora": adapted, "lora-merged": adapted,
        "full": plain_answers(full, tied_model),
    }  # fmt: skip
    return home, wanted


@pytest.mark.parametrize("name", ["patch", "patch-peft", "patch-merged", "lora", "lora-merged", "full"])
def test_every_folder_is_translated_with_its_base_and_its_prompt(name, folders):
    home, wanted = folders
    assert answers_of(home / name) == wanted[name]


def test_the_folders_differ_from_the_original(folders, tied_model):
    from transformers import AutoModelForCausalLM

    home, wanted = folders
    with quiet():
        original = plain_answers(AutoModelForCausalLM.from_pretrained(tied_model, dtype=torch.float32), tied_model)
    for name, answers in wanted.items():
        assert answers != original, name
        found = translate_sentences(
            home / name, SENTENCES, compare=True, num_beams=1, max_new_tokens=LIMIT, dtype="float32"
        )
        assert [answer.original for answer in found] == original, name


def test_a_model_with_its_patch_or_adapter_is_the_same(folders, tied_model):
    home, wanted = folders
    assert answers_of(tied_model, patch=home / "patch") == wanted["patch"]
    assert answers_of(tied_model, adapter=home / "lora") == wanted["lora"]
    given = {"source_language": "en", "target_language": "ca", "template": "plain"}
    assert answers_of(home / "lora-merged", **given) == wanted["lora-merged"]


def test_the_prompt_is_that_of_the_training_unless_another_is_given(folders, tied_model):
    home, wanted = folders
    others = ({"target_language": "German"}, {"instruction": "Say it."}, {"template": "alpaca"})
    answers = [answers_of(home / "patch", **more) for more in others]
    assert any(each != wanted["patch"] for each in answers)


def test_what_is_missing_is_named(folders, tied_model, untied_model, tmp_path):
    home, _ = folders
    with pytest.raises(UserError, match="has no record of its languages: give `source_language` and `target_language`"):
        answers_of(tied_model)
    assert len(answers_of(tied_model, source_language="en", target_language="de")) == 2
    with pytest.raises(UserError, match="nothing to compare it with"):
        answers_of(tied_model, source_language="en", target_language="de", compare=True)
    with pytest.raises(UserError, match="the base that the patch belongs to"):
        answers_of(untied_model, patch=home / "patch")
    with pytest.raises(UserError, match="the base that the adapter belongs to"):
        answers_of(untied_model, adapter=home / "lora")
    with pytest.raises(UserError, match="is a whole model: give it in place of"):
        answers_of(tied_model, adapter=home / "full")
    with pytest.raises(UserError, match="exclude each other"):
        answers_of(tied_model, patch=home / "patch", adapter=home / "lora")
    with pytest.raises(UserError, match="holds no patch, adapter or model"):
        answers_of(tmp_path)


def test_the_command_translates_what_the_command_tuned(tied_model, text_file, tmp_path, capfd, monkeypatch):
    out = str(tmp_path / "lora")
    words = ["--train", str(text_file), "--limit", "16", "--epochs", "1", "--template", "labels", "--dtype", "float32"]
    assert main(["tune", str(tied_model), "--method", "lora", *words, "--target-language", "ca", "--out", out]) == 0
    capfd.readouterr()
    short = ["--num-beams", "1", "--max-new-tokens", "4"]
    assert main(["translate", out, "The house is old", "--compare", *short]) == 0
    shown = capfd.readouterr()
    assert [line.partition(":")[0] for line in shown.out.splitlines()] == ["source", "original", "lora"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"The house is old\n"), encoding="utf-8"))
    assert main(["translate", str(tied_model), "--adapter", out, *short]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert f"lora:     {line}" in shown.out.splitlines()
    assert main(["translate", str(tied_model), "The house is old"]) == 2
    assert "give --source-language and --target-language" in capfd.readouterr().err
