"""One model of several that are compared, by name: a checkpoint of any kind, with the patch or adapter that belongs on it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.adapter import ADAPTER_CONFIG
from ks_lottery.checkpoint.file_bytes import is_there, path_of
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.equipped import WEIGHTS, equipped, is_patch, open_on
from ks_lottery.models.hub_folder import from_hub, is_hub_id
from ks_lottery.models.load import LoadedModel, load_model, open_checkpoint
from ks_lottery.models.tokenized import tokenizer_of
from ks_lottery.store.json_content import read_object
from ks_lottery.store.manifest import digest_file, digest_json

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from transformers import PreTrainedTokenizerBase

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.equipped import Equipped
    from ks_lottery.models.tokenized import Tokenized


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenedModel:
    """A model that is not loaded yet, unless it was given loaded.

    Parameters
    ----------
    name
        What results call it.
    base
        Its checkpoint with the tokenizer, or a loaded model, which is used as it is.
    product
        The row patch on it, or the folder of the PEFT adapter on it; None for the model as it is.
    """

    name: str
    base: Tokenized
    product: RowPatch | Path | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        return self.base.tokenizer

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the base."""
        return self.base.checkpoint

    @property
    def prompt(self) -> str | None:
        """The prompt that the rows of a patch were made for; None where there is none of its own."""
        return self.product.prompt if isinstance(self.product, RowPatch) else None

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of it: its name, its base, and the content of the patch or adapter."""
        if isinstance(self.product, Path):
            content: str | None = digest_json([digest_file(self.product / name) for name in (WEIGHTS, ADAPTER_CONFIG)])
        else:
            content = None if self.product is None else self.product.content
        return {"name": self.name, "base": self.checkpoint.describe(), "product": content}


def open_models(
    models: Sequence[Any],
    *,
    base: str | Path | Checkpoint | LoadedModel | None = None,
    names: Sequence[str | None] = (),
    reserved: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> list[OpenedModel]:
    """Open models of any kind, without loading their weights.

    Parameters
    ----------
    models
        Each a folder, GGUF file, hub id or asset; the folder or hub id of a row patch or of a PEFT adapter; a patch, an opened
        checkpoint or a loaded model.
    base
        Base of the patches and adapters among them; None for the base that each names.
    names
        What results call the models, one a model; None for the shortest name that tells it apart, as for all without names.
    reserved
        Names that no model gets.
    trust_remote_code
        Run Python code that comes with a checkpoint.

    Raises
    ------
    UserError
        When nothing of that name exists, it cannot be read, or a patch or adapter has no base or another one.
    """
    given = list(names) or [None] * len(models)
    texts = [name or _text(model) for name, model in zip(given, models, strict=True)]
    called = short_names([*reserved, *texts])[len(reserved) :]
    opened: dict[str, Tokenized] = {}
    return [
        _open(model, name, base, opened, trust=trust_remote_code) for model, name in zip(models, called, strict=True)
    ]


def short_names(names: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that tell models apart; other names stay whole, and copies are numbered.

    >>> short_names(["owner/model", "asset:smollm2-135m-instruct", "patch", "patch"])
    ['owner/model', 'asset:smollm2-135m-instruct', 'patch', 'patch (2)']
    """
    parts = {name: path_of(name).parts if path_of(name).exists() else (name,) for name in names}
    short = {name: part[-1] for name, part in parts.items()}
    for length in range(2, max(map(len, parts.values()), default=1) + 1):
        ends = list(short.values())
        short |= {name: "/".join(parts[name][-length:]) for name, end in short.items() if ends.count(end) > 1}
    result = [short[name] for name in names]
    counts: dict[str, int] = {}
    for place, name in enumerate(result):
        counts[name] = counts.get(name, 0) + 1
        result[place] = name if counts[name] == 1 else f"{name} ({counts[name]})"
    return result


@contextmanager
def loaded_models(*, dtype: str = "auto", device: str = "auto", trust_remote_code: bool = False) -> Generator[Loader]:
    """Yield what loads one opened model after another; models over one base share it while they follow each other."""
    loader = Loader(dtype, device, trust=trust_remote_code)
    try:
        yield loader
    finally:
        loader.forget()


class Loader:
    """Keeps at most one model in memory beside those that were given loaded."""

    def __init__(self, dtype: str, device: str, *, trust: bool) -> None:
        self._how: dict[str, Any] = {"dtype": dtype, "device": device, "trust_remote_code": trust}
        self._of: Checkpoint | None = None
        self._loaded: LoadedModel | None = None

    def forget(self) -> None:
        """Let the model go."""
        self._of = self._loaded = None

    @contextmanager
    def equipped(self, model: OpenedModel, *, share_prefix: bool) -> Generator[tuple[LoadedModel, Equipped]]:
        """Load a model, with its patch or adapter on it, inside a block."""
        loaded = model.base if isinstance(model.base, LoadedModel) else self._load(model.checkpoint)
        with equipped(loaded, model.product, share_prefix=share_prefix) as ready:
            yield loaded, ready

    def _load(self, checkpoint: Checkpoint) -> LoadedModel:
        if self._loaded is None or self._of is not checkpoint:
            self.forget()
            self._of, self._loaded = checkpoint, load_model(checkpoint, **self._how)
        return self._loaded


def _open(model: Any, name: str, base: Any, opened: dict[str, Tokenized], *, trust: bool) -> OpenedModel:
    def tokenized(of: str | Path | Checkpoint | LoadedModel) -> Tokenized:
        if isinstance(of, LoadedModel):
            return of
        checkpoint = open_checkpoint(of)
        return opened.setdefault(str(checkpoint.folder), tokenizer_of(checkpoint, trust_remote_code=trust))

    product, named = _product(model)
    if product is None:
        return OpenedModel(name=name, base=tokenized(model))
    over = base if base is not None else named
    if over is None:
        raise UserError(f"{name} does not say which model it belongs to: give `base`")
    try:
        below = tokenized(over)
    except UserError as error:
        if base is not None:
            raise
        raise UserError(f"the base of {name} cannot be opened ({error}): give `base`") from error
    made, below = open_on(product, below)
    return OpenedModel(name=name, base=below, product=made)


def _product(model: Any) -> tuple[RowPatch | Path | None, str | None]:
    """Return the patch, or the folder of the adapter, and the base that it names; None for a model."""
    if isinstance(model, str | Path):
        folder = path_of(str(model))
        if is_hub_id(str(model)) and not folder.exists():
            folder = from_hub(str(model))
        if is_patch(folder):
            model = RowPatch.open(folder)
        elif is_there(folder / ADAPTER_CONFIG) and not is_there(folder / "config.json"):
            named: Any = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
            return folder, named if isinstance(named, str) and named else None
    if isinstance(model, RowPatch):
        return model, model.base.get("name")
    return None, None


def _text(model: Any) -> str:
    if isinstance(model, str | Path):
        return str(model)
    if isinstance(model, RowPatch):
        return "patch"
    return str(
        model.checkpoint.name if isinstance(model, LoadedModel) else getattr(model, "name", type(model).__name__)
    )
