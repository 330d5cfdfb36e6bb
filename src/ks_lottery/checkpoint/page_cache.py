"""Fills the system's page cache with what a scan will read, while the interpreter is still importing.

Only for speed: what cannot be read ahead is read later, and what is wrong with a file is reported there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

from ks_lottery.store.json_content import LARGEST, parse_object

STEP = 128 << 20
"""Bytes that are read at a time, from each side in turn. Few calls: each waits for the interpreter, which is importing."""


def fill_page_cache(*names: str, modules: tuple[str, ...] = ()) -> None:
    """Let the system fetch tensors into its page cache, in the background, on Linux; at most half of the free memory.

    Parameters
    ----------
    names
        Folders or files of safetensors, as the user typed them; anything else is passed over.
    modules
        Only tensors of modules of these names, such as ``embed_tokens``; by default all.
    """
    if sys.platform == "linux":
        with contextlib.suppress(RuntimeError):  # the system gives no more threads
            threading.Thread(target=_fill, args=(names, modules), daemon=True).start()


def _fill(names: tuple[str, ...], modules: tuple[str, ...]) -> None:
    """Read the wanted bytes of all files; no error of any kind leaves this function, since the scan itself reports it."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        sides = [[span for file in _files(name) for span in _spans(file, modules)] for name in names]
        # Both sides in turn, since a scan reads them side by side.
        steps = [
            [(file, at, min(STEP, stop - at)) for file, start, stop in side for at in range(start, stop, STEP)]
            for side in sides
        ]
        for number in range(max(map(len, steps), default=0)):
            for side in steps:
                if number < len(side) and free > 0:
                    file, at, size = side[number]
                    with file.open("rb", buffering=0) as handle, Path(os.devnull).open("wb", buffering=0) as nowhere:
                        # Unlike advice to the system, which is cut off at what a disk takes at once, this reads it all.
                        os.sendfile(nowhere.fileno(), handle.fileno(), at, size)
                    free -= size
    except Exception:  # noqa: BLE001 (whatever a damaged file raises, RecursionError and MemoryError included)
        return


def _files(name: str) -> list[Path]:
    path = Path(name).expanduser()
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    whole = [file for file in files if file.name == "model.safetensors"]  # which goes before all others
    return [file for file in whole or files if file.is_file()]


def _spans(file: Path, modules: tuple[str, ...]) -> list[tuple[Path, int, int]]:
    """Return the byte ranges of the wanted tensors, in their order in the file."""
    end = file.stat().st_size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > min(end, LARGEST):
            return []
        header = parse_object(handle.read(length), str(file))
    header.pop("__metadata__", None)
    wanted = [
        (8 + length + about["data_offsets"][0], 8 + length + about["data_offsets"][1])
        for name, about in header.items()
        if not modules or (name.split(".") * 2)[-2] in modules
    ]
    return [(file, start, min(stop, end)) for start, stop in sorted(wanted)]  # a damaged header may name any number
