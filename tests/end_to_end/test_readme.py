"""What the README shows is true: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ks_lottery.cli.main import COMMANDS, main
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.tickets.tickets import Tickets

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_ten_lines_of_python_run(narrow_model, text_file, tmp_path, monkeypatch):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "my-model").symlink_to(narrow_model)
    (tmp_path / "pairs.tsv").symlink_to(text_file)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)
    tickets, transfer, tuned, small, certificate = (
        names[n] for n in ("tickets", "transfer", "tuned", "small", "certificate")
    )
    assert isinstance(tickets, Tickets)
    assert 0 < len(tickets) == len(small) == len(transfer) < len(tuned)
    assert [level.alpha for level in certificate.levels][-1] == 1.0
    assert certificate.levels[-1].bounds["empirical"].rules["theorem"].violations == 0
    assert isinstance(names["text"].test, Corpus)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("ks-lottery")]


def test_commands_are_those_of_the_program(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert {command[1] for command in commands()} | {"demo"} == set(COMMANDS)  # the demo is started by make
    for command in commands():
        arguments = command[1 : command.index("<")] if "<" in command else command[1:]
        capfd.readouterr()
        try:
            code = main([*arguments, "--help"])
        except SystemExit as done:
            code = done.code
        assert code == 0, command
        shown = capfd.readouterr().out
        for flag in [word.partition("=")[0] for word in arguments if word.startswith("--")]:
            assert flag.replace("-", "_") in shown.replace("-", "_"), (command, flag)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z-]+)", README)) - {"and"}
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "docs/method.md", "docs/log.md"])
def test_links_lead_somewhere(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / file).parent / target).exists(), target
