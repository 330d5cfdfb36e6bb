"""Write the texts that the recipes in results/ were made with, from NTREX-128 and FLORES.

    python benchmarks/recipe_text.py DATA OUT

DATA holds ``ntrex128.{eng,cat,spa,...}`` with ``ntrex128.documents`` (the document of each line),
``flores200.dev.{eng,cat}_Latn`` and ``flores101.devtest.{eng,cat,...}``, one sentence a line. OUT gets
``train.{ca,es,...}.tsv``, NTREX less 25 of its documents, in the order of a hash of the source sentence;
``test.{ca,es,...}.tsv`` are FLORES dev for Catalan, made for choosing settings, and those 25 documents for all others.
``held.ca.tsv`` has the 25 documents in Catalan, on which the learning rates of LoRA and prompt tuning were chosen.
``devtest.{ca,es,...}.tsv`` are FLORES-101 devtest, on which nothing was chosen.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

LANGUAGES = {
    "ca": "cat", "es": "spa", "de": "deu", "ro": "ron", "da": "dan", "no": "nob", "pt": "por", "bs": "bos",
}  # fmt: skip
"""Code of a language to its name in the files."""

HELD_OUT = 25
"""Documents that are not trained on."""


def key(text: str) -> str:
    """Return what documents and sentences are ordered by."""
    return sha256(text.encode()).hexdigest()


def lines(file: Path) -> list[str]:
    """Return the lines of a file, each with single spaces."""
    return [" ".join(line.split()) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def write(file: Path, pairs: list[tuple[str, str]]) -> None:
    """Write pairs, one a line."""
    file.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")


def main(data: Path, out: Path) -> None:
    """Write all texts."""
    out.mkdir(parents=True, exist_ok=True)
    documents, english = lines(data / "ntrex128.documents"), lines(data / "ntrex128.eng")
    held = set(sorted(dict.fromkeys(documents), key=key)[:HELD_OUT])
    for code, name in LANGUAGES.items():
        if not (data / f"ntrex128.{name}").is_file():
            continue
        translated = zip(documents, english, lines(data / f"ntrex128.{name}"), strict=True)
        every = [(document in held, source, target) for document, source, target in translated if source and target]
        train = [(source, target) for is_held, source, target in every if not is_held]
        test = [(source, target) for is_held, source, target in every if is_held]
        write(out / f"train.{code}.tsv", sorted(train, key=lambda pair: key(pair[0])))
        write(out / ("held.ca.tsv" if code == "ca" else f"test.{code}.tsv"), test)
        if (data / f"flores101.devtest.{name}").is_file():
            devtest = (lines(data / f"flores101.devtest.{each}") for each in ("eng", name))
            write(out / f"devtest.{code}.tsv", list(zip(*devtest, strict=True)))
    flores = (lines(data / f"flores200.dev.{name}_Latn") for name in ("eng", "cat"))
    write(out / "test.ca.tsv", list(zip(*flores, strict=True)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
