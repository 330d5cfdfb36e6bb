"""Loads an export where it is meant to run, and compares its greedy answers with those of the base with the patch on it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.gguf_file import floats, rows_of
from ks_lottery.checkpoint.gguf_header import read_gguf
from ks_lottery.checkpoint.gguf_rows import EMBEDDING, HEAD
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models import llama_process
from ks_lottery.models.export_gguf import ADAPTER_FILE, MODEL_FILE, UNTIED_FILE
from ks_lottery.models.gguf_base import base_gguf
from ks_lottery.models.load import load_model
from ks_lottery.models.low_rank import row_lora
from ks_lottery.models.model_card import prompts_of
from ks_lottery.models.new_tokens import readable, with_new_tokens
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch
from ks_lottery.report.section import Column, Section
from ks_lottery.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from ks_lottery.checkpoint.reader import Checkpoint

Answer = list[tuple[int, float]]

SENTENCES = (
    "Your session has expired.",
    "The house is old and cold.",
    "Please enter a valid password.",
    "Choose a name for the site.",
    "We could not save the image.",
)
"""What the model is asked, in the prompt of the training where the patch has one."""

TOKENS = 64
"""Most tokens of an answer."""

CLOSE = 0.05
"""Nats: where the two best tokens are closer than this, rounding may choose the other one."""

MOST_ROWS = 4
"""Rows of the patch that a prompt begins with, where the prompt has none of them."""

PRECISE = {0}
"""Types of a GGUF file that llama.cpp computes with as they are: floats of 32 bits."""


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """How far an export gives the tokens of the base with the patch on it.

    Parameters
    ----------
    runtime
        What loaded the export.
    equal
        For each prompt, the tokens that are equal from the first on.
    lengths
        For each prompt, the tokens of the reference's answer.
    gaps
        For each prompt, the gap in nats between the reference's two best tokens where the answers part; infinity where one
        ends before the other; None where they do not part.
    close
        A gap below which rounding may choose the other token.
    told
        Prompts that the base itself answers otherwise: where it is 0, the check would not notice rows that are missing.
    """

    runtime: str
    equal: tuple[int, ...]
    lengths: tuple[int, ...]
    gaps: tuple[float | None, ...]
    close: float
    told: int

    @property
    def passed(self) -> bool:
        """Whether answers part only where the two best tokens are close."""
        return all(gap is None or gap < self.close for gap in self.gaps)

    def sections(self) -> list[Section]:
        """Return a row for each prompt, and the result in a sentence."""
        columns = [
            Column(title="prompt"),
            Column(title="equal tokens", align="right"),
            Column(title="where they part"),
        ]
        rows = [
            [str(i), f"{equal} of {length}", "" if gap is None else f"the two best tokens are {gap:.3f} nats apart"]
            for i, (equal, length, gap) in enumerate(zip(self.equal, self.lengths, self.gaps, strict=True), start=1)
        ]
        whole = sum(gap is None for gap in self.gaps)
        told = "passed" if self.passed else "FAILED"
        sentence = (
            f"{told}: {self.runtime} gives the tokens of the base with the patch for {whole} of {len(self.gaps)} prompts; "
            f"a difference counts where the two best tokens are {self.close:.2f} nats apart or more; "
            f"the base without the patch answers {self.told} of them otherwise"
        )
        return [Section(columns=columns, rows=rows, sentences=[sentence])]


def check_export(
    checkpoint: Checkpoint, patch: RowPatch, folder: Path, to: str, rank: int | None = None
) -> ExportCheck:
    """Load an export and compare its answers to five prompts, of up to 64 tokens each, in float32.

    The reference is the base in transformers with the rows that the export has: those of a GGUF file after quantisation,
    those of a LoRA of a lower rank as it approximates them. llama.cpp computes quantised weights with rounded activations;
    there the base itself is asked in both programs, and the largest difference between its gaps is what counts as close.

    Parameters
    ----------
    checkpoint
        The base.
    patch
        The patch.
    folder
        The export.
    to
        Its format, a key of `ks_lottery.config.choices.EXPORTS`.
    rank
        The rank that the export was made with.

    Raises
    ------
    UserError
        When what loads the format is not installed, or does not load it.
    """
    rounded = _written_type(folder) if to == "merged" else None
    prompts, wanted, base = reference_answers(checkpoint, _as_exported(checkpoint, patch, folder, to, rank), rounded)
    close, asked = CLOSE, readable(prompts, patch)
    if to in {"gguf", "gguf-lora"}:
        runtime = "llama.cpp"
        with ExitStack() as stack:
            model, adapter = folder / MODEL_FILE, None
            if to == "gguf-lora":
                model, adapter = folder / UNTIED_FILE, folder / ADAPTER_FILE
                model = model if model.is_file() else stack.enter_context(base_gguf(checkpoint))
            given = [answer.tokens for answer in llama_process.ask_llama(model, prompts, TOKENS, adapter)]
            if not _is_precise(model):
                plain = llama_process.ask_llama(stack.enter_context(base_gguf(checkpoint)), asked, TOKENS)
                close = max(CLOSE, _distance(base, plain))
    else:
        runtime = "PEFT" if to in {"peft", "lora"} else "transformers"
        with _loaded(checkpoint, patch, folder, to) as other:
            given = [[token for token, _ in _greedy(other, prompt)] for prompt in prompts]
    told = sum([token for token, _ in a] != [token for token, _ in b] for a, b in zip(wanted, base, strict=True))
    return compared(runtime, wanted, given, close, told)


def reference_answers(
    checkpoint: Checkpoint, patch: RowPatch, rounded: torch.dtype | None = None
) -> tuple[list[list[int]], list[Answer], list[Answer]]:
    """Return the prompts, and what the base in transformers answers with the patch and without it, in float32.

    Parameters
    ----------
    checkpoint
        The base.
    patch
        Its rows, and the prompt of their training.
    rounded
        Type that the weights of the base are rounded to first; None for none.
    """
    loaded = load_model(with_new_tokens(checkpoint, patch), dtype="float32", device="cpu")
    for parameter in loaded.lm.parameters() if rounded is not None else ():
        parameter.data = parameter.data.to(rounded).float()
    prompts = [_prompt(loaded.tokenizer, patch, sentence) for sentence in SENTENCES]
    base = [_greedy(loaded.lm, prompt) for prompt in readable(prompts, patch)]
    with installed_patch(loaded.lm, patch):
        return prompts, [_greedy(loaded.lm, prompt) for prompt in prompts], base


def compared(
    runtime: str, wanted: Sequence[Answer], given: Sequence[Sequence[int]], close: float, told: int = 0
) -> ExportCheck:
    """Compare answers token by token.

    Parameters
    ----------
    runtime
        What gave the answers.
    wanted
        For each prompt, the reference's tokens, each with the gap between the two best.
    given
        For each prompt, the tokens of the export.
    close
        Nats below which a gap is close.
    told
        Prompts that the base itself answers otherwise.
    """
    equal, gaps = [], []
    for one, other in zip(wanted, given, strict=True):
        same = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a[0] != b), min(len(one), len(other))
        )
        equal.append(same)
        parted = same < max(len(one), len(other))
        gaps.append((one[same][1] if same < len(one) else float("inf")) if parted else None)
    return ExportCheck(
        runtime=runtime, equal=tuple(equal), lengths=tuple(map(len, wanted)), gaps=tuple(gaps), close=close, told=told
    )


def _distance(base: Sequence[Answer], plain: Sequence[llama_process.LlamaAnswer]) -> float:
    """Return the largest difference between the gaps of two programs, as far as their answers agree."""
    most = 0.0
    for one, other in zip(base, plain, strict=True):
        for (token, gap), same, its_gap in zip(one, other.tokens, other.gaps, strict=False):
            if token != same:
                break
            most = max(most, abs(gap - its_gap))
    return most


def _prompt(tokenizer: Any, patch: RowPatch, sentence: str) -> list[int]:
    """Return the tokens of a prompt; some rows of the patch come first where it has none of them."""
    template = next(iter(prompts_of(patch)), "{source}")
    ids = list(PromptForm(tokenizer, template).prompts([""], [sentence])[0])
    return ids if set(ids) & set(patch.ids.tolist()) else [*patch.ids.tolist()[:MOST_ROWS], *ids]


@torch.inference_mode()
def _greedy(lm: Any, prompt: Sequence[int]) -> Answer:
    """Return the most likely tokens with the gap, in nats, to the second one; the end of the text is not among them."""
    from transformers import GenerationConfig

    ends = lm.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    config = GenerationConfig(
        max_new_tokens=TOKENS, do_sample=False, eos_token_id=ends, pad_token_id=ends[0], output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    ids = torch.tensor([list(prompt)])
    out = lm.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    answer: Answer = []
    for token, logits in zip(out.sequences[0, len(prompt) :].tolist(), out.logits, strict=True):
        if token in ends:
            break
        best = torch.log_softmax(logits[0].double(), -1).topk(2).values
        answer.append((token, float(best[0] - best[1])))
    return answer


@contextmanager
def _loaded(checkpoint: Checkpoint, patch: RowPatch, folder: Path, to: str) -> Generator[Any]:
    """Give the model that PEFT or transformers makes of an export."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with quiet():
        if to == "merged":
            yield AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        else:
            lm: Any = load_model(checkpoint, dtype="float32", device="cpu").lm
            if patch.added is not None and patch.added.grows:
                lm.resize_token_embeddings(patch.added.rows, mean_resizing=False)
            yield PeftModel.from_pretrained(lm, str(folder)).eval()


def _written_type(folder: Path) -> torch.dtype | None:
    """Return the type of a merged model by its config; None where it has several."""
    name = read_json(folder / "config.json").get("dtype")
    return getattr(torch, name) if name in ("float32", "bfloat16", "float16") else None


def _is_precise(model: Path) -> bool:
    return {tensor.kind for tensor in read_gguf(model).tensors.values()} <= PRECISE


def _as_exported(checkpoint: Checkpoint, patch: RowPatch, folder: Path, to: str, rank: int | None) -> RowPatch:
    """Return the patch with the values that the export has."""
    values: dict[Any, torch.Tensor | None] = {"input": patch.values_of("input"), "output": patch.values_of("output")}
    ids = torch.from_numpy(patch.ids)
    for side in [side for side, rows in values.items() if rows is not None]:
        if to == "gguf":
            header = read_gguf(folder / MODEL_FILE)
            name = HEAD if side == "output" and HEAD in header.tensors else EMBEDDING
            packed = rows_of(header, name)[patch.ids]
            values[side] = torch.from_numpy(np.array(floats(packed, header.tensors[name].kind)))
        elif to == "merged" and (kind := _written_type(folder)) is not None:
            values[side] = values[side].to(kind).float()  # pyright: ignore[reportOptionalMemberAccess]
        elif rank is not None and to in {"lora", "gguf-lora"}:
            lora = row_lora(checkpoint, patch, side, rank)
            if lora is not None:
                values[side] = checkpoint.rows(patch.ids, side) + lora.rows[:, ids].float().T @ lora.moves
    first: Any = values["output"] if patch.side == "output" else values["input"]
    second = values["output"] if patch.output_values is not None else None
    return RowPatch(patch.ids, first, patch.base, patch.settings, patch.side, second)
