"""The fenced blocks of README and docs, and the commands in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

SHOWN = ("text",)
"""Languages of blocks that show what was printed."""

EXECUTED = ("sh", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Parameters
    ----------
    page
        Its file, from the folder of the project.
    language
        What follows the fence.
    code
        What is between the fences, without common indentation.
    """

    page: str
    language: str
    code: str

    def calls(self) -> list[Call]:
        """Return the commands of a block of `sh`, with variables of the block put in."""
        variables: dict[str, str] = {}
        calls: list[Call] = []
        for line in self.code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if len(words) == 1 and (given := re.fullmatch(r"([A-Z_]+)=(.*)", words[0], flags=re.DOTALL)):
                variables[given[1]] = given[2]
            elif words:
                put_in = [shlex.split(variables[w[1:]]) if w[1:] in variables and w[0] == "$" else [w] for w in words]
                calls.append(Call(self.page, tuple(word for each in put_in for word in each)))
        return calls


@dataclass(frozen=True)
class Call:
    """A command that a page shows: its words, and where its streams come from or go to."""

    page: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def arguments(self) -> list[str] | None:
        """What ks-lottery is given, without the streams; None for another program."""
        words = list(self.words)
        if words[0] == "torchrun" and "ks_lottery" in words:
            words = words[words.index("ks_lottery") :]
        elif words[0] != "ks-lottery":
            return None
        for stream in ("<", ">"):
            if stream in words:
                del words[words.index(stream) : words.index(stream) + 2]
        return words[1:]

    def stream(self, sign: str) -> str | None:
        """Return the file behind ``<`` or ``>``."""
        return self.words[self.words.index(sign) + 1] if sign in self.words else None


def fenced(text: str) -> list[tuple[str, str]]:
    """Return language and code of every fenced block of a Markdown text, in order."""
    found = re.findall(r"(?ms)^ *(`{3,}|~{3,})([^\n]*)\n(.*?)^ *\1", text)
    return [(language.strip(), textwrap.dedent(code)) for _, language, code in found]


def blocks_of(page: Path) -> list[Block]:
    """Return every fenced block of a page, in order."""
    name = page.relative_to(ROOT).as_posix()
    return [Block(name, language, code) for language, code in fenced(page.read_text(encoding="utf-8"))]


def inline(page: Path) -> list[list[str]]:
    """Return the words of each command that the prose of a page names."""
    prose = re.sub(r"(?ms)^ *(`{3,}|~{3,})[^\n]*\n.*?^ *\1", "", page.read_text(encoding="utf-8"))
    return [found.split() for found in re.findall(r"`ks-lottery ([^`]+)`", prose)]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
CALLS = [call for block in BLOCKS if block.language == "sh" for call in block.calls()]
PYTHON = [block for block in BLOCKS if block.language == "python"]
