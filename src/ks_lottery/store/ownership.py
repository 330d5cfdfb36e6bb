"""What may be replaced: a file that does not exist yet, or an artifact of the same kind. Nothing else is ever overwritten."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.store.json_content import LARGEST

if TYPE_CHECKING:
    from collections.abc import Mapping

STREAMS = ("-", "/dev/stdout")
"""Names of an output file that mean standard output."""

HYPOTHESIS = ({"source", "reference", "hypothesis"}, {"source", "reference", "hypothesis", "output", "ended"})
"""Keys of each line of saved translations, which have no manifest: of earlier versions, and of this one."""

REPORT = b'<meta name="generator" content="ks-lottery">'
"""What the beginning of a report has, which is an HTML file without a manifest."""


def kind_of(path: Path) -> str | None:
    """Return the kind of artifact that a file says it holds; None for every other file.

    Parameters
    ----------
    path
        A regular file: JSON, Parquet or safetensors with a manifest, lines of translations, or a report.
    """
    about: object = None
    try:
        with path.open("rb") as handle:
            start = handle.read(9)
        if start.startswith(b"PAR1"):
            import pyarrow.parquet as pq

            about = json.loads((pq.read_schema(path).metadata or {}).get(b"ks-lottery", b"{}"))
        elif start[8:9] == b"{":
            with path.open("rb") as handle:
                header = json.loads(handle.read(min(int.from_bytes(handle.read(8), "little"), LARGEST)))
            about = json.loads(header["__metadata__"]["ks-lottery"])
        elif start.startswith(b"<!doctype"):
            with path.open("rb") as handle:
                about = {"kind": "report"} if REPORT in handle.read(1000) else None
        elif start.startswith(b"{") and path.stat().st_size <= LARGEST:
            content = path.read_bytes()
            first = json.loads(content.partition(b"\n")[0] if path.suffix == ".jsonl" else content)
            about = {"kind": "hypotheses"} if isinstance(first, dict) and set(first) in HYPOTHESIS else first
    except Exception:  # noqa: BLE001 (whatever a damaged or foreign file raises: it is not ours)
        return None
    kind = about.get("kind") if isinstance(about, dict) else None
    return kind if isinstance(kind, str) else None


def check_replaceable(path: Path, kind: str | None = None) -> None:
    """Refuse to overwrite what is not ours.

    Parameters
    ----------
    path
        File that is to be written.
    kind
        Kind of artifact that is written; one of another kind, and a file that is no artifact, is refused. None, for a file
        inside a folder of ours, checks only that it is a regular file.

    Raises
    ------
    UserError
        When `path` is a folder, device, pipe or socket, or an existing file of another kind.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise UserError(f"{path} is {what}: give another file to write to")
    if kind is None or path.stat().st_size == 0:
        return
    there = kind_of(path)
    if there != kind:
        what = f"holds a {there}" if there else "was not written by ks-lottery"
        raise UserError(f"{path} exists and {what}: give another file to write to, or remove it")


def check_not_input(out: str | Path, inputs: Mapping[str, str], *, stream: bool) -> None:
    """Refuse an output that is one of the inputs of its command.

    Parameters
    ----------
    out
        File or folder that is to be written.
    inputs
        Files and folders that are read, by parameter; names that are no files are passed over.
    stream
        Whether `out` may be standard output, ``-`` or ``/dev/stdout``.

    Raises
    ------
    UserError
        When `out` is the same file or folder as an input, or a stream where a folder is written.
    """
    if str(out) in STREAMS:
        if not stream:
            raise UserError(f"`out` is {out}, but a folder is written: give the name of a folder")
        return
    path = Path(out).expanduser()
    for name, given in inputs.items():
        try:
            same = path.samefile(Path(given).expanduser())
        except (OSError, ValueError):
            continue
        if same:
            raise UserError(f"`out` is {out}, which is also `{name}`: give another `out`")
