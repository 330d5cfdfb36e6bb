"""A loaded model with the product of a tuning on it, a row patch or a PEFT adapter, inside a block."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from ks_lottery.checkpoint.adapter import ADAPTER_CONFIG
from ks_lottery.checkpoint.file_bytes import is_there
from ks_lottery.checkpoint.headers import read_header
from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.products import WEIGHTS
from ks_lottery.models.prompted import PromptedLanguageModel
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch
from ks_lottery.store.files import read_json
from ks_lottery.store.manifest import digest_file, digest_json

if TYPE_CHECKING:
    from collections.abc import Generator

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.load import LoadedModel


BaseT = TypeVar("BaseT")


@dataclass(frozen=True)
class Equipped:
    """A model ready to be measured.

    Parameters
    ----------
    labelled
        For teacher forcing.
    generator
        The model that `evaluation.translate.translate` takes.
    content
        Digest of the product; empty for the model as it is.
    prompt
        The patch's own prompt; None where it has none.
    """

    labelled: LabelledLanguageModel
    generator: Any
    content: str
    prompt: str | None = None


class AdapterInMemory(Protocol):
    """An adapter as tuning makes it."""

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder, and return the folder."""
        ...


@contextmanager
def saved_product(product: RowPatch | AdapterInMemory | str | Path | None) -> Generator[RowPatch | str | Path | None]:
    """Write an adapter that is in memory into a folder inside a block, from which PEFT loads it; let all else pass."""
    if product is None or isinstance(product, RowPatch | str | Path):
        yield product
        return
    with TemporaryDirectory() as folder:
        yield product.save(folder)


def open_product(product: RowPatch | str | Path | None, checkpoint: Checkpoint) -> RowPatch | Path | None:
    """Open the product of a tuning of a checkpoint.

    Parameters
    ----------
    product
        A row patch, the folder of a row patch or of a PEFT adapter, or None.

    Returns
    -------
    RowPatch, Path or None
        The folder where it is that of an adapter.

    Raises
    ------
    UserError
        When a patch is damaged or belongs to another base, or the folder is neither a patch nor an adapter.
    """
    if isinstance(product, str | Path):
        folder = Path(product).expanduser()
        product = RowPatch.open(folder) if is_patch(folder) else check_adapter(folder)
    if isinstance(product, RowPatch):
        product.check_base(checkpoint)
    return product


def open_on(product: RowPatch | str | Path | None, base: BaseT) -> tuple[RowPatch | Path | None, BaseT]:
    """Open the product of a tuning as `open_product` does, and return with it the base with the tokens that a patch adds."""
    one: Any = base
    opened = open_product(product, one.checkpoint)
    return opened, with_new_tokens(base, opened)


def is_patch(folder: str | Path) -> bool:
    """Say whether a folder, or a file in one, is a row patch."""
    path = Path(folder).expanduser()
    return path.name == PATCH_FILE or (path / PATCH_FILE).is_file()


def check_adapter(folder: Path) -> Path:
    """Return the folder of a PEFT adapter; what can be checked without its model is checked.

    Raises
    ------
    UserError
        When it has no adapter in safetensors.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {problem}: give the folder of a PEFT adapter")
    if not is_there(folder / ADAPTER_CONFIG):
        raise UserError(f"{folder} has no {ADAPTER_CONFIG}: give the folder of a PEFT adapter")
    read_json(folder / ADAPTER_CONFIG)
    if not is_there(folder / WEIGHTS):
        raise UserError(f"{folder} holds no {WEIGHTS}: give the folder of a PEFT adapter in safetensors")
    read_header(folder / WEIGHTS)
    return folder


@contextmanager
def equipped(
    loaded: LoadedModel, product: RowPatch | Path | None = None, *, share_prefix: bool = True
) -> Generator[Equipped]:
    """Put a row patch, or the PEFT adapter in a folder, on a model inside a block.

    Raises
    ------
    UserError
        When it does not belong to the model, or the folder holds no adapter in safetensors that PEFT can load.
    """
    if isinstance(product, Path):
        with _adapted(loaded, product) as adapted:
            virtual = bool(adapted.active_peft_config.is_prompt_learning)
            content = digest_json([digest_file(product / WEIGHTS), digest_file(product / ADAPTER_CONFIG)])
            if virtual:
                yield Equipped(PromptedLanguageModel(adapted), adapted, content)
            else:
                yield Equipped(LabelledLanguageModel(loaded.lm, share_prefix=share_prefix), loaded.lm, content)
        return
    labelled = LabelledLanguageModel(loaded.lm, share_prefix=share_prefix)
    if product is None:
        yield Equipped(labelled, loaded.lm, "")
        return
    product.check_base(loaded.checkpoint)
    with installed_patch(loaded.lm, product):
        yield Equipped(labelled, loaded.lm, product.content, product.prompt)


@contextmanager
def _adapted(loaded: LoadedModel, folder: Path) -> Generator[Any]:
    from peft import PeftModel

    about = read_json(check_adapter(folder) / ADAPTER_CONFIG)
    kind, lm = about.get("peft_type"), cast("Any", loaded.lm)
    _check_tokens(about, folder, loaded)
    with quiet():
        try:
            adapted = PeftModel.from_pretrained(lm, str(folder), use_safetensors=True)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"adapter {folder} ({kind}) cannot be put on {loaded.checkpoint.name} ({_said(error)}): give the base it "
                "belongs to"
            ) from error
    try:
        yield adapted.eval()
    finally:
        take_off(lm, adapted)


def _check_tokens(about: dict[str, Any], folder: Path, loaded: LoadedModel) -> None:
    """Refuse an adapter with rows for tokens that the base does not have."""
    named: Any = about.get("trainable_token_indices") or about.get("token_indices")
    sets: Any = named.values() if isinstance(named, dict) else [named]
    last = max((token for ids in sets if isinstance(ids, list) for token in ids if isinstance(token, int)), default=-1)
    if last >= loaded.checkpoint.vocabulary:
        raise UserError(
            f"adapter {folder} has a row for token {last:,}, and {loaded.checkpoint.name} has {loaded.checkpoint.vocabulary:,} "
            "rows: use the patch that it was exported from, or load it with PEFT as its README says"
        )


def _said(error: Exception) -> str:
    """Return what PEFT says: of several lines the first that names a tensor."""
    lines = [line.strip().rstrip(".:") for line in str(error).splitlines()] or [type(error).__name__]
    return next((line for line in lines if line.startswith(("size mismatch", "Missing", "Unexpected"))), lines[0])


def take_off(lm: Any, adapted: Any) -> None:
    """Take a PEFT adapter off a model, which is then as it was: frozen, and in evaluation mode."""
    if not adapted.active_peft_config.is_prompt_learning:
        adapted.unload()
    if hasattr(lm, "peft_config"):
        del lm.peft_config  # PEFT keeps it on the model, and warns of it the next time
    lm.requires_grad_(requires_grad=False)
    lm.eval()
