"""Flags and words without a flag may be in any order; a mistake names what is near."""

from __future__ import annotations

from itertools import permutations

import pytest

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.main import main, program_help
from ks_lottery.cli.options import read_settings
from ks_lottery.config.fields import settings_of
from ks_lottery.errors import UserError

COMMAND_LINES = {
    "translate": (["runs/a", "one text", "- an item"], [["--compare"], ["--method", "embed"]]),
    "evaluate": (
        ["model"], [["--data", "t.tsv"], ["--metrics", "chrf", "accuracy"], ["--generation", "top_k=3", "do_sample=true"]],
    ),
    "certify": (["model"], [["--tuned", "t"], ["--alphas", "0.1", "1e-3"], ["--data", "d"], ["--choose", "0.1", "0.1"]]),
    "select": (["scan.parquet"], [["--interval", "0", "0.3"], ["--out", "o.json"], ["--source-language", "en"]]),
    "scan": (["base", "tuned"], [["--units", "all"], ["--json"], ["--top", "3"]]),
    "reproduce": (["selectors"], [["--sizes", "3", "18"], ["--scale", "smoke"]]),
    "run": (["settings.yaml"], [["--text.drop-markup"], ["--certify.alphas", "0.1", "0.5"], ["--seed", "3"]]),
    "where": (["model"], [["--patch", "p"], ["--data", "d"], ["--metrics", "bleu", "chrf"], ["--controls"]]),
}  # fmt: skip
"""Words without a flag, in their order, and flags with their values."""


def orders(texts, flags):
    """Yield command lines with the flags in every order, and the words anywhere between them."""
    for mixed in permutations([*flags, *([text] for text in texts)]):
        if [part[0] for part in mixed if part[0] in texts] == texts:
            yield [word for part in mixed for word in part]


@pytest.mark.parametrize("command", COMMAND_LINES)
def test_flags_and_texts_are_in_any_order(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text("out: runs/x\ntext:\n  train: t.tsv\nmodel:\n  name: m\n", encoding="utf-8")
    texts, flags = COMMAND_LINES[command]
    first = read_settings(command, [*texts, *(word for flag in flags for word in flag)])
    read = [read_settings(command, words) for words in orders(texts, flags)]
    assert len(read) > len(flags)
    assert all(settings == first for settings in read)


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("evaluate", ["--metrics", "chrf", "acuracy", "--data", "d", "m"], "acuracy"),
        (
            "evaluate",
            ["--data", "d", "--against", "runs/a", "model"],
            "--against takes every word behind it: give MODEL before",
        ),
        ("certify", ["--alphas", "x", "--tuned", "t", "--data", "d", "m"], "x"),
        ("scan", ["a", "b", "--unit", "all"], "--units"),
    ],
)
def test_a_slip_is_named(command, words, said):
    with pytest.raises(UserError) as caught:
        read_settings(command, words)
    assert said in str(caught.value)


def test_without_a_command_there_is_help(capfd):
    assert main([]) == 0
    assert capfd.readouterr() == (program_help(), "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_with_one_letter_wrong_is_suggested(command, capfd):
    """Two letters exchanged, one missing, one too many; also with arguments that are fine."""
    for slip in (command[0] + command[2] + command[1] + command[3:], command[:-1], command + "x"):
        if slip not in COMMANDS:
            assert main([slip, "a", "b"]) == 2
            assert f"did you mean {command}?" in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_flag_with_a_letter_missing_is_suggested(command, capfd):
    known = [item.flag for item in settings_of(COMMANDS[command].settings) if not item.positional]
    for flag in known:
        slip = flag[:-1]
        if len(flag) > 6 and slip not in known:
            assert main([command, slip, "1"]) == 2
            said = capfd.readouterr().err
            assert f"did you mean {flag}?" in said or f"{slip.rpartition('.')[2]}?" in said, slip
