"""A loaded model with what tuning made put on it, a row patch or a PEFT adapter, and taken off again.

Must never leave a model other than it was, nor load code or pickles with an adapter.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.adapter import ADAPTER_CONFIG
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.prompted import PromptedLanguageModel
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch
from ks_lottery.store.files import digest_file, digest_json, read_json

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from ks_lottery.models.load import LoadedModel

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Equipped:
    """A model ready to be measured.

    Parameters
    ----------
    labelled
        For teacher forcing.
    generator
        What `evaluation.translate.translate` takes.
    content
        Digest of what was put on; empty for the model as it is.
    """

    labelled: LabelledLanguageModel
    generator: Any
    content: str


@contextmanager
def equipped(
    loaded: LoadedModel, made: RowPatch | Path | None = None, *, share_prefix: bool = True
) -> Generator[Equipped]:
    """Put a row patch, or the PEFT adapter in a folder, on a model inside a block.

    Raises
    ------
    UserError
        When it does not belong to the model, or the folder holds no adapter in safetensors that PEFT can load.
    """
    if made is None:
        yield Equipped(LabelledLanguageModel(loaded.lm, share_prefix=share_prefix), loaded.lm, "")
    elif isinstance(made, RowPatch):
        made.check_base(loaded.checkpoint)
        with installed_patch(loaded.lm, made):
            yield Equipped(LabelledLanguageModel(loaded.lm, share_prefix=share_prefix), loaded.lm, made.content)
    else:
        with _adapted(loaded, made) as adapted:
            virtual = bool(adapted.active_peft_config.is_prompt_learning)
            content = digest_json([digest_file(made / WEIGHTS), digest_file(made / ADAPTER_CONFIG)])
            model = (
                PromptedLanguageModel(adapted)
                if virtual
                else LabelledLanguageModel(loaded.lm, share_prefix=share_prefix)
            )
            yield Equipped(model, adapted if virtual else loaded.lm, content)


@contextmanager
def _adapted(loaded: LoadedModel, folder: Path) -> Generator[Any]:
    from peft import PeftModel

    kind = read_json(folder / ADAPTER_CONFIG).get("peft_type")
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} holds no {WEIGHTS}: give the folder of a PEFT adapter in safetensors")
    lm: Any = loaded.lm
    with quiet():
        try:
            adapted = PeftModel.from_pretrained(lm, str(folder), use_safetensors=True)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"adapter {folder} ({kind}) cannot be put on {loaded.checkpoint.name}: {reason}: give the base it belongs to"
            ) from error
    try:
        yield adapted.eval()
    finally:
        take_off(lm, adapted)


def take_off(lm: Any, adapted: Any) -> None:
    """Take a PEFT adapter off a model, which is then as it was: frozen, and in evaluation mode."""
    if not adapted.active_peft_config.is_prompt_learning:
        adapted.unload()
    if hasattr(lm, "peft_config"):
        del lm.peft_config  # PEFT leaves it, and warns of it the next time
    lm.requires_grad_(requires_grad=False)
    lm.eval()
