"""The folder of a run: which config made it, which stages are done, and what they left.

Must never overwrite a folder that another config made, nor take a half-written stage for a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from ks_lottery.config.settings import RunConfig, as_dict, difference
from ks_lottery.errors import UserError
from ks_lottery.store.files import digest_file, read_json, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIG_FILE = "config.yaml"
STAGES = ".stages"
LOCK = ".lock"


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    Parameters
    ----------
    path
        The folder; `claim` makes it.
    """

    path: Path

    def check(self, config: RunConfig) -> None:
        """Refuse a folder that this config did not make.

        Raises
        ------
        UserError
            When it holds a run of another config, naming the difference, or something that is no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file: give another --out")
        if not self.path.is_dir() or all(entry.name == LOCK for entry in self.path.iterdir()):
            return
        saved = self.path / CONFIG_FILE
        if not saved.is_file():
            raise UserError(f"{self.path} holds files but no {CONFIG_FILE}, so it is no run: give another --out")
        changed = difference(self.config(), as_dict(config))
        if changed:
            raise UserError(
                f"{self.path} was made by another config: {changed}; give another --out or the same settings"
            )

    def config(self) -> dict[str, Any]:
        """Return the config that made the run, as nested plain values.

        Raises
        ------
        UserError
            When the folder is no run.
        """
        saved = self.path / CONFIG_FILE
        try:
            content = yaml.safe_load(saved.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{self.path} is no run: it has no {CONFIG_FILE}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{saved} is not YAML that can be read") from error
        if not isinstance(content, dict):
            raise UserError(f"{saved} is not the config of a run")
        return content

    def claim(self, config: RunConfig, inputs: dict[str, Any]) -> None:
        """Make the folder, or check that an unfinished run was begun with the same model and text.

        Raises
        ------
        UserError
            When model or text changed since the run began.
        """
        before = self.path / "inputs.json"
        if before.is_file():
            old = read_json(before)
            changed = [key for key in inputs if old.get(key) != inputs[key]]
            if changed:
                raise UserError(f"{self.path} was begun with another {changed[0]}: give another --out to start anew")
        else:
            write_json(before, inputs)
        if not (self.path / CONFIG_FILE).is_file():
            write_text(self.path / CONFIG_FILE, yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True))

    def is_done(self, stage: str) -> bool:
        """Say whether a stage is done and its files are as it left them."""
        marker = self.path / STAGES / f"{stage}.json"
        if not marker.is_file():
            return False
        files: dict[str, str] = read_json(marker)["files"]
        return all((self.path / name).is_file() and digest_file(self.path / name) == sha for name, sha in files.items())

    def finish(self, stage: str, files: Sequence[Path], log: Sequence[str], order: Sequence[str]) -> None:
        """Mark a stage as done, and write the log of all stages that are, in their order."""
        hashes = {str(file.relative_to(self.path)): digest_file(file) for file in sorted(files)}
        write_json(self.path / STAGES / f"{stage}.json", {"files": hashes, "log": list(log)})
        lines: list[str] = []
        for name in order:
            marker = self.path / STAGES / f"{name}.json"
            if marker.is_file():
                lines += [f"{name}: {line}" for line in read_json(marker)["log"]]
        write_text(self.path / "log.txt", "".join(f"{line}\n" for line in lines))

    def forget(self, stages: Sequence[str]) -> None:
        """Take back the marks of stages that are to be done again."""
        for stage in stages:
            (self.path / STAGES / f"{stage}.json").unlink(missing_ok=True)

    def time(self, stage: str, seconds: float) -> None:
        """Add to ``timings.json``, the one file whose bytes may differ between two runs."""
        path = self.path / "timings.json"
        known = read_json(path) if path.is_file() else {}
        write_json(path, {**known, stage: round(seconds, 3)})
