"""A text that cannot be read is refused before a model is opened, which may have to be fetched or converted first."""

from __future__ import annotations

import pytest

from ks_lottery.cli.main import main

ABSENT = "no-such-model"
COMMANDS = {
    "run": ["--model.name", ABSENT, "--text.train", "absent.tsv", "--out", "out"],
    "run, general text": [
        "--model.name", ABSENT, "--text.train", "pairs.tsv", "--text.min-pairs", "50", "--evaluate.general", "absent.tsv",
        "--out", "out",
    ],
    "tune": [ABSENT, "--train", "absent.tsv", "--out", "out"],
    "inspect": ["absent.tsv", "--model", ABSENT],
    "evaluate": [ABSENT, "--data", "absent.tsv", "--out", "out"],
    "where": [ABSENT, "--patch", "patch", "--data", "absent.tsv"],
    "certify": [ABSENT, "--tuned", "patch", "--transfer", "--data", "absent.tsv"],
    "agree": [ABSENT, "another", "--data", "absent.tsv", "--calibration", "10"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_text_that_is_missing_is_named_before_the_model(name, text_file, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.tsv").write_bytes(text_file.read_bytes())
    assert main([name.split(",")[0], *COMMANDS[name]]) == 2
    said = capfd.readouterr().err
    assert "absent.tsv" in said
    assert ABSENT not in said.splitlines()[-1]
    assert not (tmp_path / "out").exists()
