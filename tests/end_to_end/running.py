"""A short run on the tiny model, and what its tests compare: the call, the hashes of a folder, the line of an error."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ks_lottery.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

FAST = [
    "--train.learning-rate", "0.2", "--train.epochs", "1", "--train.batch-size", "8",
    "--evaluate.translations", "2", "--evaluate.num-beams", "1", "--evaluate.max-new-tokens", "4",
    "--evaluate.resamples", "200", "--evaluate.where-sentences", "10", "--certify.alphas", "[0.05, 0.5, 1.0]",
    "--text.min-pairs", "50", "--compare", "all",
]  # fmt: skip

STAGES = 15


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def command(model: Path, text: Path, out: Path, *more: str) -> list[str]:
    return ["run", "--model.name", str(model), "--text.train", str(text), "--out", str(out), *FAST, *more]


def fails(capfd, *arguments: str) -> str:
    """Run, expect exit code 2 and exactly one line on stderr, and return it."""
    capfd.readouterr()
    assert main(list(arguments)) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]
