"""The adapter examples of the pages and of exports translate as the patch does; links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, PYTHON, ROOT, fenced

from ks_lottery import read_corpus, to_peft, tune
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.white_space import single_spaced
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.load import load_model
from ks_lottery.models.sides import installed_patch


@pytest.fixture
def shipped(narrow_model, text_file, tmp_path, monkeypatch):
    """The patch of a short tuning, exported to ``adapter`` in the working folder; the model, and our translation."""
    monkeypatch.chdir(tmp_path)
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    text = read_corpus(text_file, source_language="en", target_language="ca", limit=16)
    patch = tune(loaded, text, epochs=1, learning_rate=0.5)
    to_peft(loaded, patch, "adapter")
    form = PromptForm(loaded.tokenizer)
    order = "Translate the following sentence from English to Catalan."
    with installed_patch(loaded.lm, patch):
        prompts = form.prompts([order], ["Your session has expired."])
        (answer,) = translate(loaded.lm, form, prompts, num_beams=1, max_new_tokens=64)
    (before,) = translate(loaded.lm, form, prompts, num_beams=1, max_new_tokens=64)
    assert answer.sentence != before.sentence
    return answer.sentence


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_adapter_example_translates_as_the_patch_does(shipped):
    (code,) = [block.code for block in PYTHON if block.page == "docs/ship.md"]
    names: dict[str, object] = {}
    exec(code, names)
    assert single_spaced(str(names["answer"])) == shipped


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_card_of_an_adapter_says_its_prompt_and_its_code_translates(shipped, monkeypatch, capsys):
    card = Path("adapter/README.md").read_text(encoding="utf-8")
    assert "Template `alpaca`, from English to Catalan" in card
    assert "Translate the following sentence from English to Catalan." in card
    (code,) = [code for language, code in fenced(card) if language == "python"]
    monkeypatch.chdir("adapter")
    capsys.readouterr()
    exec(code, {})
    assert single_spaced(capsys.readouterr().out) == shipped


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
