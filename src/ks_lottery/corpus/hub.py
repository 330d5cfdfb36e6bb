"""Rows of a Hugging Face dataset, by name or from a local folder.

Must never run code of a dataset: the datasets library reads data files alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable


def read_dataset(name: str, config: str | None, split: str) -> Iterable[Any]:
    """Return the rows of a split.

    Parameters
    ----------
    name
        Hub id, or a folder of data files.

    Raises
    ------
    UserError
        When there is no such dataset, configuration or split, or the hub cannot be reached.
    """
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    try:
        return load_dataset(name, config, split=split)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"text {name} is no file here, and as a Hugging Face dataset (config {config}, split {split}) it cannot be "
            f"read: {type(error).__name__}: {reason}"
        ) from error
