"""Equality of nouns: two of a kind are equal when their content is, however they were made; and tables for pandas."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame


class ByContent:
    """A noun that is equal to another of its class when both have the same fingerprint, and hashes by it.

    So equal nouns are one element of a set and one key of a dict. The fingerprint is computed when it is asked for: an array
    that is changed in place changes it.
    """

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self is other or self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def digest_content(content: object, columns: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values and arrays, in hexadecimal.

    Parameters
    ----------
    content
        What JSON has; tuples count as lists.
    columns
        Name to NumPy array. Type, shape and bytes count; NaN equals NaN of the same bits.
    """
    about = {name: [str(column.dtype), list(column.shape)] for name, column in columns.items()}
    digest = hashlib.sha256(json.dumps([content, about], sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(columns):
        column = columns[name]
        digest.update(json.dumps(column.tolist()).encode() if column.dtype.kind in "OU" else column.tobytes())
    return digest.hexdigest()


def array_form(array: Any) -> str:
    """Return type and shape of an array or tensor, which stand for it in one line.

    >>> import numpy as np
    >>> array_form(np.zeros((2, 3)))
    'float64[2, 3]'
    """
    return f"{str(array.dtype).removeprefix('torch.')}{list(array.shape)}"


def data_frame(columns: Mapping[str, Any]) -> DataFrame:
    """Return columns of equal length as a pandas data frame.

    Raises
    ------
    UserError
        When pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UserError("to_pandas needs pandas, which is not installed: pip install pandas") from error
    return pd.DataFrame(dict(columns))
