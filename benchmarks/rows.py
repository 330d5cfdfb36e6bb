"""One training step on a few rows: PEFT's trainable tokens, a dense embedding, and the row module; time and memory.

    python benchmarks/rows.py [--vocabulary 49152] [--width 576] [--rows 100] [--tokens 512]

The model is the embedding alone, so that nothing hides its cost. Memory is what the step allocates at its peak, as
torch's profiler counts it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ks_lottery.models.rows import RowEmbedding

if TYPE_CHECKING:
    from collections.abc import Callable


class Bare(nn.Module):
    """An embedding as a model of its own."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Look up."""
        return self.embed(tokens)


def measure(step: Callable[[], None], repeats: int = 20) -> tuple[float, int]:
    """Return milliseconds a step and bytes at its peak."""
    step()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    milliseconds = (time.perf_counter() - start) / repeats * 1e3
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return milliseconds, peak


def stepper(model: nn.Module, tokens: torch.Tensor) -> Callable[[], None]:
    """Return a function that makes one step of Adam."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)

    def step() -> None:
        model(tokens).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Measure and print."""
    from peft import TrainableTokensConfig, get_peft_model

    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("vocabulary", 49_152), ("width", 576), ("rows", 100), ("tokens", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    tokens = torch.randint(0, given.vocabulary, (8, given.tokens // 8))
    ids = np.unique(tokens.numpy().ravel())[: given.rows]
    bare = Bare(given.vocabulary, given.width)
    adapted = get_peft_model(
        Bare(given.vocabulary, given.width), TrainableTokensConfig(target_modules=["embed"], token_indices=ids.tolist())
    )
    frozen = nn.Embedding(given.vocabulary, given.width)
    ours = RowEmbedding(frozen, ids, frozen.weight.detach()[torch.from_numpy(ids)])
    results = {
        "dense embedding": measure(stepper(bare, tokens)),
        "PEFT trainable tokens": measure(stepper(adapted, tokens)),
        "row module": measure(stepper(ours, tokens)),
    }
    print(f"V = {given.vocabulary:,}, d = {given.width}, K = {len(ids)}, {tokens.numel()} tokens a step")
    for name, (milliseconds, peak) in results.items():
        ratio, less = milliseconds / results["row module"][0], peak / results["row module"][1]
        print(f"{name:<22} {milliseconds:8.2f} ms {peak / 1e6:9.2f} MB   x {ratio:6.1f} time, x {less:6.1f} memory")


if __name__ == "__main__":
    main()
