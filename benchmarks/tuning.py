"""Tuning rows against PEFT's trainable tokens and dense embed tuning under the stock Trainer: tokens a second, peak memory.

    python benchmarks/tuning.py [--data DIR] [--steps 8] [--runs 5] [--out benchmarks/results/tuning.json]

Every side trains on the same batches of the same examples (with --data those of globalvoices.en-ca.{en,ca} in that folder,
else the embedded catalogs), on the embedded model with its body in bfloat16; then on a random model of 128,000 x 2,048 with two
layers. Memory is what the process holds at its peak above the loaded model. The first two steps are not timed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from measuring import fresh, memory_from_here, peak_mb, save
from stock_training import BATCH, SEED, SKIP, Clock, import_before, news, stock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel

HERE = Path(__file__).resolve()
EXAMPLES = "examples.json"
ABLATIONS = ("rows", "unshared", "whole", "fused", "shuffled", "float32")
"""Sides that say where the time and memory go; three runs each."""

SETTINGS = {
    "peft": "TrainableTokensConfig(token_indices=rows) on the bfloat16 model, float32 adapter weights (PEFT's default)",
    "dense": "embed_tokens.weight alone asks for a gradient, in bfloat16 as it is loaded",
    "stock": "Trainer, AdamW without weight decay, group_by_length, labels -100 outside the response, padding to the longest",
    "ours": "the same rows, batches and optimizer; rows in float32 over the bfloat16 body",
}
SIDES = {
    "peft": "PEFT trainable tokens, stock Trainer",
    "rows": "the row module under the stock Trainer: no copy of the matrix, no dense gradient, nothing else",
    "ours": "the row module, logits at labels only, shared prefix, parts, plain attention, like lengths, bfloat16 body",
    "unshared": "ours, without the shared prefix",
    "whole": "ours, each batch computed whole instead of in parts",
    "fused": "ours, with torch's fused attention",
    "shuffled": "ours, batches in random order instead of like lengths",
    "float32": "ours, over a float32 body",
    "dense": "dense embed tuning, stock Trainer",
    "embed": "our embed tuning of every row that the text reaches",
}
"""What is measured, and what it stands for."""


def small_model(given: argparse.Namespace) -> tuple[LoadedModel, list[Example]]:
    """Load the embedded model, and real examples."""
    from ks_lottery.config.choices import DEFAULT_MODEL
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import load_model, open_checkpoint

    dtype = "float32" if given.side == "float32" else "bfloat16"
    loaded = load_model(open_checkpoint(DEFAULT_MODEL), dtype=dtype, device=given.device)
    stored = json.loads((given.folder / EXAMPLES).read_text())
    return loaded, [Example(tuple(prompt), tuple(response)) for prompt, response in stored]


def write_examples(given: argparse.Namespace, folder: Path) -> None:
    """Encode real text once for all sides."""
    from ks_lottery.config.choices import DEFAULT_MODEL
    from ks_lottery.corpus.batches import encode
    from ks_lottery.models.load import load_tokenizer, open_checkpoint

    tokenizer = load_tokenizer(open_checkpoint(DEFAULT_MODEL))
    examples, _ = encode(tokenizer, news(given.data).head(40 * BATCH), max_tokens=160)
    (folder / EXAMPLES).write_text(json.dumps([[e.prompt, e.response] for e in examples[: given.steps * BATCH]]))


def make_large(folder: Path) -> None:
    """Write a random model of 128,000 x 2,048 with two layers, in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128_000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=2, num_attention_heads=16,
        num_key_value_heads=8, tie_word_embeddings=True, max_position_embeddings=1024, dtype="bfloat16",
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device="cpu").to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(1)
    model.tie_weights()
    model.save_pretrained(folder)


def large_model(given: argparse.Namespace) -> tuple[LoadedModel, list[Example]]:
    """Load it, with examples of random tokens: a shared prompt of 49, then 20 to 60 of the source, and as many labels."""
    import torch
    from transformers import AutoModelForCausalLM

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel, choose_device

    lm: Any = AutoModelForCausalLM.from_pretrained(str(given.folder), dtype=torch.bfloat16)
    lm.requires_grad_(requires_grad=False)
    draw = np.random.default_rng(SEED)
    common = draw.integers(0, 128_000, 49)

    # Zipf-like, as tokens of a text are: some rows stand everywhere, most once.
    def tokens(count: int) -> list[int]:
        return (draw.zipf(1.3, count) % 128_000).tolist()

    examples = [
        Example((*common.tolist(), *tokens(int(draw.integers(20, 60)))), tuple(tokens(int(draw.integers(20, 60)))))
        for _ in range(given.steps * BATCH)
    ]
    return LoadedModel(Checkpoint.open(given.folder), lm.to(choose_device(given.device)).eval(), None), examples  # type: ignore[arg-type]


def chosen(examples: Sequence[Example], count: int) -> Any:
    """Return the rows that occur most in the examples, and after them any, so that there are `count`."""
    from ks_lottery.corpus.batches import occurrences

    counts = occurrences(examples)
    order = sorted(counts, key=lambda row: (-counts[row], row))
    spare = (row for row in range(10**6) if row not in counts)
    while len(order) < count:
        order.append(next(spare))
    return np.array(sorted(order[:count]), dtype=np.int64)


def shuffled_order(lengths: Sequence[int], *_: Any, **__: Any) -> list[int]:
    """Return an order that knows nothing of lengths."""
    return np.random.default_rng(SEED).permutation(len(lengths)).tolist()


def train(side: str, loaded: LoadedModel, examples: Sequence[Example], rows: int, clock: Clock) -> int:
    """Train by one side, and return the number of trained parameters."""
    from ks_lottery.models import language_model
    from ks_lottery.models.sides import installed_rows
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning import trainer
    from ks_lottery.tuning.tune import TuneSpec, prepare

    ids = chosen(examples, rows)
    lm: Any = loaded.lm
    if side == "peft":
        from peft import TrainableTokensConfig, get_peft_model

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(lm, TrainableTokensConfig(token_indices=ids.tolist()))
        stock(model, examples, clock)
        return sum(p.numel() for p in model.parameters() if p.requires_grad)
    if side == "dense":
        lm.get_input_embeddings().weight.requires_grad_(requires_grad=True)
        stock(lm, examples, clock)
        return int(lm.get_input_embeddings().weight.numel())
    if side == "rows":
        with installed_rows(lm, ids, loaded.checkpoint.rows(ids)) as installed:
            stock(lm, examples, clock)
            return installed.rows.numel()
    if side == "shuffled":
        trainer.get_length_grouped_indices = shuffled_order  # type: ignore[assignment]
    if side == "whole":
        language_model.fits = lambda *_: False  # type: ignore[assignment]
    if side == "fused":
        type(lm).set_attn_implementation = lambda *_: None  # type: ignore[assignment]
    spec = TuneSpec(
        method="embed" if side == "embed" else "partial",
        tickets=Tickets(rows=ids, rule={}),
        seed=SEED,
        settings={"batch_size": BATCH, "epochs": 1, "learning_rate": 1e-2, "share_prefix": side != "unshared"},
    )
    return prepare(loaded, examples, spec).run(callbacks=[clock.callback]).product.parameters


def timed_tokens(examples: Sequence[Example], *, shuffled: bool) -> int:
    """Return how many tokens the steps that count hold, padding apart."""
    from ks_lottery.tuning.trainer import step_order

    lengths = [len(e.sequence) for e in examples]
    order = shuffled_order(lengths) if shuffled else step_order(lengths, BATCH, seed=SEED, epoch=0)
    return sum(lengths[i] for i in order[SKIP * BATCH :])


def run_side(given: argparse.Namespace) -> None:
    """Measure one side in this process."""
    import torch

    import_before("peft", "transformers.trainer", "ks_lottery.tuning.recorder", "ks_lottery.tuning.trainer")
    loaded, examples = (large_model if given.large else small_model)(given)
    cuda = given.device == "cuda"
    clock = Clock()
    before = memory_from_here(loaded.lm)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 1e6
    trained = train(given.side, loaded, examples, given.rows, clock)
    after = torch.cuda.max_memory_allocated() / 1e6 if cuda else peak_mb()
    tokens = timed_tokens(examples, shuffled=given.side == "shuffled")
    seconds = clock.seconds()
    print(json.dumps({
        "seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds, "trained": trained,
        "loaded_mb": before, "peak_mb": round(after - before, 1),
    }))  # fmt: skip


def table(
    title: str, given: argparse.Namespace, plan: Sequence[tuple[str, int]], more: Sequence[str]
) -> dict[str, Any]:
    """Measure the sides of a plan, print them against their peers, and return them."""
    found: dict[str, Any] = {}
    print(f"\n{title}\n{'':30}{'tokens/s':>10}{'MB above':>10}{'trained':>14}")
    for side, rows in plan:
        call = [str(HERE), "--side", side, "--rows", str(rows), "--steps", str(given.steps), "--device", given.device]
        call += more
        name = side if side in {"dense", "embed"} else f"{side} {rows}"
        one = found[name] = fresh(call, runs=min(3, given.runs) if side in ABLATIONS else given.runs)
        print(f"{name:30}{one['tokens_per_second']:10,.0f}{one['peak_mb']:10,.0f}{one['trained']:14,}", flush=True)
    ratios: dict[str, Any] = {}
    for ours, theirs in (("ours 18", "peft 18"), ("ours 800", "peft 800"), ("embed", "dense")):
        if ours in found and theirs in found:
            speed = found[ours]["tokens_per_second"] / found[theirs]["tokens_per_second"]
            memory = found[ours]["peak_mb"] / found[theirs]["peak_mb"]
            ratios[f"{ours} / {theirs}"] = {"speed": speed, "memory": memory}
            print(f"{ours} / {theirs}: {speed:.2f} times the tokens a second, {memory:.2f} of the memory")
    return {"sides": found, "ratios": ratios}


def main() -> None:
    """Measure, print and write; or be one of the fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", choices=("small", "large"), help="one of the two models")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "tuning.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=18, help=argparse.SUPPRESS)
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run_side(given)
        return
    results: dict[str, Any] = {}
    if given.only != "large":
        plan = [("peft", 18), ("ours", 18), ("peft", 800), ("ours", 800), ("dense", 0), ("embed", 0)]
        plan += [(side, 18) for side in ABLATIONS]
        with tempfile.TemporaryDirectory() as scratch:
            write_examples(given, Path(scratch))
            title = "SmolLM2-135M, bfloat16 body, batch 8"
            results["SmolLM2-135M"] = table(title, given, plan, ["--folder", scratch])
    if given.only != "small":
        with tempfile.TemporaryDirectory() as scratch:
            make_large(Path(scratch))
            plan = [("peft", 18), ("ours", 18), ("peft", 800), ("ours", 800), ("dense", 0), ("embed", 0)]
            more = ["--large", "--folder", scratch]
            results["random 128,000 x 2,048"] = table("random, 128,000 x 2,048, 2 layers, bfloat16", given, plan, more)
    settings = {"batch": BATCH, "steps": given.steps, "untimed": SKIP, "device": given.device, **SETTINGS}
    save(given.out, {"settings": settings, "sides": SIDES, "models": results})


if __name__ == "__main__":
    main()
