"""Flags of text: what a command reads from its first text and from a second one."""

from __future__ import annotations

from dataclasses import fields

from ks_lottery.cli.main import main
from ks_lottery.cli.options import read_settings
from ks_lottery.config.groups import TextSource

FLAGS = {
    "target": "b.ca", "format": "lines", "source_language": "de", "target_language": "fr", "source_column": "x",
    "target_column": "y", "dataset_config": "c", "dataset_split": "dev", "limit": 3, "instruction": "Do it.", "min_words": 2,
}  # fmt: skip


WORDS = [word for name, value in FLAGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def read(*words):
    return read_settings("evaluate", ["m", "--data", "a.en", *words])


def test_every_flag_reaches_the_source():
    assert read(*WORDS, "--dataset-streaming").first_text("a.en") == TextSource(
        path="a.en", dataset_streaming=True, **FLAGS
    )
    assert read().first_text("a.tsv") == TextSource(path="a.tsv", dataset_split="test")
    cleaning = {"clean", "drop_placeholders", "drop_markup"}
    assert {*FLAGS, *cleaning, "path", "dataset_streaming"} == {field.name for field in fields(TextSource)}
    source = read("--no-clean", "--no-drop-placeholders", "--no-drop-markup").first_text("a.tsv")
    assert [getattr(source, name) for name in sorted(cleaning)] == [False] * 3


def test_a_second_text_is_read_in_the_same_format():
    settings = read(*WORDS, "--dataset-streaming")
    assert settings.second_text("c.en", "c.ca") == TextSource(path="c.en", **{**FLAGS, "target": "c.ca", "limit": None})
    assert settings.second_text("c.en").target is None


def test_a_validation_text_obeys_the_format_flags(tied_model, tmp_path, capfd):
    """Its ending tells nothing, and its columns are the other way round."""
    for name in ("a.txt", "b.txt"):
        rows = [f"frase número {n}\tsentence number {n}\n" for n in range(8)]
        (tmp_path / name).write_text("ca\ten\n" + "".join(rows), encoding="utf-8")
    shared = [
        "--format",
        "tsv",
        "--source-column",
        "en",
        "--target-column",
        "ca",
        "--method",
        "embed",
        "--dry-run",
        "--no-clean",
    ]
    command = ["tune", str(tied_model), "--train", str(tmp_path / "a.txt"), "--validation", str(tmp_path / "b.txt")]
    assert main([*command, *shared, "--out", str(tmp_path / "out")]) == 0, capfd.readouterr().err


def test_a_calibration_text_obeys_the_format_flags(tmp_path):
    """Its ending tells nothing, and its columns are the other way round."""
    from ks_lottery.cli.certify import _calibration

    file = tmp_path / "b.txt"
    file.write_text("ca\ten\nLa casa\tThe house\n", encoding="utf-8")
    flags = ["--format", "tsv", "--source-column", "en", "--target-column", "ca"]
    words = ["certify", "m", "--tuned", "t", "--transfer", "--data", "a.txt", "--calibration", str(file), *flags]
    corpus = _calibration(read_settings("certify", words[1:]))
    assert [(pair.source, pair.target) for pair in corpus] == [("The house", "La casa")]
