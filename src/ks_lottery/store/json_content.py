"""The one reader of JSON: an object is expected, its size and depth are bounded, and every fault is one sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 100_000_000
"""Bytes of a JSON text that is read; safetensors refuses longer headers too."""


def parse_json(text: str | bytes, name: str, remedy: str = "get the file again") -> Any:
    """Parse a JSON text of any kind.

    Parameters
    ----------
    text
        The text; bytes are UTF-8.
    name
        What the error calls it: the file, and the line where there are several.
    remedy
        What the error tells the user to do.

    Raises
    ------
    UserError
        When it is longer than `LARGEST`, is not UTF-8, is not JSON, or is nested too deeply.
    """
    if len(text) > LARGEST:
        raise UserError(f"{name} has {len(text):,} bytes of JSON, more than the {LARGEST:,} that are read: {remedy}")
    try:
        return json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8: {remedy}") from error
    except RecursionError as error:
        raise UserError(f"{name} is JSON that is nested too deeply: {remedy}") from error
    except ValueError as error:
        raise UserError(f"{name} is not valid JSON ({error}): {remedy}") from error


def parse_object(text: str | bytes, name: str, remedy: str = "get the file again") -> dict[str, Any]:
    """Parse a JSON text that must be an object; see `parse_json`.

    Raises
    ------
    UserError
        Also when it is JSON, but not an object.
    """
    content = parse_json(text, name, remedy)
    if not isinstance(content, dict):
        raise UserError(f"{name} is JSON, but not an object: {remedy}")
    return content


def read_object(path: Path, remedy: str = "get the file again") -> dict[str, Any]:
    """Read a file that must hold one JSON object; see `parse_object`.

    Raises
    ------
    UserError
        Also when the file does not exist, is not a regular file, or cannot be read.
    """
    return parse_object(_bytes_of(path, remedy), str(path), remedy)


def read_content(path: Path, remedy: str = "get the file again") -> Any:
    """Read a file of JSON of any kind; see `parse_json`.

    Raises
    ------
    UserError
        Also when the file does not exist, is not a regular file, or cannot be read.
    """
    return parse_json(_bytes_of(path, remedy), str(path), remedy)


def _bytes_of(path: Path, remedy: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            raise UserError(f"{path} is {what}: {remedy}")
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is larger than the {LARGEST:,} bytes of JSON that are read: {remedy}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
