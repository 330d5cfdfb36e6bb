"""Says what a folder contains that is given as a model and is none: a run, a row patch or an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ks_lottery.checkpoint.adapter_settings import ADAPTER_CONFIG
from ks_lottery.checkpoint.file_bytes import is_there
from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.errors import UserError
from ks_lottery.store.json_content import read_object
from ks_lottery.store.run_folder import CONFIG_FILE, RunFolder

if TYPE_CHECKING:
    from pathlib import Path


def check_model_folder(path: Path) -> None:
    """Refuse a folder that is a run, a row patch or an adapter, and name its base model where that is recorded.

    Raises
    ------
    UserError
        When it is one of these and has no ``config.json``, which every model folder has.
    """
    if is_there(path / "config.json"):
        return
    if is_there(path / PATCH_FILE):
        kind, base = "a row patch", RowPatch.open(path).base.get("name")
    elif is_there(path / ADAPTER_CONFIG):
        kind, base = "an adapter", read_object(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    elif is_there(path / CONFIG_FILE):
        model: Any = RunFolder(path).config().get("model")
        kind, base = "a run folder", cast("dict[str, Any]", model).get("name") if isinstance(model, dict) else None
    else:
        return
    named = f", {base}" if isinstance(base, str) and base else ""
    raise UserError(f"{path} is {kind}, not a model: give its base model{named}")
