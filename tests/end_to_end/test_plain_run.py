"""Text of one language through the commands, and the cleaning that the commands have in common."""

from __future__ import annotations

import json

import pytest
from running import command, fails

from ks_lottery.cli.main import main

PLAIN = ["--format", "plain", "--target-language", "ca"]


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    file = tmp_path_factory.mktemp("plain") / "ca.txt"
    file.write_text("\n".join(f"La casa número {n} és vella i freda" for n in range(80)), encoding="utf-8")
    return file


def test_a_run_on_text_of_one_language(narrow_model, lines, tmp_path, capfd):
    out = tmp_path / "run"
    flags = [f"--text.{flag.removeprefix('--')}" if flag.startswith("--") else flag for flag in PLAIN]
    assert main(command(narrow_model, lines, out, *flags)) == 0
    screen = " ".join(capfd.readouterr().out.split())
    summary = json.loads((out / "summary.json").read_text())
    embed = summary["methods"]["embed"]
    assert embed["accuracy"] > summary["methods"]["original"]["accuracy"]
    assert (embed["chrf"], embed["ended"], embed["forgetting"]) == (None, None, None)
    assert "80 of 80 texts kept; dropped 0 that had already occurred" in screen
    assert "Forgetting was not measured" in screen
    assert "ks-lottery translate" not in screen
    assert summary["where"]["missing"] == "the text is of one language and has no instruction and source"
    assert "learned nothing to translate with" in fails(capfd, "translate", str(out), "Hello")
    # The figures of the run are those of the command on the text that the run saved.
    words = [
        "evaluate",
        str(narrow_model),
        "--patch",
        str(out / "embed"),
        "--data",
        str(out / "text" / "test.jsonl"),
        *PLAIN,
    ]
    assert "from which nothing is translated: give --metrics accuracy" in fails(
        capfd, *words, "--out", str(tmp_path / "e")
    )
    assert main([*words, "--metrics", "accuracy", "--out", str(tmp_path / "e"), "--json"]) == 0
    measured = json.loads(capfd.readouterr().out)["next_token"]
    assert measured["accuracy"] == pytest.approx(embed["accuracy"])
    assert measured["loss"] == pytest.approx(embed["loss"], rel=1e-4)
    located = ["where", str(narrow_model), "--patch", str(out / "embed"), "--data", str(lines), *PLAIN]
    assert "is text of one language, without instruction and source: give parallel text" in fails(capfd, *located)


def test_a_run_with_general_text_measures_forgetting(narrow_model, lines, tmp_path, capfd):
    general = tmp_path / "en.txt"
    general.write_text("The house is old and cold\nThe dog eats in the garden\n", encoding="utf-8")
    flags = [f"--text.{flag.removeprefix('--')}" if flag.startswith("--") else flag for flag in PLAIN]
    assert main(command(narrow_model, lines, tmp_path / "run", *flags, "--evaluate.general", str(general))) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["methods"]["embed"]["forgetting"]["sentences"] == 2


def test_inspect_tune_evaluate_and_run_keep_the_same_pairs(narrow_model, tmp_path, capfd):
    pairs = [(f"The house {n} is old", f"La casa {n} és vella") for n in range(60)]
    pairs += [(f"Short {n}", f"Curt {n}") for n in range(7)] + [
        pairs[0],
        ("Open %d old files", "Obre %d fitxers vells"),
    ]
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join("\t".join(pair) for pair in pairs), encoding="utf-8")
    said = "60 of 69 pairs kept; dropped 7 under 4 words, 1 with format placeholders, 0 with markup, 1 with a source sentence"
    model, out = str(narrow_model), tmp_path / "out"
    calls = [
        ["inspect", str(file), "--model", model, "--examples", "0"],
        ["tune", model, "--train", str(file), "--method", "embed", "--dry-run"],
        ["evaluate", model, "--data", str(file), "--metrics", "accuracy", "--out", str(out / "scores")],
        command(narrow_model, file, out / "run"),
    ]
    for words in calls:
        capfd.readouterr()
        assert main(words) == 0
        assert said in " ".join(capfd.readouterr().out.split()), words[0]
    for words in calls[:3]:
        assert main([*words, "--no-clean", *(["--out", str(out / "all")] if words[0] == "evaluate" else [])]) == 0
        assert "pairs kept" not in capfd.readouterr().out, words[0]
    sentences = json.loads((out / "all" / "evaluation.json").read_text())["sentences"]
    assert sentences == 69
    for words in calls[:3]:
        assert main([*words, "--min-words", "2", *(["--out", str(out / "two")] if words[0] == "evaluate" else [])]) == 0
        assert "67 of 69 pairs kept; dropped 0 under 2 words" in " ".join(capfd.readouterr().out.split()), words[0]


def test_swapped_columns_are_said_by_each_command(narrow_model, tmp_path, capfd):
    english = [
        "The children were playing in the garden while it rained",
        "This page does not exist and we cannot find it",
    ]
    catalan = [
        "Els nens jugaven al jardí mentre plovia tota la tarda",
        "Aquesta pàgina no existeix i no la podem trobar enlloc",
    ]
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join(f"{catalan[n % 2]} {n}\t{english[n % 2]} {n}" for n in range(60)), encoding="utf-8")
    model = str(narrow_model)
    for words in (
        ["inspect", str(file), "--model", model, "--examples", "0"],
        ["tune", model, "--train", str(file), "--method", "embed", "--dry-run"],
        ["evaluate", model, "--data", str(file), "--metrics", "accuracy", "--out", str(tmp_path / "scores")],
        command(narrow_model, file, tmp_path / "run"),
    ):
        capfd.readouterr()
        assert main(words) == 0
        assert "source and target look swapped" in " ".join(capfd.readouterr().out.split()), words[0]
