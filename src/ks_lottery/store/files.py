"""How every file of the project is written: whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.json_content import parse_object, read_object
from ks_lottery.store.manifest import check_manifest

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary file beside `path` that takes its place when the block ends well.

    Raises
    ------
    UserError
        When the device is full or the folder cannot be written; `path` is then as it was before.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that holds something, before anything is computed for it.

    Raises
    ------
    UserError
        When `folder` is a file or is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: give another one")


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """Yield a temporary folder beside `folder` that becomes it when the block ends well.

    Raises
    ------
    UserError
        When `folder` holds something, or cannot be written; nothing is then left.
    """
    check_new_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        temporary.replace(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_error(path: Path, error: OSError) -> UserError:
    """Say in one sentence why `path` could not be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError(f"no space left to write {path}: free some and give the same command again")
    return UserError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def to_json(content: object) -> str:
    """Return canonical JSON: order kept, indented, no NaN, ending in a newline."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON, whole or not at all."""
    write_text(path, to_json(content))


def write_json_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a JSON object; with `kind`, one whose manifest is of that kind.

    Raises
    ------
    UserError
        When the file is missing, is not a JSON object, or is of another kind or a newer format.
    """
    content = read_object(path, "make it again, or give another file")
    if kind is not None:
        check_manifest(path, content, kind)
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    r"""Read what `write_json_lines` wrote: one object a line, and only \n ends a line.

    Raises
    ------
    UserError
        When the file is missing, or a line is not a JSON object.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return [parse_object(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line]


def write_table(path: Path, columns: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Write equal-length columns as Parquet, with `content` (its manifest) in the file's metadata.

    Parameters
    ----------
    columns
        Name to NumPy array or list.
    content
        Manifest, kept as JSON under the metadata key ``ks-lottery``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(columns)).replace_schema_metadata({"ks-lottery": json.dumps(dict(content))})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a table of `write_table`.

    Returns
    -------
    columns, manifest
        Columns as NumPy arrays (strings as arrays of objects).

    Raises
    ------
    UserError
        When the file is missing, damaged, or of another kind or a newer format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is not a whole Parquet file") from error
    try:
        content = json.loads((table.schema.metadata or {}).get(b"ks-lottery", b"{}"))
    except ValueError as error:
        raise UserError(f"{path} has a damaged manifest: {error}") from error
    check_manifest(path, content, kind)
    return {name: table[name].to_numpy() for name in table.column_names}, content
