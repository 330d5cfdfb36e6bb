"""Rows of a Hugging Face dataset, by name or from a local folder. Code of a dataset is not run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.hub_errors import hub_problem

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_dataset(name: str, config: str | None, split: str, *, streaming: bool = False) -> Iterator[Any]:
    """Yield the rows of a split.

    Parameters
    ----------
    name
        Hub id, a folder of data files, or a folder that ``save_to_disk`` wrote.
    streaming
        Read row by row, without storing the dataset first; a local folder is always read so.

    Raises
    ------
    UserError
        When there is no such dataset, configuration or split, the hub cannot be reached, or a data file is damaged.
    """
    from datasets import disable_progress_bars

    disable_progress_bars()
    number = 0
    try:
        for row in _open(name, config, split, streaming=streaming):
            number += 1
            yield row
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        where = f", row {number + 1}" if number else ""
        what = (
            f"dataset {name}"
            if Path(name).is_dir()
            else f"text {name} is no file here, and as a Hugging Face dataset it"
        )
        problem, remedy = ("", "") if Path(name).is_dir() else hub_problem(error)
        if problem:
            raise UserError(f"{what} cannot be fetched: {problem}. Give a local file, or {remedy}") from error
        raise UserError(
            f"{what} cannot be read (config {config}, split {split}){where}: {type(error).__name__}: {reason}"
        ) from error


def _open(name: str, config: str | None, split: str, *, streaming: bool) -> Any:
    from datasets import DatasetDict, load_dataset, load_from_disk

    folder = Path(name)
    if not any((folder / file).is_file() for file in ("state.json", "dataset_dict.json")):
        # The library's cache does not tell two folders of one name apart, nor see that a file changed: files that are here are
        # read as they are, row by row.
        return load_dataset(name, config, split=split, streaming=streaming or folder.is_dir())
    saved = load_from_disk(name)
    if not isinstance(saved, DatasetDict):
        return saved
    if split not in saved:
        raise UserError(f"text {name} has no split {split}; it has {', '.join(map(str, saved))}")
    return saved[split]
