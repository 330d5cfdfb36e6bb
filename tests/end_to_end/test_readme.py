"""What README and docs show is true: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from ks_lottery import read_corpus, to_peft, tune
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.cli.main import COMMANDS, main
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.white_space import single_spaced
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.load import load_model
from ks_lottery.models.sides import installed_patch
from ks_lottery.tickets.tickets import Tickets

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [page for page in PAGES if page.name not in {"log.md", "method.md"}]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in GUIDES if blocks(page, "python")], ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_python_runs(page, narrow_model, text_file, tmp_path, monkeypatch):
    (tmp_path / "my-model").symlink_to(narrow_model)
    (tmp_path / "pairs.tsv").symlink_to(text_file)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(code, names)
    tickets, small, tuned = (names[name] for name in ("tickets", "small", "tuned"))
    assert isinstance(tickets, Tickets)
    assert 0 < len(tickets) == len(small) < len(tuned)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    if "transfer" in names:
        assert isinstance(names["transfer"], RowPatch)
        assert [level.alpha for level in names["certificate"].levels][-1] == 1.0
        assert len(names["measured"].hypotheses) == 4


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
    (code,) = blocks(ROOT / "docs" / "ship.md", "py")
    names: dict[str, object] = {}
    exec(code, names)
    assert single_spaced(str(names["answer"])) == shipped


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_card_of_an_adapter_says_its_prompt_and_its_code_translates(shipped, monkeypatch, capsys):
    card = Path("adapter/README.md").read_text(encoding="utf-8")
    assert "Template `alpaca`, from English to Catalan" in card
    assert "Translate the following sentence from English to Catalan." in card
    code = textwrap.dedent(card.partition("## Use\n")[2].partition("## Settings")[0])
    monkeypatch.chdir("adapter")
    capsys.readouterr()
    exec(code, {})
    assert single_spaced(capsys.readouterr().out) == shipped


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def commands() -> list[list[str]]:
    lines = [line for page in GUIDES for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("ks-lottery")]


def test_every_command_is_shown_and_every_shown_flag_exists(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    shown = {command[1] for command in commands() if not command[1].startswith("-")}
    assert shown | {"demo"} == set(COMMANDS)  # make starts the demo
    for command in commands():
        arguments = [word for word in command[1:] if word not in {"<", ">", "sentences.txt"} or "<" not in command]
        arguments = [word for word in arguments if word != "--print-config"]
        capfd.readouterr()
        try:
            code = main([*arguments, "--help"])
        except SystemExit as done:
            code = done.code
        assert code == 0, command
        text = capfd.readouterr().out.replace("-", "_")
        for flag in [word.partition("=")[0] for word in arguments if word.startswith("--")]:
            assert flag.replace("-", "_") in text, (command, flag)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z-]+)", README.read_text(encoding="utf-8"))) - {"and"}
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
