"""What the pages' commands are given where tests execute them: a tiny model and small texts, by the names that the pages use.

Each is made once, when a page first needs it, and copied into the folder of that page.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from running import command

from ks_lottery import open_checkpoint, to_merged
from ks_lottery.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TURNS = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""A chat template: that of the model which stands for one of the hub."""

HUB_MODEL = "HuggingFaceTB/SmolLM2-360M"

TUNE = ["--epochs", "1", "--learning-rate", "0.05", "--limit", "48"]

ALL = "MODEL pairs.tsv test.tsv"
"""What a page is given that `NEEDS` does not name."""

NEEDS = {
    "README.md": f"{HUB_MODEL} MODEL my-model pairs.tsv runs/demo",
    "docs/certificate.md": "MODEL test.tsv runs/demo runs/embed",
    "docs/choose.md": "MODEL pairs.tsv test.tsv",
    "docs/gemma.md": "runs/demo-gemma3-270m",
    "docs/gpus.md": "MODEL pairs.tsv",
    "docs/measure.md": "MODEL MODEL-Q8_0.gguf Q8_0.gguf Q5_0.gguf Q4_0.gguf test.tsv news.txt lines.txt runs/embed "
    "runs/partial runs/lora runs/merged",
    "docs/python.md": "my-model pairs.tsv",
    "docs/ray.md": "MODEL pairs.tsv",
    "docs/report.md": "runs/demo runs/a runs/b scan.parquet",
    "docs/reproduce.md": "MODEL pairs.tsv train.ca.tsv train.de.tsv dev.ca.tsv dev.de.tsv",
    "docs/run.md": f"{HUB_MODEL} M MODEL pairs.tsv",
    "docs/scan.md": "BASE TUNED ADAPTER pairs.tsv text.ca runs/embed runs/partial",
    "docs/ship.md": "MODEL runs/demo runs/lora sentences.txt",
    "docs/new-tokens.md": "MODEL pairs.tsv test.tsv tokens.txt tickets.json",
    "docs/tune.md": "MODEL pairs.tsv test.tsv mine.json",
    "docs/tutorial.md": "MODEL runs/demo",
    "docs/where.md": "MODEL runs/partial runs/embed test.tsv tickets.json scan.parquet ca.json de.json ca-seed0.json "
    "ca-seed1.json",
}
"""Page to what its commands read and do not make."""


class Inputs:
    """Makes what pages need, each once.

    Parameters
    ----------
    root
        Folder in which it is made.
    model, text
        A tiny model, and pairs for it.
    """

    def __init__(self, root: Path, model: Path, text: Path) -> None:
        self.root, self.model = root, model
        self.lines = text.read_text(encoding="utf-8").splitlines()
        self.text = self.make("pairs.tsv")

    def put(self, needs: str, folder: Path) -> None:
        """Copy what a page needs into a folder."""
        for name in needs.split():
            made, place = self.make(name), folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if made.is_dir():
                shutil.copytree(made, place)
            else:
                shutil.copyfile(made, place)

    def make(self, name: str) -> Path:
        """Return the place of an input; it is made unless it is there."""
        place = self.root / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            MAKERS[name](self, place)
        return place

    def pairs(self, start: int, end: int, word: str) -> list[str]:
        """Return lines of pairs, distinct for each number from start to end."""
        numbered = [(i, *self.lines[i % len(self.lines)].split("\t")) for i in range(start, end)]
        return [f"{s} of {i}\t{t.replace('número', word)} de {i}" for i, s, t in numbered]

    def give(self, *words: object) -> None:
        """Run a command, which succeeds."""
        assert main([str(word) for word in words]) == 0, words

    def tune(self, out: Path, method: str, *more: object) -> None:
        """Tune the model by a method."""
        self.give("tune", self.model, "--method", method, "--train", self.text, *TUNE, *more, "--out", out)


def _copy(of: str) -> Callable[[Inputs, Path], None]:
    def copy(inputs: Inputs, place: Path) -> None:
        shutil.copytree(inputs.model if of == "MODEL" else inputs.make(of), place)

    return copy


def _text(count: int, side: int | None = None, word: str = "número", start: int = 0) -> Callable[[Inputs, Path], None]:
    def write(inputs: Inputs, place: Path) -> None:
        lines = inputs.pairs(start, start + count, word)
        place.write_text(
            "".join((line if side is None else line.split("\t")[side]) + "\n" for line in lines), encoding="utf-8"
        )

    return write


def _chat_model(inputs: Inputs, place: Path) -> None:
    from transformers import AutoTokenizer

    shutil.copytree(inputs.model, place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    tokenizer.chat_template = TURNS
    tokenizer.save_pretrained(place)


def _patch(method: str, *more: str) -> Callable[[Inputs, Path], None]:
    def tune(inputs: Inputs, place: Path) -> None:
        given = [inputs.make(word) if word in MAKERS else word for word in more]
        inputs.tune(place, method, *given)

    return tune


def _merged(of: str) -> Callable[[Inputs, Path], None]:
    return lambda inputs, place: to_merged(open_checkpoint(inputs.model), inputs.make(of), place)


def _scan(inputs: Inputs, place: Path) -> None:
    inputs.give("scan", inputs.model, inputs.make("runs/embed"), "--quiet", "--out", place)


def _select(*flags: str) -> Callable[[Inputs, Path], None]:
    return lambda inputs, place: inputs.give("select", inputs.make("scan.parquet"), *flags, "--out", place)


MAKERS: dict[str, Callable[[Inputs, Path], None]] = {
    **dict.fromkeys(["MODEL", "M", "my-model", "BASE"], _copy("MODEL")),
    **dict.fromkeys(["MODEL-Q8_0.gguf", "Q8_0.gguf"], _copy("MODEL")),  # a folder is a model too
    **dict.fromkeys(["Q5_0.gguf", "Q4_0.gguf", "TUNED"], _merged("runs/embed")),
    HUB_MODEL: _chat_model,
    "pairs.tsv": _text(120),
    "test.tsv": _text(400, start=200),
    "news.txt": _text(40, side=0),
    "lines.txt": _text(400, side=0),
    "text.ca": _text(200, side=1),
    "sentences.txt": _text(3, side=0),
    "train.ca.tsv": _text(120),
    "train.de.tsv": _text(120, word="Nummer"),
    "dev.ca.tsv": _text(40, start=600),
    "dev.de.tsv": _text(40, word="Nummer", start=600),
    "mine.json": lambda _, place: place.write_text(json.dumps(["plain", "{source}\n{target_language}:\n"])) and None,
    "tokens.txt": lambda _, place: place.write_text("<a>\n<b>\n") and None,
    "runs/demo": lambda inputs, place: inputs.give(*command(inputs.model, inputs.text, place)),
    **dict.fromkeys(["runs/a", "runs/b", "runs/demo-gemma3-270m"], _copy("runs/demo")),
    "runs/embed": _patch("embed"),
    "runs/partial": _patch("partial", "--tickets", "tickets.json"),
    "runs/lora": _patch("lora"),
    "ADAPTER": _patch("lora"),
    "runs/merged": _merged("runs/lora"),
    "scan.parquet": _scan,
    **dict.fromkeys(["tickets.json", "ca.json", "ca-seed0.json"], _select("--alpha", "0.05")),
    **dict.fromkeys(["de.json", "ca-seed1.json"], _select("--top-k", "20", "--by", "kl")),
}
"""Input to what makes it at a place."""
