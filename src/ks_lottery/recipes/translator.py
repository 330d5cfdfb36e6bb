"""What translates, and in which prompt: a run, what tune or export wrote, or a model with its patch or adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.config.groups import BatchOption, TranslationOptions
from ks_lottery.config.job_commands import TranslateSettings
from ks_lottery.corpus.plain_text import PLAIN
from ks_lottery.errors import UserError
from ks_lottery.models.load import open_checkpoint
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.products import SavedProduct
from ks_lottery.store.files import read_json
from ks_lottery.store.run_folder import CONFIG_FILE, RunFolder

if TYPE_CHECKING:
    from ks_lottery.checkpoint.reader import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Translator:
    """What translates, and how sentences are shown to it.

    Parameters
    ----------
    name
        What the tuned model is called.
    checkpoint
        Model that is loaded.
    product
        Patch, or folder of an adapter, that is put on it; None for none.
    original
        Name of the model that was tuned, where that is another one than `checkpoint`.
    prompt
        Prompt of its own, which takes the place of `template`.
    template, languages, instruction
        Prompt of the training, as far as it is known.
    limit
        Where the limit of tokens comes from.
    """

    name: str
    checkpoint: Checkpoint
    product: RowPatch | Path | None = None
    original: str | None = None
    prompt: str | None = None
    template: str | None = None
    languages: tuple[str, str] | None = None
    instruction: str | None = None
    decoding: dict[str, int]
    loading: dict[str, Any]
    limit: str = "max_new_tokens"


def open_translator(model: str, product: str | Path | None, method: str, loading: dict[str, Any]) -> Translator:
    """Open what is to translate: a model with its product, a run, or what tune or export wrote.

    Parameters
    ----------
    model
        Folder of a run, or one that tune or export wrote; or name of a model.
    product
        Folder of a patch or an adapter of the model; None for none.
    method
        Method of a run.
    loading
        Type, device and trust that the user gave.

    Raises
    ------
    UserError
        When one of them cannot be opened, they do not belong together, or the run has no such patch.
    """
    folder = Path(model).expanduser()
    decoding = {
        "num_beams": TranslationOptions.num_beams,
        "max_new_tokens": TranslationOptions.max_new_tokens,
        "batch_size": BatchOption.batch_size,
    }
    more: dict[str, Any] = {"decoding": decoding, "loading": loading}
    if product is not None:
        return _equipped_model(open_checkpoint(model), SavedProduct.open(product), more)
    if (folder / CONFIG_FILE).is_file():
        return _of_run(RunFolder(folder), method, loading)
    if not folder.is_dir():
        return Translator(name="the model", checkpoint=open_checkpoint(model), **more)
    tuned = SavedProduct.open(folder)
    if tuned.kind != "model":
        return _equipped_model(open_checkpoint(tuned.base_name), tuned, more)
    original = tuned.base.get("name")
    return Translator(
        name="tuned" if original else "the model", checkpoint=open_checkpoint(model), original=original,
        prompt=tuned.text_of("prompt"), **_trained(tuned), **more,
    )  # fmt: skip


def _trained(product: SavedProduct) -> dict[str, Any]:
    if product.text_of("text_format") == PLAIN:
        raise UserError(
            f"{product.folder} was tuned on text of one language, and learned nothing to translate with: give another one"
        )
    names = ("template", "instruction")
    return {**{name: product.text_of(name) for name in names}, "languages": product.languages}


def _equipped_model(checkpoint: Checkpoint, product: SavedProduct, more: dict[str, Any]) -> Translator:
    if product.kind == "model":
        raise UserError(f"{product.folder} is a whole model: give it in place of {checkpoint.name}")
    product.check_base(checkpoint)
    checkpoint = with_new_tokens(checkpoint, product.patch)
    return Translator(
        name=product.text_of("method") or product.kind, checkpoint=checkpoint, product=product.patch or product.folder,
        prompt=product.text_of("prompt") if product.patch is None else product.patch.prompt, **_trained(product), **more,
    )  # fmt: skip


def _of_run(run: RunFolder, method: str, loading: dict[str, Any]) -> Translator:
    config = run.config()
    if config["text"]["format"] == PLAIN:
        raise UserError(
            f"{run.path} was made with text of one language, and learned nothing to translate with: give another run"
        )
    if not (run.method(method) / PATCH_FILE).is_file():
        methods = sorted(path.parent.name for path in run.path.glob(f"*/{PATCH_FILE}"))
        raise UserError(
            f"{run.path} has no patch {method}; it has {', '.join(methods) or 'none yet: let the run finish'}"
        )
    patch = RowPatch.open(run.method(method))
    text, model, usual = config["text"], config["model"], TranslateSettings
    checkpoint = open_checkpoint(model["name"])
    patch.check_base(checkpoint)
    checkpoint = with_new_tokens(checkpoint, patch)
    order = read_json(run.text_report).get("instruction")
    return Translator(
        name=method, checkpoint=checkpoint, product=patch, prompt=patch.prompt, template=text["template"],
        languages=(text["source_language"], text["target_language"]), instruction=order if isinstance(order, str) else None,
        decoding={name: int(config["evaluate"][name]) for name in ("num_beams", "max_new_tokens", "batch_size")},
        loading={name: model[name] if value == getattr(usual, name) else value for name, value in loading.items()},
        limit="the run's evaluate.max_new_tokens",
    )  # fmt: skip
