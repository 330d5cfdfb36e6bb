"""Commands on terminals of 60 and 80 columns and in a pipe: lines fit, rows are named, nothing is cut in a pipe."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
import torch
from rich.cells import cell_len
from safetensors.torch import load_file, save_file

COMMANDS = {
    "scan": "scan {base} {tuned} --top 5",
    "scan all": "scan {base} {tuned} --units all --top 8",
}


@pytest.fixture(scope="module")
def tuned(tied_model, tmp_path_factory):
    """The same rows of two layers moved, so that names without their layer would look alike."""
    folder = tmp_path_factory.mktemp("tuned") / "model"
    shutil.copytree(tied_model, folder)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name in ("model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"):
        tensors[f"{name}.weight"][3:9] += 2 * torch.randn(6, 32, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def on_screen(words: list[str], width: int | None) -> str:
    """Run a command on a terminal of that width, or in a pipe, and return what is left on the screen."""
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(width or 80)}
    call = [sys.executable, "-m", "ks_lottery", *words]
    if width is None:
        return subprocess.run(
            call, capture_output=True, text=True, check=True, env={**environment, "FORCE_COLOR": "1"}
        ).stdout
    above, below = pty.openpty()
    with subprocess.Popen(call, stdout=below, stderr=below, env=environment) as process:
        os.close(below)
        parts = []
        while True:
            try:
                part = os.read(above, 65536)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
        assert process.wait() == 0, b"".join(parts).decode()
    os.close(above)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode()).replace("\r\n", "\n")
    return "\n".join(line.rsplit("\r", maxsplit=1)[-1] for line in text.split("\n"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_fits_and_no_word_or_number_is_broken(name, tied_model, tuned, text_file, tmp_path, monkeypatch):
    """Each word of a narrow screen is one of the pipe's, but for names that are cut at their begin and the end of a token."""
    monkeypatch.setenv("KS_LOTTERY_STORE", str(tmp_path / "store"))
    words = COMMANDS[name].format(base=tied_model, tuned=tuned, text=text_file).split()
    piped = on_screen(words, None)
    assert "\x1b" not in piped
    known = set(piped.split())
    for width in (80, 60):
        lines = on_screen(words, width).splitlines()
        result = [line for line in lines if "scan: " not in line and "━" not in line]
        wide = [line for line in result if cell_len(line) > width]
        assert all(len(line.split()) == 1 or line.lstrip().startswith(("ks-lottery ", "| ")) for line in wide), wide
        said = [
            word for line in result if "Too wide" not in line and "file or a pipe" not in line for word in line.split()
        ]
        broken = [
            word for word in said if word not in known and not word.startswith("...") and not word.endswith("...")
            and not any(whole.startswith((word, f"{word}.weight")) and "." in word for whole in known)
        ]  # fmt: skip
        assert not [word for word in broken if re.fullmatch(r"[-+\d.,e]+", word)], broken
        if name == "scan all":
            rows = [line.split() for line in result if re.search(r"q_proj +\d+ |q_proj.weight +\d+ ", line)]
            layers = {re.search(r"layers\.(\d)|\.\.\.(\d)\.", row[0])[0] for row in rows if "*" not in row[0]}
            assert len(layers) == 2, rows
            assert next(n for n, line in enumerate(result) if line.startswith("By tensor")) < next(
                n for n, line in enumerate(result) if line.startswith("Units with the smallest p")
            )
