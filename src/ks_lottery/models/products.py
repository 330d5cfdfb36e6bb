"""What `tune` or `export` wrote into a folder: a row patch, a PEFT adapter or a whole model, with its base and its prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.checkpoint.adapter import ADAPTER_CONFIG
from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.errors import UserError
from ks_lottery.store.files import read_json
from ks_lottery.store.json_content import read_object
from ks_lottery.store.manifest import digest_file, digest_json, manifest
from ks_lottery.store.schema import mapping, sources
from ks_lottery.store.work_folder import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.checkpoint.reader import Checkpoint

RECORD_FILE = "tuned.json"
"""File of an adapter or a tuned model that says of which base, and how, it was made."""

WEIGHTS = "adapter_model.safetensors"

REMEDY = "make the folder again"

PROMPT_SETTINGS = (
    "template",
    "templates",
    "prompt",
    "instruction",
    "source_language",
    "target_language",
    "text_format",
)
"""Settings of a training that say how sentences are shown to the model."""


def training_record(base: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `RECORD_FILE`."""
    return manifest("tuning", made_from={"base": dict(base)}, settings=settings)


@dataclass(frozen=True, kw_only=True)
class SavedProduct:
    """What a tuning made, in a folder.

    Parameters
    ----------
    kind
        ``patch``, ``adapter`` (of PEFT) or ``model`` (a folder of transformers).
    folder
        Where it is.
    patch
        The row patch; None for the other kinds.
    base
        Name and fingerprint of the checkpoint that was tuned; empty where that is not recorded.
    settings
        Settings of the training; empty where they are not recorded.
    """

    kind: Literal["patch", "adapter", "model"]
    folder: Path
    patch: RowPatch | None = None
    base: Mapping[str, Any] = field(default_factory=dict[str, Any])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def open(cls, folder: str | Path) -> SavedProduct:
        """Read a folder; one without a record of ours is a product too.

        Raises
        ------
        UserError
            When there is no such folder, it is none of these, or its record is damaged.
        """
        place = Path(folder).expanduser()
        if place.name == PATCH_FILE or (place / PATCH_FILE).is_file():
            patch = RowPatch.open(place)
            home = place.parent if place.is_file() else place
            return cls(kind="patch", folder=home, patch=patch, base=patch.base, settings=patch.settings)
        if (place / "partial" / PATCH_FILE).is_file():
            raise UserError(f"{folder} is a run folder: give one of its patches, such as {place / 'partial'}")
        if not place.is_dir():
            raise UserError(f"{folder} does not exist: give the folder of a patch, an adapter or a model")
        kind = "adapter" if (place / ADAPTER_CONFIG).is_file() else "model"
        if kind == "model" and not (place / "config.json").is_file():
            raise UserError(f"{folder} holds no patch, adapter or model: give a folder that run, tune or export wrote")
        about, path = _record(place)
        if about is None:
            return cls(kind=kind, folder=place)
        settings = mapping(path, about, "settings")
        trained: Any = settings.get("training", settings)
        return cls(
            kind=kind,
            folder=place,
            base=mapping(path, sources(path, about), "base"),
            settings=trained if isinstance(trained, dict) else {},
        )

    @property
    def content(self) -> str:
        """Digest of a patch or an adapter."""
        if self.patch is not None:
            return self.patch.content
        return digest_json([digest_file(self.folder / WEIGHTS), digest_file(self.folder / ADAPTER_CONFIG)])

    @property
    def adapter_kind(self) -> str:
        """Kind of an adapter, as PEFT names it, such as ``LORA``."""
        return str(read_object(self.folder / ADAPTER_CONFIG, REMEDY).get("peft_type"))

    @property
    def base_name(self) -> str:
        """What its base is called.

        Raises
        ------
        UserError
            When neither its record nor PEFT's config says it.
        """
        name = self.base.get("name")
        if not isinstance(name, str) and self.kind == "adapter":
            name = read_object(self.folder / ADAPTER_CONFIG, REMEDY).get("base_model_name_or_path")
        if not isinstance(name, str) or not name:
            raise UserError(f"{self.folder} does not say which model it was made on: give that model too")
        return name

    def check_base(self, checkpoint: Checkpoint, *, force: bool = False) -> None:
        """Refuse another base than the one it was made on, as far as that is recorded.

        Parameters
        ----------
        force
            Accept other weights.

        Raises
        ------
        UserError
            When the weights differ.
        """
        if self.patch is not None:
            self.patch.check_base(checkpoint, force=force)
            return
        known = self.base.get("fingerprint")
        if not force and known is not None and known != checkpoint.fingerprint:
            raise UserError(
                f"the adapter {self.folder} was made on {self.base.get('name')} with fingerprint {str(known)[:12]}, but "
                f"{checkpoint.name} has {checkpoint.fingerprint[:12]}: give the base that the adapter belongs to"
            )

    @property
    def languages(self) -> tuple[str, str] | None:
        """Codes of the languages of the training; None where they are not recorded."""
        source, target = (self.settings.get(f"{side}_language") for side in ("source", "target"))
        return (source, target) if isinstance(source, str) and isinstance(target, str) else None

    def text_of(self, name: str) -> str | None:
        """Return a setting that is a text, such as ``template``; None where it is not recorded."""
        value = self.settings.get(name)
        return value if isinstance(value, str) else None


def _record(folder: Path) -> tuple[dict[str, Any] | None, Path]:
    """Return the record in a folder, and its file."""
    for name, kinds in ((MANIFEST_FILE, ("tuning", "export")), (RECORD_FILE, ("tuning",))):
        path = folder / name
        about = read_json(path) if path.is_file() else {}
        kind = about.get("kind")
        if kind in kinds:
            return read_json(path, kind), path
    return None, folder
