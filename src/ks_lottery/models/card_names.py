"""What a model card calls the base and its texts: hub ids whole, of a path its last part, always one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.corpus.languages import language_code
from ks_lottery.errors import UserError
from ks_lottery.report.forms import printable
from ks_lottery.store.embedded_models import EMBEDDED_MODELS, terms_of
from ks_lottery.store.json_content import read_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ks_lottery.checkpoint.reader import Checkpoint

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
"""Form of an id that the hub accepts as a base model or a data set."""

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
"""Form of the hub's names of licences, such as ``apache-2.0``."""

LONGEST = 96
"""Characters of a name in a card."""


def short_name(name: str) -> str:
    """Return a name for readers on another machine: of a path on this one the last part, of all else the whole.

    >>> short_name("/home/me/models/tiny/"), short_name("owner/model"), short_name("asset:catalogs")
    ('tiny', 'owner/model', 'asset:catalogs')
    """
    is_id = HUB_ID.fullmatch(name) is not None and not _exists(name)
    shown = name if is_id or "/" not in name else name.rstrip("/").rpartition("/")[2]
    shown = printable(shown)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."


def hub_id(name: str) -> str | None:
    """Return the id by which the hub knows a model or a data set; None for what is on this machine alone.

    An embedded model is known by the id of the model that it is a quantisation of.
    """
    if name in EMBEDDED_MODELS:
        return EMBEDDED_MODELS[name].hub or None
    return name if HUB_ID.fullmatch(name) and not _exists(name) else None


def dataset_id(name: str) -> str | None:
    """Return the id by which the hub knows a text; None for a file, which may be gone: a name with an ending is one.

    >>> dataset_id("owner/pairs"), dataset_id("data/pairs.tsv")
    ('owner/pairs', None)
    """
    return None if Path(name).suffix else hub_id(name)


def license_of(checkpoint: Checkpoint) -> str | None:
    """Return the hub's name of the base's licence, as far as the base says it; None where it does not.

    It is known of the embedded models, and otherwise in the front matter of the README.md beside the weights, or in the
    header of the GGUF file that the base is.
    """
    origin = terms_of(checkpoint.folder)
    if origin is not None and origin.terms is not None:
        return origin.terms.name
    if checkpoint.name in EMBEDDED_MODELS:
        return EMBEDDED_MODELS[checkpoint.name].license or None
    return _in_front_matter(checkpoint) or _in_gguf(checkpoint)


def languages_of(codes: Iterable[object]) -> list[str]:
    """Return languages by the codes that the hub knows, each once; what has none is left out."""
    known = [language_code(code) for code in codes if isinstance(code, str) and code]
    return list(dict.fromkeys(code for code in known if code is not None))


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def _in_front_matter(checkpoint: Checkpoint) -> str | None:
    import yaml
    from huggingface_hub import metadata_load

    file = checkpoint.folder / "README.md"
    if not checkpoint.folder.parts or not file.is_file():
        return None
    try:
        content = metadata_load(file) or {}
    except (ValueError, OSError, yaml.YAMLError):  # a README that somebody else wrote
        return None
    return _license(content.get("license"))


def _in_gguf(checkpoint: Checkpoint) -> str | None:
    from ks_lottery.checkpoint.gguf_header import read_gguf

    file = Path(checkpoint.name)
    if file.suffix != ".gguf" or not _exists(checkpoint.name):
        return None
    try:
        return _license(read_gguf(file).about.get("general.license"))
    except UserError:
        return None


def _license(value: object) -> str | None:
    return value if isinstance(value, str) and LICENSE.fullmatch(value) else None


def text_fingerprint(folder: Path | None) -> str | None:
    """Return the fingerprint of the text that the patch in a folder was tuned on, where `tune` recorded it there."""
    if folder is None or not (folder / "manifest.json").is_file():
        return None
    try:
        made_from = read_object(folder / "manifest.json").get("made_from")
    except UserError:
        return None
    text = made_from.get("text") if isinstance(made_from, dict) else None
    return text if isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) else None
