"""Where the tensors of a pickled file lie. Nothing but tensors is unpickled, and no number in the file allocates memory."""

from __future__ import annotations

import logging
import pickle
import struct
import warnings
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from ks_lottery.checkpoint.file_bytes import read_at, read_spans, size_of
from ks_lottery.checkpoint.headers import TensorEntry
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

MOST = 4
"""How many times the size of the file its tensors may have in memory, of those that have to be there."""


@dataclass(frozen=True)
class PickleContent:
    """The tensors of a file.

    Parameters
    ----------
    entries
        Every tensor: where its bytes lie, or only its type and shape.
    held
        Those that have to be in memory, since the file has no place where they lie row by row.
    """

    entries: Mapping[str, TensorEntry]
    held: Mapping[str, torch.Tensor]


def read_content(file: Path) -> PickleContent:
    """Return where the tensors of a file lie.

    Raises
    ------
    UserError
        When it is damaged, or holds more than tensors, or tensors without values of their own.
    """
    size = size_of(file)
    zipped = size >= 4 and read_at(file, 0, 4).tobytes() == b"PK\x03\x04"
    records = _records(file, size) if zipped else {}
    tensors = _named(_load(file, fake=True), file)
    for name, tensor in tensors.items():
        _check(name, tensor, file, size, placed=zipped)
    if not zipped:
        return _in_memory(_named(_load(file, fake=False), file), file, size)
    entries: dict[str, TensorEntry] = {}
    held: dict[str, torch.Tensor] = {}
    spent = 0
    for name, tensor in tensors.items():
        item, shape = tensor.dtype.itemsize, tuple(tensor.shape)
        storage: Any = tensor.untyped_storage()
        begin = int(storage._checkpoint_offset)  # noqa: SLF001 (where torch says it under a fake mode)
        if tensor.numel() and records.get(begin, -1) < storage.nbytes():
            raise UserError(f"{file}: the bytes of tensor {name} do not fit its shape: get the file again")
        start = begin + int(tensor.storage_offset()) * item
        entries[name] = TensorEntry(file, tensor.dtype, shape, start, start + tensor.numel() * item)
        if not tensor.is_contiguous():
            raw = read_at(file, start, _span(tensor) * item)
            flat = torch.from_numpy(raw).view(tensor.dtype)
            held[name] = flat.as_strided(shape, tensor.stride()).contiguous()
            spent += held[name].nbytes
            check_amount(spent, size, file)
    return PickleContent(entries, held)


def _in_memory(tensors: dict[str, torch.Tensor], file: Path, size: int) -> PickleContent:
    """Return tensors of the format before torch 1.6, which has to be read as a whole."""
    for name, tensor in tensors.items():
        _check(name, tensor, file, size)
    check_amount(sum(t.nbytes for t in tensors.values() if not t.is_contiguous()), size, file)
    held = {name: tensor.contiguous() for name, tensor in tensors.items()}
    entries = {name: TensorEntry(file, t.dtype, tuple(t.shape), 0, t.nbytes) for name, t in held.items()}
    return PickleContent(entries, held)


def check_amount(spent: int, size: int, file: Path) -> None:
    """Refuse to take many times the size of a file in memory.

    Raises
    ------
    UserError
        When the tensors have more than `MOST` times the bytes of the file.
    """
    if spent > MOST * size:
        raise UserError(
            f"{file} would take {spent:,} bytes in memory, but has only {size:,}: save its tensors contiguous"
        )


def _span(tensor: torch.Tensor) -> int:
    """Return the elements from the first to the last one of a tensor, in its storage."""
    return 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def _check(name: str, tensor: torch.Tensor, file: Path, size: int, *, placed: bool = True) -> None:
    """Refuse a tensor whose values do not lie in the file one by one; `placed` is off where torch gives it no device yet."""
    kind = ""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        kind = "is sparse, nested or quantised"
    elif (placed and tensor.device.type == "meta") or tensor.is_conj() or tensor.is_neg():
        kind = "has no values of its own"
    elif tensor.numel() and (_span(tensor) < tensor.numel() or tensor.numel() * tensor.dtype.itemsize > size):
        kind = f"is expanded to {' x '.join(map(str, tensor.shape))}, of which the file has fewer values"
    if kind:
        raise UserError(f"{file}: tensor {name} {kind}: save it as a plain tensor")


def _records(file: Path, size: int) -> dict[int, int]:
    """Return the bytes of each record of a zip archive by where they begin; compressed ones are refused."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, EOFError) as error:
        raise UserError(f"{file} is truncated or damaged: get it again") from error
    names = {info.filename.rpartition("/")[2] for info in infos}
    if "constants.pkl" in names:
        raise UserError(f"{file} is a TorchScript archive, which holds code: convert the checkpoint to safetensors")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.header_offset + 30 + info.file_size > size:
            raise UserError(f"{file} is compressed or damaged: save it with torch.save, and get it again")
    heads = read_spans(file, [(info.header_offset, 30) for info in infos]).reshape(-1, 30)
    begins = {
        info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30].tobytes())): info
        for info, head in zip(infos, heads, strict=True)
    }
    for begin, info in begins.items():
        order = info.filename.endswith("/byteorder") and info.file_size < 16
        if order and read_at(file, begin, info.file_size).tobytes() != b"little":
            raise UserError(f"{file} was saved on a big-endian machine: convert the checkpoint to safetensors")
    return {begin: info.file_size for begin, info in begins.items()}


@contextmanager
def _silence() -> Generator[None]:
    """Keep torch's warnings and log lines about a file from the user, who gets one sentence of ours."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _load(file: Path, *, fake: bool) -> Any:
    """Unpickle a file: its tensors without their values, which are not read, or with them."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with _silence():
            if not fake:
                return torch.load(file, map_location="cpu", weights_only=True)
            with FakeTensorMode():  # no tensor has values, so that the file's numbers allocate nothing
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} is a pickle that holds more than tensors, or a damaged one, and is not loaded: convert it to safetensors"
        ) from error
    except Exception as error:  # what a damaged file makes torch raise has no common type
        raise UserError(f"{file} cannot be read as a checkpoint: get it again") from error


def _named(content: Any, file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors by name, also where they are in the only container that has some."""
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no tensors by name: convert the checkpoint to safetensors")
    known = cast("dict[Any, Any]", content)
    direct = _tensors_in(known)
    nested = {str(key): _tensors_in(value) for key, value in known.items() if isinstance(value, dict)}
    nested = {key: tensors for key, tensors in nested.items() if tensors}
    if len(nested) + bool(direct) > 1:
        names = ", ".join([*nested, *list(direct)[:1]][:4])
        raise UserError(f"{file} holds several sets of tensors ({names}): save the model's alone")
    return direct or next(iter(nested.values()), {}) or _refuse(file)


def _refuse(file: Path) -> dict[str, torch.Tensor]:
    raise UserError(f"{file} holds no tensors by name: give the file with the model's weights")


def _tensors_in(content: dict[Any, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
