"""The folder of a run: the names of its files, the config that made it, and which stages are done."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from ks_lottery.config.keys import difference
from ks_lottery.config.settings import RunConfig, as_dict
from ks_lottery.errors import UserError
from ks_lottery.store.files import read_json, write_json, write_text
from ks_lottery.store.manifest import digest_file, digest_json
from ks_lottery.store.work_folder import is_empty, locked_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

CONFIG_FILE, INPUTS_FILE, LOG_FILE, TIMINGS_FILE = "config.yaml", "inputs.json", "log.txt", "timings.json"
SCAN_FILE, TICKETS_FILE, WHERE_FILE, SUMMARY_FILE = "scan.parquet", "tickets.json", "where.json", "summary.json"
TEXT, TEXT_REPORT, CALIBRATION, TEST = "text", "report.json", "calibration", "test"
EMBED = "embed"
"""Method, and so folder, of the embed tuning that a run scans."""

MARKERS, UNFINISHED = ".stages", ".unfinished"
WHOLE_FILE = "whole.json"
"""Written last into a checkpoint of a training: one without it was cut off, and is not resumed from."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    Parameters
    ----------
    path
        The folder; `claim` makes it.
    """

    path: Path

    @property
    def scan(self) -> Path:
        """The scan of the original model against embed tuning."""
        return self.path / SCAN_FILE

    @property
    def tickets(self) -> Path:
        """The winning tickets."""
        return self.path / TICKETS_FILE

    @property
    def summary(self) -> Path:
        """Every figure of the run."""
        return self.path / SUMMARY_FILE

    @property
    def where(self) -> Path:
        """In which spans of a text the tickets act."""
        return self.path / WHERE_FILE

    @property
    def text_report(self) -> Path:
        """What was read, dropped and split."""
        return self.path / TEXT / TEXT_REPORT

    @property
    def certificates(self) -> Path:
        """Folder of the certificates."""
        return self.path / "certificate"

    def text(self, part: str) -> Path:
        """Return the file of a part of the text: ``train``, ``calibration`` or ``test``."""
        return self.path / TEXT / f"{part}.jsonl"

    def method(self, method: str) -> Path:
        """Return the folder of what a method trained."""
        return self.path / method

    def rows(self, method: str) -> Path:
        """Return the file of the rows that a method trained."""
        return self.path / method / "rows.json"

    def training(self, method: str) -> Path:
        """Return the file of the losses of a training."""
        return self.path / method / "training.json"

    def predictions(self, method: str) -> Path:
        """Return the file of a method's next-token predictions on the test text."""
        return self.path / "predictions" / f"{method}.parquet"

    def hypotheses(self, method: str) -> Path:
        """Return the file of a method's translations."""
        return self.path / "hypotheses" / f"{method}.jsonl"

    def evaluation(self, method: str) -> Path:
        """Return the file of a method's scores, accuracy and loss."""
        return self.path / "evaluation" / f"{method}.json"

    def check(self, config: RunConfig) -> None:
        """Refuse a folder that this config did not make.

        Raises
        ------
        UserError
            When it holds a run of another config, naming the difference, or something that is no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file: give another `out`")
        if not self.path.exists() or is_empty(self.path):
            return
        if not (self.path / CONFIG_FILE).is_file():
            raise UserError(
                f"{self.path} holds files but no {CONFIG_FILE}, so it is not a run folder: give another `out`"
            )
        changed = difference(self.config(), as_dict(config))
        if changed:
            raise UserError(
                f"{self.path} was made by another config: {changed}; give another `out` or the same settings"
            )

    def config(self) -> dict[str, Any]:
        """Return the config that made the run, as nested plain values.

        Raises
        ------
        UserError
            When the folder is not that of a run.
        """
        saved = self.path / CONFIG_FILE
        try:
            content = yaml.safe_load(saved.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{self.path} is not a run folder: it has no {CONFIG_FILE}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{saved} is not YAML that can be read") from error
        if not isinstance(content, dict):
            raise UserError(f"{saved} is not the config of a run")
        return content

    @contextmanager
    def locked(self) -> Generator[None]:
        """Make the folder, and keep it for this process inside a block.

        Raises
        ------
        UserError
            When another process works in it, or it cannot be written.
        """
        with locked_folder(self.path):
            yield

    def claim(self, config: RunConfig, inputs: Mapping[str, str], threads: int) -> int:
        """Write config and inputs, or check that an unfinished run was begun with the same ones.

        Parameters
        ----------
        inputs
            Fingerprints of model and text.
        threads
            Threads that compute now.

        Returns
        -------
        int
            Threads that the run began with.

        Raises
        ------
        UserError
            When config, model or text changed since the run began.
        """
        self.check(config)
        if not (self.path / CONFIG_FILE).is_file():
            write_text(self.path / CONFIG_FILE, yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True))
        before = self.path / INPUTS_FILE
        if not before.is_file():
            write_json(before, {**inputs, "threads": threads})
            return threads
        old = read_json(before)
        changed = [name for name in inputs if old.get(name) != inputs[name]]
        if changed:
            raise UserError(f"{self.path} was begun with another {changed[0]}: give another `out` to start anew")
        return int(old.get("threads", threads))

    def is_done(self, stage: str, key: str) -> bool:
        """Say whether a stage was finished with this key and its files are as it wrote them."""
        if not self._marker(stage).is_file():
            return False
        marker = read_json(self._marker(stage))
        files: dict[str, str] = marker["files"]
        return marker.get("key") == key and all(
            (self.path / name).is_file() and digest_file(self.path / name) == sha for name, sha in files.items()
        )

    def discard(self, stage: str) -> None:
        """Remove the files of a stage that is made again: the stage wrote them, even if they are damaged now."""
        if self._marker(stage).is_file():
            for name in read_json(self._marker(stage))["files"]:
                (self.path / name).unlink(missing_ok=True)

    def digest(self, stage: str) -> str:
        """Return the digest of the files that a finished stage wrote."""
        return digest_json(read_json(self._marker(stage))["files"])

    def finish(self, stage: str, key: str, files: Sequence[Path], log: Sequence[str], order: Sequence[str]) -> None:
        """Mark a stage as done, and write the log of all finished stages, in their order."""
        hashes = {str(file.relative_to(self.path)): digest_file(file) for file in sorted(files)}
        write_json(self._marker(stage), {"key": key, "files": hashes, "log": list(log)})
        markers = [(name, self._marker(name)) for name in order if self._marker(name).is_file()]
        lines = [f"{name}: {line}\n" for name, marker in markers for line in read_json(marker)["log"]]
        write_text(self.path / LOG_FILE, "".join(lines))

    def unfinished(self, stage: str, key: str) -> Path:
        """Return the folder in which a stage with this key saves what lets it resume."""
        return self.path / UNFINISHED / f"{stage}-{key[:16]}"

    def remove_unfinished(self) -> None:
        """Remove what finished stages, or stages with other keys, saved to resume."""
        if (self.path / UNFINISHED).is_dir():
            shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)

    def time(self, stage: str, seconds: float) -> None:
        """Add to ``timings.json``, the one file whose bytes may differ between two runs."""
        path = self.path / TIMINGS_FILE
        known = read_json(path) if path.is_file() else {}
        write_json(path, {**known, stage: round(seconds, 3)})

    def _marker(self, stage: str) -> Path:
        return self.path / MARKERS / f"{stage}.json"
