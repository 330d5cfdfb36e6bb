"""Opens a checkpoint by name, and loads it as a model that is ready to run; or takes a model that is in memory already.

Code of a checkpoint runs with `trust_remote_code` alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.file_bytes import path_of
from ks_lottery.checkpoint.gguf_rows import GgufRows
from ks_lottery.checkpoint.layout import PICKLES
from ks_lottery.checkpoint.memory import MemoryCheckpoint
from ks_lottery.checkpoint.pickled import PickledCheckpoint
from ks_lottery.checkpoint.reader import Checkpoint
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.devices import choose_device, choose_dtype
from ks_lottery.models.dispatch import device_map, empty_model
from ks_lottery.models.gguf import converted, gguf_tokenizer
from ks_lottery.models.handled import check_decoder, check_handled
from ks_lottery.models.hub_folder import from_hub, is_hub_id
from ks_lottery.models.loading_report import check_weights
from ks_lottery.models.model_folder import check_model_folder
from ks_lottery.models.new_tokens import with_added
from ks_lottery.models.quantized import keep_as_stored
from ks_lottery.models.quiet import quiet
from ks_lottery.store.embedded_models import model_gguf

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False, repr=False)
class LoadedModel:
    """A model ready to run, frozen, in evaluation mode: `load_model` and `from_memory` make one.

    Parameters
    ----------
    checkpoint
        What it came from: its weights on disk, or those in memory.
    lm
        The model of transformers.
    tokenizer
        Its tokenizer.
    """

    checkpoint: Checkpoint
    lm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def __repr__(self) -> str:
        kind = f"{type(self.lm).__name__}, {str(self.lm.dtype).removeprefix('torch.')} on {self.device}"
        return f"LoadedModel({self.checkpoint.name}: {kind})"

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens; its layers can be elsewhere (`load_model` with `max_memory`)."""
        return self.lm.get_input_embeddings().weight.device  # pyright: ignore[reportReturnType]


@checks_names
def open_checkpoint(name: str | Path | Checkpoint | LoadedModel | PreTrainedModel) -> Checkpoint:
    """Open a checkpoint by name; no model is built.

    Parameters
    ----------
    name
        Folder of safetensors, GGUF file, hub id (``owner/model``), ``asset:smollm2-135m-instruct`` or ``asset:gemma3-270m``.
        An opened checkpoint is returned as it is; of a loaded model it is the checkpoint that it came from, and a model of
        transformers is read in memory.

    Raises
    ------
    UserError
        When nothing of that name exists, or it cannot be read safely.
    """
    if isinstance(name, PickledCheckpoint):
        raise UserError(f"{name.name} is a pickle, which is for scans alone: convert the checkpoint to safetensors")
    if isinstance(name, Checkpoint):
        return name
    if isinstance(name, LoadedModel):
        return name.checkpoint
    if not isinstance(name, str | Path):
        return MemoryCheckpoint.of(name)
    return _open_named(str(name))


def _open_named(name: str) -> Checkpoint:
    if name.startswith("asset:"):
        return Checkpoint.open(converted(model_gguf(name)), name)
    path = path_of(name)
    if path.is_dir():
        check_model_folder(path)
        return Checkpoint.open(path, name)
    if path.suffix == ".gguf":
        return Checkpoint.open(converted(path), name)
    if path.suffix in {*PICKLES, ".pkl"} and path.is_file():
        raise UserError(f"{path} is a pickle, which could run code when loaded: convert the checkpoint to safetensors")
    if path.exists():
        raise UserError(f"{path} is not a model folder or a GGUF file")
    if not is_hub_id(name):
        raise UserError(f"model {name} does not exist: give a folder, a GGUF file or a hub id such as owner/model")
    return Checkpoint.open(from_hub(name), name)


def load_tokenizer(checkpoint: Checkpoint | GgufRows, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint's folder, or that in a GGUF file.

    Raises
    ------
    UserError
        When there is none, or it has no end-of-sentence token.
    """
    from transformers import AutoTokenizer

    if isinstance(checkpoint, GgufRows):
        return _checked(gguf_tokenizer(checkpoint.folder), checkpoint)
    if isinstance(checkpoint, MemoryCheckpoint):
        if checkpoint.tokenizer is None:
            raise UserError(f"{checkpoint.name} is in memory without its tokenizer: give from_memory(model, tokenizer)")
        return _checked(checkpoint.tokenizer, checkpoint)
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(checkpoint.folder), local_files_only=True, trust_remote_code=trust_remote_code
            )
        except Exception as error:  # what a damaged file makes a tokenizer raise has no common type
            raise UserError(
                f"{checkpoint.name} has no tokenizer that can be loaded: add its tokenizer files"
            ) from error
    return _checked(tokenizer, checkpoint)


def _checked(tokenizer: Any, checkpoint: Checkpoint | GgufRows) -> PreTrainedTokenizerBase:
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {checkpoint.name} has no end-of-sentence token, which training needs")
    if tokenizer.eos_token_id >= checkpoint.vocabulary:  # other tokens without a row may never occur in a text
        raise UserError(
            f"the end-of-sentence token of {checkpoint.name} is {tokenizer.eos_token_id:,}, but its embedding has only "
            f"{checkpoint.vocabulary:,} rows: they do not belong together. Give the model's own tokenizer"
        )
    return with_added(tokenizer, checkpoint)


@checks_names
def load_model(
    checkpoint: str | Path | Checkpoint | LoadedModel | PreTrainedModel,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    quantization: Any = None,
    max_memory: Mapping[int | str, int | str] | None = None,
) -> LoadedModel:
    """Load a causal language model, frozen and in evaluation mode.

    Parameters
    ----------
    checkpoint
        Folder of safetensors, GGUF file, hub id, or an opened checkpoint. A loaded model is returned as it is, whatever the
        other parameters say; a model of transformers is refused, since it has no tokenizer (`from_memory`).
    dtype
        ``float32``, ``bfloat16``, or ``auto`` (the default): bfloat16 where the processor has it.
    device
        ``cpu``, ``cuda``, ``mps``, or ``auto`` (the default): a GPU where there is one.
    trust_remote_code
        Run Python code that comes with the checkpoint; off by default.
    quantization
        A quantisation config of transformers for the body, such as `BitsAndBytesConfig`; None (the default) for floats.
    max_memory
        Bytes, or such as ``10GiB``, that weights may take on each GPU, by its number, and in main memory, ``cpu``: the layers
        are spread over them, and with ``cpu`` what does not fit is read from the disk. None (the default): all on one device.

    Returns
    -------
    LoadedModel
        Its ``lm`` and ``tokenizer`` are those of transformers.

    Raises
    ------
    UserError
        When nothing of that name exists, transformers does not know the architecture, weights are missing or of another shape
        than the config says, or it is a model that cannot be handled: the reason is named.
    """
    from transformers import AutoModelForCausalLM

    if isinstance(checkpoint, LoadedModel):
        return checkpoint
    checkpoint = open_checkpoint(checkpoint)
    if isinstance(checkpoint, MemoryCheckpoint):
        return _copied(checkpoint, dtype, device, quantization or max_memory)
    check_decoder(checkpoint)
    place = choose_device(device)
    more = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": place}}
    with quiet():
        try:
            if max_memory is not None:
                empty = empty_model(checkpoint.folder, choose_dtype(dtype, place), trust_remote_code=trust_remote_code)
                more["device_map"] = device_map(empty, max_memory, checkpoint.name)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(checkpoint.folder),
                dtype=choose_dtype(dtype, place),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the report names them, which is refused below
                **more,
            )
        except UserError:
            raise
        except Exception as error:  # what a damaged config makes transformers raise has no common type
            if "auto_map" in checkpoint.config and not trust_remote_code:
                raise UserError(
                    f"{checkpoint.name} needs Python code that comes with it, which runs only if you trust it: "
                    "give `trust_remote_code=True`"
                ) from error
            reason = " ".join(str(error).split())
            raise UserError(f"{checkpoint.name} cannot be loaded as a causal language model: {reason}") from error
    lm, report = loaded
    check_weights(checkpoint, report)
    check_handled(checkpoint, lm)
    lm.requires_grad_(requires_grad=False).eval()
    if quantization is not None:
        keep_as_stored(lm)
    elif max_memory is None:
        lm.to(place)
    return LoadedModel(checkpoint, lm, load_tokenizer(checkpoint, trust_remote_code=trust_remote_code))


def _copied(checkpoint: MemoryCheckpoint, dtype: str, device: str, loading: Any) -> LoadedModel:
    """Return a copy of a model in memory, as loading a folder makes one."""
    tokenizer = load_tokenizer(checkpoint)
    if loading is not None:
        raise UserError(
            f"{checkpoint.name} is in memory, but is quantised or spread while it is loaded: save it, and give its folder"
        )
    lm = copy.deepcopy(checkpoint.model)
    place = lm.device.type if device == "auto" else choose_device(device)
    lm.to(device=place, dtype=lm.dtype if dtype == "auto" else choose_dtype(dtype, place))
    lm.requires_grad_(requires_grad=False)
    return LoadedModel(checkpoint, lm.eval(), tokenizer)


@checks_names
def from_memory(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str | None = None) -> LoadedModel:
    """Take a model of transformers that is in memory, with its tokenizer, for every call that takes a model.

    Its weights are used as they are and not copied. The model is then frozen (``requires_grad_(False)``) and in evaluation
    mode, as `load_model` leaves one. Every call that puts rows or an adapter on it takes them off again. Its fingerprint is
    that of the folder that ``model.save_pretrained`` would write; the same model in another type has another one.

    Parameters
    ----------
    model
        A causal language model, on any device, in any float type.
    tokenizer
        Its tokenizer, with an end-of-sentence token.
    name
        What manifests call the model; by default what it was loaded from.

    Raises
    ------
    UserError
        When it is no causal language model that can be handled, it is offloaded or sharded, or the tokenizer is another's.
    """
    checkpoint = MemoryCheckpoint.of(model, tokenizer, name)
    check_decoder(checkpoint)
    check_handled(checkpoint, model)
    tokenizer = load_tokenizer(checkpoint)
    model.requires_grad_(requires_grad=False)
    model.eval()
    return LoadedModel(checkpoint, model, tokenizer)
