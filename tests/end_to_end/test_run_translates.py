"""`translate` with the models of a run."""

from __future__ import annotations

import io
import json

import torch
from running import fails

from ks_lottery.cli.main import main
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models.load import load_model
from ks_lottery.store.run_folder import RunFolder


def test_translate_and_compare(finished, capsys):
    assert main(["translate", str(finished), "Please enter a valid name", "--compare"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "source:   Please enter a valid name"
    assert "original:" in out
    assert "partial:" in out


def test_translate_takes_lines_of_standard_input(finished, capsys, monkeypatch):
    assert main(["translate", str(finished), "The house is old", "This page does not exist"]) == 0
    wanted = capsys.readouterr().out
    assert wanted.count("\n") == 2

    def give(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))

    give(b"The house is old\n\nThis page does not exist\r\n   \n")
    assert main(["translate", str(finished)]) == 0
    first, second = wanted.split("\n")[:2]
    assert capsys.readouterr().out == f"{first}\n\n{second}\n\n"
    give(b"The house\ncaf\xe9 is old\n")
    assert main(["translate", str(finished)]) == 2
    assert "standard input, line 2 is not UTF-8" in capsys.readouterr().err
    give("The house\u2028is old\x0b\x85now\nThe house".encode())
    assert main(["translate", str(finished)]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    give(b"\n\n")
    assert main(["translate", str(finished)]) == 0
    assert capsys.readouterr().out == "\n\n"
    assert main(["translate", str(finished), "The house " * 5000]) == 2
    assert "sentence 1 has" in capsys.readouterr().err
    assert main(["translate", str(finished), "The \ud800 house"]) == 2
    assert "sentence 1 is not UTF-8" in capsys.readouterr().err
    give(b"")
    assert main(["translate", str(finished)]) == 2
    assert "nothing to translate" in capsys.readouterr().err


def test_translations_that_were_cut_off_are_named(finished, capfd):
    """Those that have as many tokens as the run allows and no end; nothing is said of blank lines."""
    assert main(["translate", str(finished), "The house is old", "This page does not exist", "--compare"]) == 0
    out, err = capfd.readouterr()
    config = RunFolder(finished).config()
    loaded = load_model(config["model"]["name"], dtype=config["model"]["dtype"])
    form = PromptForm(loaded.tokenizer, config["text"]["template"])
    order = json.loads((finished / "text" / "report.json").read_text())["instruction"]
    prompts = form.prompts([order] * 2, ["The house is old", "This page does not exist"])
    without_end = []
    for number, prompt in enumerate(prompts, start=1):
        tokens = loaded.lm.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=4, pad_token_id=0)
        if loaded.tokenizer.eos_token_id not in tokens[0, len(prompt) :].tolist():
            without_end.append(number)
    assert without_end
    numbers = ", ".join(map(str, without_end))
    named = (
        f"{len(without_end)} translation{'s' if len(without_end) > 1 else ''} of the original model cut off at 4 tokens"
    )
    assert named in err
    assert f"the run's evaluate.max_new_tokens: sentence{'s' if len(without_end) > 1 else ''} {numbers}\n" in err
    assert "warning" not in out


def test_translate_errors(finished, tmp_path, capfd):
    assert "holds no patch, adapter or model: give a folder that run, tune or export wrote" in fails(
        capfd, "translate", str(tmp_path), "Hello"
    )
    assert "it has embed, gradient, gradient-sum, lca, occurrence, partial, random-1" in fails(
        capfd, "translate", str(finished), "Hello", "--method", "lora"
    )
