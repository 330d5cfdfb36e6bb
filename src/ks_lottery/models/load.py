"""Opens a checkpoint by name, and loads it as a model that is ready to run.

Code of a checkpoint runs with `trust_remote_code` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.config.choices import DEFAULT_MODEL, DTYPES
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.gguf import converted
from ks_lottery.models.quantized import keep_as_stored
from ks_lottery.models.quiet import quiet
from ks_lottery.store import assets

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, frozen, in evaluation mode, with its tokenizer and the checkpoint it came from."""

    checkpoint: Checkpoint
    lm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@checks_names
def open_checkpoint(name: str | Path) -> Checkpoint:
    """Open a checkpoint by name.

    Parameters
    ----------
    name
        Folder of safetensors, GGUF file, hub id (``owner/model``), or ``asset:smollm2-135m-instruct``.

    Raises
    ------
    UserError
        When nothing of that name exists, or it cannot be read safely.
    """
    name = str(name)
    if name.startswith("asset:"):
        if name != DEFAULT_MODEL:
            raise UserError(f"model {name} is not known; the embedded one is {DEFAULT_MODEL}")
        return Checkpoint.open(converted(assets.model_gguf()), name)
    path = Path(name).expanduser()
    if path.is_dir():
        return Checkpoint.open(path, name)
    if path.suffix == ".gguf":
        return Checkpoint.open(converted(path), name)
    if path.suffix in {".bin", ".pt", ".pth", ".pkl"} and path.is_file():
        raise UserError(f"{path} is a pickle, which could run code when loaded: convert the checkpoint to safetensors")
    if path.exists():
        raise UserError(f"{path} is not a model folder or a GGUF file")
    if not is_hub_id(name):
        raise UserError(f"model {name} does not exist: give a folder, a GGUF file or a hub id such as owner/model")
    return Checkpoint.open(from_hub(name), name)


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
    ]  # code runs only with trust_remote_code
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if pickles and not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, "*.bin"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"model {name} is neither a folder here nor to be had from the hub ({type(error).__name__}): "
            "give a local folder or a GGUF file, or log in if it is gated"
        ) from error
    return folder


def load_tokenizer(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint's folder.

    Raises
    ------
    UserError
        When there is none, or it has no end-of-sentence token.
    """
    from transformers import AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(checkpoint.folder), local_files_only=True, trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{checkpoint.name} has no tokenizer that can be loaded: add its tokenizer files"
            ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {checkpoint.name} has no end-of-sentence token, which training needs")
    if len(tokenizer) > checkpoint.vocabulary:
        raise UserError(
            f"the tokenizer of {checkpoint.name} has {len(tokenizer):,} tokens, "
            f"its embedding only {checkpoint.vocabulary:,} rows: they do not belong together"
        )
    return tokenizer


def choose_device(device: str = "auto") -> str:
    """Return the device to run on; ``auto`` is a GPU where there is one.

    Raises
    ------
    UserError
        When this machine does not have the device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(device, False):
        raise UserError(f"device {device} is not available on this machine: use auto or cpu")
    return device


def choose_dtype(dtype: str, device: str) -> torch.dtype:
    """Return the type of the frozen body; ``auto`` is bfloat16 where the processor computes in it.

    Raises
    ------
    UserError
        When the name is not known.
    """
    import torch

    if dtype not in DTYPES:
        raise UserError(f"`dtype` is {dtype!r}, but must be one of {', '.join(DTYPES)}")
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    if device == "cuda":
        fast = torch.cuda.is_bf16_supported()
    elif device == "cpu":
        capability = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else ""
        fast = "AVX512" in capability and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    quantization: Any = None,
) -> LoadedModel:
    """Load a causal language model, frozen and in evaluation mode.

    Parameters
    ----------
    dtype
        ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the processor has it.
    device
        ``cpu``, ``cuda``, ``mps``, or ``auto``.
    quantization
        A quantisation config of transformers for the body, such as `BitsAndBytesConfig`; None for floats.

    Raises
    ------
    UserError
        When transformers does not know the architecture, or it is one that cannot be handled: the reason is named.
    """
    from transformers import AutoModelForCausalLM

    if checkpoint.config.get("is_encoder_decoder"):
        raise UserError(
            f"{checkpoint.name} cannot be handled: it is an encoder-decoder ({checkpoint.config.get('model_type')}), "
            "and the method is that of decoder-only language models"
        )
    place = choose_device(device)
    kind = choose_dtype(dtype, place)
    more = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": place}}
    with quiet():
        try:
            lm: Any = AutoModelForCausalLM.from_pretrained(
                str(checkpoint.folder),
                dtype=kind,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                **more,
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            if "auto_map" in checkpoint.config and not trust_remote_code:
                raise UserError(
                    f"{checkpoint.name} needs Python code that comes with it, which runs only if you trust it: "
                    "give `trust_remote_code=True`"
                ) from error
            reason = " ".join(str(error).split())
            raise UserError(f"{checkpoint.name} cannot be loaded as a causal language model: {reason}") from error
    _check_handled(checkpoint, lm)
    lm.requires_grad_(requires_grad=False)
    lm.eval()
    if quantization is None:
        lm.to(place)
    else:
        keep_as_stored(lm)
    return LoadedModel(checkpoint, lm, load_tokenizer(checkpoint, trust_remote_code=trust_remote_code))


def _check_handled(checkpoint: Checkpoint, lm: Any) -> None:
    from ks_lottery.models.rows import input_embedding

    stored, reason = checkpoint.units[checkpoint.embedding], ""
    try:
        embedding, head = input_embedding(lm), lm.get_output_embeddings()
        if tuple(embedding.weight.shape) != (stored.count, stored.width):
            reason = f"its input embedding is not {checkpoint.embedding}, which is {stored.count:,} x {stored.width:,}"
        elif checkpoint.head == checkpoint.embedding and head is not None and head.weight is not embedding.weight:
            reason = "its config says that the head is a matrix of its own, but none is stored"
    except TypeError as error:
        reason = str(error)
    if reason:
        raise UserError(f"{checkpoint.name} cannot be handled: {reason}")
