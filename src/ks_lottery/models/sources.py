"""Opens one side of a scan by name: a checkpoint of any kind, an adapter over its base, or a row patch; no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.adapter import ADAPTER_CONFIG, AdaptedCheckpoint
from ks_lottery.checkpoint.file_bytes import is_there, path_of
from ks_lottery.checkpoint.gguf_rows import GgufRows
from ks_lottery.checkpoint.layout import PICKLES, model_files
from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.checkpoint.pickled import PickledCheckpoint
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.errors import UserError
from ks_lottery.models.gguf import converted_before
from ks_lottery.models.hub_folder import from_hub, is_hub_id
from ks_lottery.models.load import LoadedModel, open_checkpoint
from ks_lottery.models.model_folder import check_model_folder
from ks_lottery.store.embedded_models import model_gguf
from ks_lottery.store.files import read_json
from ks_lottery.store.work_folder import MANIFEST_FILE

if TYPE_CHECKING:
    from ks_lottery.checkpoint.tensors import Source


def open_source(name: Any, base: Source | None = None) -> Source | RowPatch:
    """Open one side of a scan.

    Parameters
    ----------
    name
        Folder or file of safetensors, folder or file of pickled tensors (``.bin``), GGUF file, PEFT adapter, row patch, hub id,
        or the embedded model. A loaded model stands for its checkpoint, and a model of transformers for its weights in memory;
        what is open already is returned as it is.
    base
        The other side, to which an adapter or a patch belongs.

    Raises
    ------
    UserError
        When nothing of that name exists, it cannot be read safely, or it needs a base.
    """
    if isinstance(name, LoadedModel) or hasattr(name, "state_dict"):
        return open_checkpoint(name)
    if not isinstance(name, str | Path):
        return name
    text = str(name)
    path = path_of(text)
    if not path.exists() and is_hub_id(text):
        path = from_hub(text, pickles=True)
    if path.is_dir():
        return _open_folder(path, text, base)
    if path.is_file() and path.suffix in PICKLES:
        return PickledCheckpoint.open(path, text)
    if path.is_file() and path.suffix == ".safetensors":
        return _open_patch(path, text, base) if path.name == PATCH_FILE else Checkpoint.open(path, text)
    return open_checkpoint(text)


def _open_folder(path: Path, text: str, base: Source | None) -> Source | RowPatch:
    if is_there(path / ADAPTER_CONFIG):
        if base is None:
            raise UserError(f"{text} is an adapter: give its base first, and the adapter as the second")
        return AdaptedCheckpoint.open(path, base, text)
    if is_there(path / PATCH_FILE):
        return _open_patch(path, text, base)
    if is_there(path / "embed" / PATCH_FILE):
        raise UserError(f"{text} is a run folder: give one of its patches, such as {path / 'embed'}")
    check_model_folder(path)
    return (PickledCheckpoint if model_files(path).pickled else Checkpoint).open(path, text)


def is_gguf(name: Any) -> bool:
    """Say whether a name is that of a GGUF file that is here."""
    return isinstance(name, str | Path) and path_of(name).suffix == ".gguf" and path_of(name).is_file()


def stands_alone(name: Any) -> bool:
    """Say whether a name is that of a model which needs no other one: no adapter, no patch, and nothing that `tune` wrote."""
    if not isinstance(name, str | Path):
        return isinstance(name, Checkpoint)
    path = path_of(name)
    marks = (ADAPTER_CONFIG, PATCH_FILE, MANIFEST_FILE, str(Path("embed") / PATCH_FILE))
    return path.name != PATCH_FILE and not any((path / mark).exists() for mark in marks)


def open_rows(name: Any) -> Source | RowPatch:
    """Open one side of a scan of embeddings that stands alone: of a GGUF file only the rows are read, without a conversion."""
    return GgufRows.open(path_of(name), str(name)) if is_gguf(name) else open_source(name)


def open_unconverted(name: Any) -> Checkpoint | GgufRows:
    """Open a model to read its tokenizer and its embeddings, and no other weights. A GGUF file is not converted.

    Raises
    ------
    UserError
        When nothing of that name exists, or it cannot be read safely.
    """
    asset = isinstance(name, str) and name.startswith("asset:")
    if not asset and not is_gguf(name):
        return open_checkpoint(name)
    gguf = model_gguf(name) if asset else path_of(name)
    return open_checkpoint(name) if converted_before(gguf) else GgufRows.open(gguf, str(name))


def is_full_tuning_of(tuned: Source | RowPatch, base: Source) -> bool:
    """Say whether a folder holds a full tuning over this base, by the manifest that `tune` wrote into it."""
    file = tuned.folder / MANIFEST_FILE if isinstance(tuned, Checkpoint) else None
    if file is None or not isinstance(base, Checkpoint) or not file.is_file():
        return False
    try:
        about = read_json(file, "tuning")
    except UserError:
        return False
    origin, settings = about.get("made_from"), about.get("settings")
    named = origin.get("base") if isinstance(origin, dict) else None
    if not isinstance(named, dict) or not isinstance(settings, dict) or settings.get("method") != "full":
        return False
    return named.get("fingerprint") == base.fingerprint


def _open_patch(path: Path, text: str, base: Source | None) -> RowPatch:
    if base is None:
        raise UserError(f"{text} is a row patch: give its base first, and the patch as the second")
    return RowPatch.open(path)
