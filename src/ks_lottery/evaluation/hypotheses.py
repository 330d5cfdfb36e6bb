"""Translations saved batch by batch, so that a translation that was stopped resumes and ends with the same bytes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.lines import is_encodable
from ks_lottery.errors import UserError
from ks_lottery.store.files import read_json_lines, write_error, write_json_lines
from ks_lottery.store.json_content import parse_object
from ks_lottery.store.manifest import digest_json, manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ks_lottery.corpus.corpus import Pair

HYPOTHESES_FILE = "hypotheses.jsonl"
JOURNAL_FILE = "hypotheses.journal"


class Hypotheses:
    """Finished sentences of one translation of one text.

    The first line of the journal is the manifest of everything that they depend on; each finished batch is one more line,
    written through to the disk. `translate` takes `done` and `keep`. The journal stays beside the finished file, so that the
    same command has nothing left to do.

    Parameters
    ----------
    folder
        Folder of the journal and of `HYPOTHESES_FILE`.
    pairs
        The text: N sentences and their references.
    made_from
        Fingerprints of the model and of what tuning made.
    settings
        Template and generation settings, and all else that the translations depend on.

    Attributes
    ----------
    done
        Translations by the index of their sentence.

    Raises
    ------
    UserError
        When the folder holds translations of something else, or cannot be read.
    """

    def __init__(
        self, folder: Path, pairs: Sequence[Pair], *, made_from: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.pairs = folder, pairs
        text = digest_json([[pair.source, pair.target, pair.instruction] for pair in pairs])
        content = manifest("hypotheses", made_from={**made_from, "text": text}, settings=settings)
        self.manifest: dict[str, Any] = json.loads(json.dumps(content))
        self.done: dict[int, str] = {}
        self._size = self._read()

    @property
    def journal(self) -> Path:
        """The file that grows with each batch."""
        return self.folder / JOURNAL_FILE

    def _read(self) -> int:
        """Read the journal into `done`, and return the length of its whole lines in bytes."""
        try:
            if self.journal.exists() and not self.journal.is_file():
                raise UserError(f"{self.journal} is not a regular file: give another folder")
            content = self.journal.read_bytes() if self.journal.exists() else b""
        except OSError as error:
            raise UserError(f"cannot read {self.journal}: {error.strerror}") from error
        size = content.rfind(b"\n") + 1  # a line that the end of the process tore is as if it had never been written
        try:
            lines = [parse_object(line, str(self.journal)) for line in content[:size].split(b"\n")[:-1]]
            for line in lines[1:]:
                self.done |= {int(index): str(text) for index, text in line.items()}
        except ValueError as error:  # a UserError is one too
            raise UserError(f"{self.journal} is damaged: remove it, and its sentences are translated again") from error
        if lines:
            self._check(lines[0])
        return size

    def _check(self, saved: Any) -> None:
        """Refuse the journal of something else, whose manifest is `saved`."""
        for key in ("kind", "format", "made_from", "settings", "versions"):
            before, now = saved.get(key), self.manifest[key]
            if before == now:
                continue
            names = sorted(before.keys() | now.keys()) if isinstance(before, dict) and isinstance(now, dict) else []
            differing = next((name for name in names if before.get(name) != now.get(name)), key)
            raise UserError(
                f"{self.folder} holds translations made with another {differing}: give another folder, "
                f"or remove {self.journal.name} there"
            )

    def keep(self, batch: Mapping[int, str]) -> None:
        """Add a finished batch, index to translation; it is on the disk when this returns.

        Raises
        ------
        UserError
            When the file cannot be written; the batches before stay.
        """
        line = json.dumps({str(index): text for index, text in batch.items()}, ensure_ascii=False) + "\n"
        if not self._size:
            line = json.dumps(self.manifest, ensure_ascii=False) + "\n" + line
        data = line.encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.journal.open("r+b" if self.journal.exists() else "wb") as handle:
                handle.truncate(self._size)
                handle.seek(self._size)
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise write_error(self.journal, error) from error
        self._size += len(data)
        self.done |= dict(batch)

    def finish(self) -> Path:
        """Write source, reference and hypothesis of each sentence, in the order of the text, and return the file.

        Raises
        ------
        ValueError
            When a sentence is missing.
        """
        missing = len(self.pairs) - sum(index in self.done for index in range(len(self.pairs)))
        if missing:
            raise ValueError(f"{missing} sentences are not translated yet")
        sources, references = ([getattr(pair, side) for pair in self.pairs] for side in ("source", "target"))
        file = self.folder / HYPOTHESES_FILE
        write_hypotheses(file, sources, references, [self.done[i] for i in range(len(self.pairs))])
        return file


def write_hypotheses(file: Path, sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]) -> None:
    """Write source, reference and hypothesis of each sentence, one JSON object a line."""
    columns = zip(sources, references, hypotheses, strict=True)
    rows = [{"source": s, "reference": r, "hypothesis": h} for s, r, h in columns]
    write_json_lines(file, rows, "hypotheses")


def read_hypotheses(folder: Path) -> list[dict[str, str]]:
    """Read what `write_hypotheses` wrote to `HYPOTHESES_FILE` of a folder.

    Raises
    ------
    UserError
        When the folder has no such file, or a line of it is not a source, a reference and a hypothesis.
    """
    file = folder / HYPOTHESES_FILE
    if not file.is_file():
        raise UserError(f"{folder} holds no {HYPOTHESES_FILE}: give the folder of an evaluation that is done")
    rows = read_json_lines(file)
    for number, row in enumerate(rows, start=1):
        sides = [row.get(name) for name in ("source", "reference", "hypothesis")]
        if not all(isinstance(side, str) and is_encodable(side) for side in sides):
            raise UserError(
                f"{file}, entry {number} is not a source, a reference and a hypothesis in UTF-8 text: evaluate again"
            )
    return rows
