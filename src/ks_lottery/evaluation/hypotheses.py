"""Translations saved as they are made, so that a run that broke goes on where it stopped and leaves the same bytes.

Must never mix sentences of two models, texts or settings, nor take half a batch for a whole one.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.files import digest_json, manifest, write_error, write_json_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ks_lottery.corpus.corpus import Pair

HYPOTHESES_FILE = "hypotheses.jsonl"
JOURNAL_FILE = "hypotheses.journal"


class Hypotheses:
    """Finished sentences of one translation of one text.

    The journal has a first line with the manifest of everything that they depend on, and then one line a finished batch,
    written through to the disk: `done` and `keep` are what `translate` takes. It stays beside the finished file, so that the
    same command again has nothing to do.

    Parameters
    ----------
    folder
        Where the journal and `HYPOTHESES_FILE` are.
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
        When the folder holds translations of something else, or cannot be written.
    """

    def __init__(
        self, folder: Path, pairs: Sequence[Pair], *, made_from: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.pairs = folder, pairs
        text = digest_json([[pair.source, pair.target, pair.instruction] for pair in pairs])
        about = manifest("hypotheses", made_from={**made_from, "text": text}, settings=settings)
        self.manifest: dict[str, Any] = json.loads(json.dumps(about))
        self.done: dict[int, str] = {}
        self._size = self._read()

    @property
    def journal(self) -> Path:
        """The file that grows with each batch."""
        return self.folder / JOURNAL_FILE

    def _read(self) -> int:
        """Take what the journal holds, and return the length of its whole lines in bytes."""
        try:
            content = self.journal.read_bytes() if self.journal.exists() else b""
        except OSError as error:
            raise UserError(f"cannot read {self.journal}: {error.strerror}") from error
        size = content.rfind(b"\n") + 1  # a line that the end of the process tore is as if it had never been written
        try:
            lines = [json.loads(line) for line in content[:size].splitlines()]
            if lines:
                self._check(lines[0])
            for line in lines[1:]:
                self.done |= {int(index): str(text) for index, text in line.items()}
        except (ValueError, AttributeError) as error:
            raise UserError(f"{self.journal} is damaged: remove it, and its sentences are translated again") from error
        return size

    def _check(self, found: Any) -> None:
        """Refuse the journal of something else."""
        other = [
            key
            for key in ("kind", "format", "made_from", "settings", "versions")
            if found.get(key) != self.manifest[key]
        ]
        if other:
            key = other[0]
            before, now = found.get(key), self.manifest[key]
            names = sorted(before.keys() | now.keys()) if isinstance(before, dict) and isinstance(now, dict) else []
            differ = [name for name in names if before.get(name) != now.get(name)] or [key]
            raise UserError(
                f"{self.folder} holds translations made with another {differ[0]}: give another folder, "
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
        rows = [
            {"source": pair.source, "reference": pair.target, "hypothesis": self.done[index]}
            for index, pair in enumerate(self.pairs)
        ]
        write_json_lines(self.folder / HYPOTHESES_FILE, rows)
        return self.folder / HYPOTHESES_FILE
