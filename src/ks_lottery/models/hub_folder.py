"""The folder of a hub id: fetched once, then found in the hub's own cache."""

from __future__ import annotations

from pathlib import Path

from ks_lottery.errors import UserError
from ks_lottery.store.hub_errors import hub_problem


def is_hub_id(name: str) -> bool:
    """Say whether a name has the form of a hub id, ``owner/model``."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def from_hub(name: str, *, pickles: bool = False) -> Path:
    """Return the folder of a hub id in huggingface_hub's cache; fetch what the cache does not have.

    Parameters
    ----------
    pickles
        Use ``.bin`` files where the repository has no safetensors.

    Raises
    ------
    UserError
        When the cache does not have it and it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [
        "*.safetensors",
        "*.json",
        "*.model",
        "*.txt",
        "*.jinja",
        "*.py",
        "README.md",  # which names the licence
    ]  # code runs only with trust_remote_code
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if pickles and not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, "*.bin"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason, remedy = hub_problem(error)
        if reason:
            raise UserError(
                f"model {name} is neither a folder here nor in the hub's cache, and {reason}. Give a local folder or a GGUF "
                f"file, or {remedy}"
            ) from error
        raise UserError(
            f"model {name} is neither a folder here nor to be had from the hub ({type(error).__name__}): "
            "give a local folder or a GGUF file, or log in if it is gated"
        ) from error
    return folder
