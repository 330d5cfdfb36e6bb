"""Flags of text: what a command reads from its first text and from a second one."""

from __future__ import annotations

import argparse
from dataclasses import fields

import pytest

from ks_lottery.cli.main import build_parser, main
from ks_lottery.cli.options import add_text, second_source, text_source
from ks_lottery.config.settings import TextSource

FLAGS = {
    "target": "b.ca", "format": "lines", "source_language": "de", "target_language": "fr", "source_column": "x",
    "target_column": "y", "dataset_config": "c", "dataset_split": "dev", "limit": 3, "instruction": "Do it.",
}  # fmt: skip


def parsed(flags):
    parser = argparse.ArgumentParser()
    add_text(parser, split="test")
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return parser.parse_args([*words, *(["--dataset-streaming"] if flags else [])])


def test_every_flag_reaches_the_source():
    assert text_source(parsed(FLAGS), "a.en") == TextSource(path="a.en", dataset_streaming=True, **FLAGS)
    assert text_source(parsed({}), "a.tsv") == TextSource(path="a.tsv", dataset_split="test")
    assert {*FLAGS, "path", "dataset_streaming"} == {field.name for field in fields(TextSource)}


def test_a_second_text_is_read_in_the_same_format():
    source = second_source(parsed(FLAGS), "c.en", "c.ca")
    assert source == TextSource(path="c.en", **{**FLAGS, "target": "c.ca", "limit": None})
    assert second_source(parsed(FLAGS), "c.en").target is None


def test_a_command_without_a_flag_keeps_the_default():
    arguments = argparse.Namespace(target_language="fr", path="not a flag of text")
    assert text_source(arguments, "a.tsv") == TextSource(path="a.tsv", target_language="fr")


@pytest.mark.parametrize("command", ["tune", "evaluate", "certify", "inspect"])
def test_commands_that_read_a_text_have_all_its_flags(command):
    parser = build_parser(command)
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    known = {action.dest for action in commands.choices[command]._actions}
    assert {field.name for field in fields(TextSource)} - {"path"} <= known


def test_a_validation_text_obeys_the_format_flags(tied_model, tmp_path, capfd):
    """Its ending tells nothing, and its columns are the other way round."""
    for name in ("a.txt", "b.txt"):
        rows = [f"frase número {n}\tsentence number {n}\n" for n in range(8)]
        (tmp_path / name).write_text("ca\ten\n" + "".join(rows), encoding="utf-8")
    shared = ["--format", "tsv", "--source-column", "en", "--target-column", "ca", "--method", "embed", "--dry-run"]
    command = ["tune", str(tied_model), "--train", str(tmp_path / "a.txt"), "--validation", str(tmp_path / "b.txt")]
    assert main([*command, *shared, "--out", str(tmp_path / "out")]) == 0, capfd.readouterr().err


def test_a_calibration_text_obeys_the_format_flags(tmp_path):
    """Its ending tells nothing, and its columns are the other way round."""
    from ks_lottery.cli.certify import _calibration

    file = tmp_path / "b.txt"
    file.write_text("ca\ten\nLa casa\tThe house\n", encoding="utf-8")
    flags = ["--format", "tsv", "--source-column", "en", "--target-column", "ca"]
    words = ["certify", "m", "--tuned", "t", "--transfer", "--data", "a.txt", "--calibration", str(file), *flags]
    corpus = _calibration(build_parser("certify").parse_args(words))
    assert [(pair.source, pair.target) for pair in corpus] == [("The house", "La casa")]
