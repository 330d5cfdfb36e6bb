"""Asks llama.cpp for the most likely next tokens, in a process of its own: where it cannot load a file it ends the process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "xllamacpp"
"""Package with a prebuilt llama.cpp."""

SPARE = 64
"""Positions of a context beside prompt and answer."""


@dataclass(frozen=True)
class LlamaAnswer:
    """An answer of llama.cpp.

    Parameters
    ----------
    tokens
        Its tokens.
    gaps
        Of the first of them, the difference in log p to the second best token.
    """

    tokens: tuple[int, ...]
    gaps: tuple[float, ...]


def is_installed() -> bool:
    """Say whether llama.cpp is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def ask_llama(
    model: Path, prompts: Sequence[Sequence[int]], count: int, adapter: Path | None = None
) -> list[LlamaAnswer]:
    """Return the greedy tokens that llama.cpp gives to each prompt, without the end of the text.

    Parameters
    ----------
    model
        GGUF file of a model.
    prompts
        The tokens of each prompt.
    count
        Most tokens of an answer.
    adapter
        GGUF file of a LoRA that is put on the model; None for none.

    Raises
    ------
    UserError
        When llama.cpp is not installed, or ends without an answer: what it said last is in the sentence.
    """
    if not is_installed():
        raise UserError(
            f"llama.cpp is not installed, which the check needs: pip install {PACKAGE}, or leave out `check`"
        )
    import torch  # not in the process that runs llama.cpp

    longest = max(map(len, prompts)) + count + SPARE
    request = {
        "model": str(model), "adapter": None if adapter is None else str(adapter), "prompts": [list(p) for p in prompts],
        "count": count, "context": longest, "threads": torch.get_num_threads(),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        asked, told = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        code = f"from {__name__} import write_answers; write_answers({str(asked)!r}, {str(told)!r})"
        call = [sys.executable, "-c", code]
        done = subprocess.run(call, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not told.is_file():
            said = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
            reason = next((line for line in said if "error" in line.lower() or "GGML_ASSERT" in line), "")
            raise UserError(
                f"llama.cpp cannot load {model if adapter is None else adapter} (exit code {done.returncode}): "
                f"{reason.strip() or (said[-1].strip() if said else 'no reason given')}. Export another format"
            )
        given = json.loads(told.read_text(encoding="utf-8"))
        return [LlamaAnswer(tuple(answer["tokens"]), tuple(answer["gaps"])) for answer in given]


def _answers(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Load the model, with 32-bit keys and values, and ask it each prompt at the address that its server listens at."""
    import xllamacpp as llama  # pyright: ignore[reportMissingImports]

    library: Any = llama
    settings = library.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = request["model"], request["context"], 1
    settings.n_gpu_layers, settings.warmup, settings.cpuparams.n_threads = 0, False, request["threads"]
    settings.cache_type_k = settings.cache_type_v = library.ggml_type.GGML_TYPE_F32
    if request["adapter"] is not None:
        adapter = library.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = request["adapter"], 1.0
        settings.lora_adapters = [adapter]
    server = library.Server(settings)
    return [_ask(server.listening_address, prompt, request["count"]) for prompt in request["prompts"]]


def _ask(address: str, prompt: list[int], count: int) -> dict[str, Any]:
    """Return one answer: its tokens, and the gaps of those before the first token that is a part of a character."""
    asked = {
        "prompt": prompt, "n_predict": count, "temperature": 0.0, "n_probs": 2, "return_tokens": True, "cache_prompt": False,
    }  # fmt: skip
    headers = {"Content-Type": "application/json"}
    call = urllib.request.Request(f"{address}/completion", json.dumps(asked).encode(), headers)  # noqa: S310 (this machine)
    with urllib.request.urlopen(call) as response:  # noqa: S310
        answer = json.load(response)
    tokens: list[int] = answer["tokens"][:-1] if answer["stop_type"] == "eos" else answer["tokens"]
    gaps: list[float] = []
    for token, step in zip(tokens, answer.get("completion_probabilities", []), strict=False):
        if step["id"] != token:  # llama.cpp leaves out the steps that are no whole character
            break
        first, second = (top["logprob"] for top in step["top_logprobs"])
        gaps.append(first - second)
    return {"tokens": tokens, "gaps": gaps}


def write_answers(asked: str, told: str) -> None:
    """Answer the request in one file into another: what the process of its own does."""
    content = json.loads(Path(asked).read_text(encoding="utf-8"))
    Path(told).write_text(json.dumps(_answers(content)), encoding="utf-8")
