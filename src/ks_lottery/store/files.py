"""How every file of the project is written: whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.store.json_content import parse_object, read_object
from ks_lottery.store.manifest import check_manifest, with_article
from ks_lottery.store.ownership import check_replaceable
from ks_lottery.store.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path


@contextmanager
def replacing(path: Path, kind: str | None = None) -> Generator[Path]:
    """Yield a temporary file that takes the place of `path` when the block ends well.

    A link stays, and its target is replaced; the file keeps its mode, and a new one gets the mode of the umask.

    Parameters
    ----------
    kind
        Kind of artifact that is written: only one of the same kind is overwritten. None for a file inside a folder of ours.

    Raises
    ------
    UserError
        When `path` holds something else, the device is full, or the folder cannot be written; `path` is then as it was before.
    """
    check_replaceable(path, kind)
    target = path.resolve() if path.is_symlink() else path
    with writing(path), workspace(target) as folder:
        temporary = folder / target.name
        yield temporary
        _finish(temporary, target.stat().st_mode if target.exists() else folder.stat().st_mode & 0o666)
        temporary.replace(target)


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
def new_folder(folder: Path, *, shared: bool = False) -> Generator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well.

    Parameters
    ----------
    shared
        Whether another process may make the same folder meanwhile, as in a cache: then the first one that is ready stays.

    Raises
    ------
    UserError
        When `folder` holds something, or cannot be written; nothing is then left.
    """
    check_new_folder(folder)
    target = folder.resolve() if folder.is_symlink() else folder
    with writing(folder), workspace(target) as place:
        temporary = place / target.name
        temporary.mkdir()
        yield temporary
        for file in [file for file in temporary.rglob("*") if file.is_file()]:
            _finish(file, place.stat().st_mode & 0o666)
        if shared and target.is_dir() and any(target.iterdir()):
            return
        if target.is_dir():
            target.rmdir()
        temporary.replace(target)


def _finish(file: Path, mode: int) -> None:
    """Write a file through to the disk, and set its mode: libraries make files that nobody else can read."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.chmod(stat.S_IMODE(mode))


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn what the system says of a failed write inside a block into one sentence, whichever library writes.

    Raises
    ------
    UserError
        When the disk is full, or `path` cannot be written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        failure = as_write_error(error)
        if failure is None:
            raise
        raise write_error(path, failure) from error


def as_write_error(error: Exception) -> OSError | None:
    """Return the error of the system that an exception reports; None where it is of another kind.

    Parameters
    ----------
    error
        An OSError; or what safetensors and tokenizers raise for one ("... (os error 28)"), or torch.save, which does not name
        the reason.
    """
    if isinstance(error, OSError):
        return error
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if any(words in str(error) for words in ("PytorchStreamWriter failed", "inline_container", "iostream")):
        return OSError(errno.EIO, "the disk may be full")
    return None


def write_error(path: Path, error: OSError) -> UserError:
    """Say in one sentence why `path` could not be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError(f"no space left to write {path}: free some and give the same command again")
    return UserError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str, kind: str | None = None) -> None:
    """Write UTF-8 text, whole or not at all; see `replacing`."""
    with replacing(path, kind) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def to_json(content: object) -> str:
    """Return canonical JSON: order kept, indented, no NaN, ending in a newline."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON, whole or not at all; with a manifest, only over an artifact of the same kind."""
    write_text(path, to_json(content), content.get("kind"))


def write_json_lines(path: Path, rows: Sequence[Mapping[str, Any]], kind: str | None = None) -> None:
    """Write one JSON object a line; see `replacing`."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows), kind)


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
    with replacing(path, content.get("kind")) as temporary:
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

    if path.is_dir():
        beside = path / f"{kind}.parquet"
        such_as = f", such as {beside}" if beside.is_file() else ""
        raise UserError(f"{path} is a folder: give the Parquet file of {with_article(kind)}{such_as}")
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the name")
    try:
        with pq.ParquetFile(path) as file:  # the reader of data sets would import pandas
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is not a Parquet file, or it is damaged: make it again, or give another file"
        ) from error
    try:
        content = json.loads((table.schema.metadata or {}).get(b"ks-lottery", b"{}"))
    except ValueError as error:
        raise UserError(f"{path} has a damaged manifest: {error}") from error
    check_manifest(path, content, kind)
    return {name: table[name].to_numpy() for name in table.column_names}, content
