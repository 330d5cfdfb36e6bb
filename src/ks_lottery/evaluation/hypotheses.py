"""Translations saved batch by batch, so that a translation that was stopped resumes and ends with the same bytes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.lines import is_encodable
from ks_lottery.errors import UserError
from ks_lottery.evaluation.outputs import Output, is_output
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
        Outputs by the index of their sentence.

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
        content = manifest("outputs", made_from={**made_from, "text": text}, settings=settings)
        self.manifest: dict[str, Any] = json.loads(json.dumps(content))
        self.done: dict[int, Output] = {}
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
        lines: list[dict[str, Any]] = []
        try:
            lines = [parse_object(line, str(self.journal)) for line in content[:size].split(b"\n")[:-1]]
            for line in lines[1:]:
                self.done |= {int(index): _read_output(*entry) for index, entry in line.items()}
        except (ValueError, TypeError) as error:  # a UserError is a ValueError
            if lines:
                self._check(lines[0])  # a journal of an earlier version is no damaged one
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
            if key in {"kind", "format"}:
                raise UserError(
                    f"{self.folder} holds translations made with another version of ks-lottery: give another folder, "
                    f"or remove {self.journal.name} there"
                )
            names = sorted(before.keys() | now.keys()) if isinstance(before, dict) and isinstance(now, dict) else []
            differing = next((name for name in names if before.get(name) != now.get(name)), key)
            raise UserError(
                f"{self.folder} holds translations made with another {differing}: give another folder, "
                f"or remove {self.journal.name} there"
            )

    def keep(self, batch: Mapping[int, Output]) -> None:
        """Add a finished batch, index to output; it is on the disk when this returns.

        Raises
        ------
        UserError
            When the file cannot be written; the batches before stay.
        """
        entries = {str(index): [output.text, output.ended] for index, output in batch.items()}
        line = json.dumps(entries, ensure_ascii=False) + "\n"
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
        """Write source, reference, hypothesis and output of each sentence, in the order of the text, and return the file.

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
        outputs = [self.done[index] for index in range(len(self.pairs))]
        write_hypotheses(file, sources, references, [output.sentence for output in outputs], outputs)
        return file


def _read_output(text: Any, ended: Any) -> Output:
    if not is_output(text, ended):
        raise ValueError("it is not a text with true or false for `ended`")
    return Output(text=text, ended=ended)


def write_hypotheses(
    file: Path,
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    outputs: Sequence[Output] | None = None,
) -> None:
    """Write one JSON object a sentence: source, reference, hypothesis, and the output that it is, with whether it ended."""
    columns = zip(sources, references, hypotheses, strict=True)
    rows: list[dict[str, Any]] = [{"source": s, "reference": r, "hypothesis": h} for s, r, h in columns]
    for row, output in zip(rows, outputs or (), strict=outputs is not None):
        row |= {"output": output.text, "ended": output.ended}
    write_json_lines(file, rows, "hypotheses")


def read_hypotheses(folder: Path) -> list[dict[str, Any]]:
    """Read what `write_hypotheses` wrote to `HYPOTHESES_FILE` of a folder.

    Returns
    -------
    list of dict
        ``source``, ``reference``, ``hypothesis``; ``output`` and ``ended`` where an earlier version did not write the file.

    Raises
    ------
    UserError
        When the folder has no such file, or a line of it is not a source, a reference and a hypothesis, or its output is no
        text.
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
        if row.keys() & {"output", "ended"} and not is_output(row.get("output"), row.get("ended")):
            raise UserError(
                f"{file}, entry {number}: its output is not a text with true or false for `ended`: evaluate again"
            )
    return rows


def read_outputs(rows: Sequence[Mapping[str, Any]]) -> list[Output] | None:
    """Return the outputs of what `read_hypotheses` read; None where an earlier version wrote the file without them."""
    if not all("output" in row for row in rows):
        return None
    return [Output(text=row["output"], ended=row["ended"]) for row in rows]
