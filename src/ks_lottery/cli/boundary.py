"""What the system and parsers can throw, as one sentence for the user; everything else is a fault of this program.

Classes of libraries are known by their names, so that nothing is imported for an error that did not happen.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_NAME, LONGEST_PROBLEM = 200, 300
"""Characters of a file's name, and of what another library says, in an error."""

REMEDIES: Mapping[int, str] = {
    errno.ENOENT: "does not exist: check the name",
    errno.ENOTDIR: "is inside of something that is no folder: check the name",
    errno.EISDIR: "is a folder: give a file",
    errno.EACCES: "cannot be used, since permission is denied: change its permissions, or give another",
    errno.EPERM: "cannot be used, since that is not permitted: change its permissions, or give another",
    errno.ENAMETOOLONG: "has a name that is too long: give a shorter one",
    errno.ELOOP: "is a link that leads to itself: check the name",
    errno.ENOSPC: "cannot be written, since no space is left: free some and give the same command again",
    errno.EDQUOT: "cannot be written, since the quota is used up: free some and give the same command again",
    errno.EROFS: "cannot be written, since its file system is read-only: give another place",
    errno.EMFILE: "cannot be opened, since too many files are open: raise the limit (ulimit -n)",
    errno.ENOTEMPTY: "is not empty: give another folder",
    errno.EEXIST: "exists: give another name",
}
"""Number of a system error to what is said of the file."""

MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
"""What errors of torch say, in small letters, where memory is missing."""

DAMAGED = {
    "struct.error", "zlib.error", "_lzma.LZMAError", "lzma.LZMAError", "gzip.BadGzipFile", "zipfile.BadZipFile",
    "tarfile.TarError", "binascii.Error", "_pickle.UnpicklingError", "builtins.EOFError", "json.decoder.JSONDecodeError",
    "yaml.error.YAMLError", "pyarrow.lib.ArrowInvalid", "pyarrow.lib.ArrowException", "lxml.etree.LxmlError",
    "xml.etree.ElementTree.ParseError", "safetensors._safetensors_rust.SafetensorError", "safetensors_rust.SafetensorError",
}  # fmt: skip
"""Errors of parsers: module and name."""


def sentence_of(error: BaseException) -> str | None:
    """Return one sentence for an error that the user can do something about; None for a fault of this program.

    It names the file where the error knows it.
    """
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    if isinstance(error, UserError):
        return str(error)
    if names & DAMAGED:
        return f"a file is damaged or of another kind ({problem_of(error)}): get it again, or give another"
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, RecursionError):
        return "a file or a setting is nested too deeply: write it with fewer levels"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MEMORY)
    ):
        return "not enough memory: give a smaller batch size, shorter texts or a smaller model, or free some"
    return _of_python(error)


def problem_of(error: BaseException) -> str:
    """Return the kind of an error and what it says, cut where it is long."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_PROBLEM else f"{text[:LONGEST_PROBLEM]}..."
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _of_python(error: BaseException) -> str | None:
    if isinstance(error, UnicodeDecodeError):
        return f"a text is not {error.encoding} (byte {error.start:,}: {error.reason}): save it as UTF-8"
    if isinstance(error, UnicodeError):
        return f"a text has characters that cannot be written ({problem_of(error)}): replace them"
    if isinstance(error, OverflowError):
        return f"a number is too large to compute with ({problem_of(error)}): give a smaller one"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a name has a NUL character, which no file can have: check the names in the files that were given"
    if isinstance(error, ImportError) and not str(error.name).startswith("ks_lottery"):
        return f"a package cannot be imported ({problem_of(error)}): install it again"
    return None


def _of_system(error: OSError) -> str:
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if isinstance(name, str | os.PathLike):
        name = os.fspath(name)
        name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
        said = REMEDIES.get(error.errno or 0, f"cannot be used ({error.strerror or problem_of(error)}): give another")
        return f"{name} {said}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            "no space is left, on standard output or where files are written: free some and give the same command again"
        )
    if error.errno == errno.ENOMEM:
        return "not enough memory: give a smaller batch size, shorter texts or a smaller model, or free some"
    return f"the system or the network refuses something ({problem_of(error)}): check files, disk and connection"
