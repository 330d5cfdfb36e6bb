"""Rows of new tokens against PEFT's trainable tokens on a resized model: tokens a second, peak memory, bytes of what is saved.

    python benchmarks/new_tokens.py [--model MODEL] [--tokens 8] [--steps 22] [--runs 3]
        [--out benchmarks/results/new_tokens.json]

Both train the same new tokens, on both sides, on the same examples of the embedded catalogs, in whose prompts the tokens are;
MODEL (the embedded SmolLM2-135M-Instruct) has its body in bfloat16. PEFT's side is what its documentation says: `add_tokens`,
`resize_token_embeddings`, TrainableTokensConfig, and the stock Trainer. Memory is what the process holds at its peak above the
loaded model. The first two steps are not timed. PEFT's adapter is saved by default, and with save_embedding_layers=False.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from ks_lottery.config.choices import DEFAULT_MODEL
from measuring import fresh, memory_from_here, peak_mb, save
from stock_training import BATCH, SEED, SKIP, Clock, import_before, news, stock

HERE = Path(__file__).resolve()
LEARNING_RATE = 1e-2
SIDES = ("peft", "ours")


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def with_peft(loaded: Any, texts: list[str], examples: Any, clock: Clock, folder: Path) -> dict[str, int]:
    """Train by PEFT, and return the trained parameters and the bytes of its adapters."""
    from peft import TrainableTokensConfig, get_peft_model

    lm, tokenizer = loaded.lm, loaded.tokenizer
    tokenizer.add_tokens(texts)
    lm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    lm.requires_grad_(requires_grad=False)
    ids = tokenizer.convert_tokens_to_ids(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(lm, TrainableTokensConfig(token_indices=ids))
        stock(model, examples, clock)
        model.save_pretrained(str(folder / "default"))
        model.save_pretrained(str(folder / "small"), save_embedding_layers=False)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "trained": trained, "bytes": size(folder / "default"), "bytes_without_embedding": size(folder / "small"),
    }  # fmt: skip


def with_ours(loaded: Any, texts: list[str], template: str, corpus: Any, clock: Clock, folder: Path) -> dict[str, int]:
    """Train by ks-lottery, and return the trained parameters and the bytes of the patch, and with the whole tokenizer."""
    from ks_lottery.tuning.tune import TuneSpec, prepare

    settings = {"batch_size": BATCH, "epochs": 1, "learning_rate": LEARNING_RATE}
    spec = TuneSpec(
        method="new-tokens", tokens=json.dumps(texts), template=template, side="both", seed=SEED, settings=settings
    )
    result = prepare(loaded, corpus, spec).run(callbacks=[clock.callback])
    result.product.save(folder / "patch")
    result.save(folder / "whole")
    return {
        "trained": result.product.parameters, "bytes": size(folder / "patch"), "bytes_with_tokenizer": size(folder / "whole"),
    }  # fmt: skip


def run_side(given: argparse.Namespace) -> None:
    """Measure one side in this process."""
    from ks_lottery.corpus.batches import encode
    from ks_lottery.models.load import load_model
    from ks_lottery.models.new_tokens import extended
    from ks_lottery.tuning.trainer import step_order

    import_before("peft", "transformers.trainer", "ks_lottery.tuning.tune")
    loaded = load_model(given.model, dtype="bfloat16", device="cpu")
    texts = [f"<n{i}>" for i in range(given.tokens)]
    template = f"{''.join(texts[: len(texts) // 2])}{{source}}{''.join(texts[len(texts) // 2 :])}"
    corpus = news(None).head(given.steps * BATCH)
    examples, _ = encode(extended(loaded.tokenizer, texts)[0], corpus, template=template)
    clock = Clock()
    before = memory_from_here(loaded.lm)
    with tempfile.TemporaryDirectory() as scratch:
        if given.side == "peft":
            about = with_peft(loaded, texts, examples, clock, Path(scratch))
        else:
            about = with_ours(loaded, texts, template, corpus, clock, Path(scratch))
    lengths = [len(e.sequence) for e in examples]
    order = step_order(lengths, BATCH, seed=SEED, epoch=0)
    tokens, seconds = sum(lengths[i] for i in order[SKIP * BATCH :]), clock.seconds()
    print(json.dumps({
        **about, "seconds": seconds, "tokens": tokens, "tokens_per_second": round(tokens / seconds, 1), "loaded_mb": before,
        "peak_mb": round(peak_mb() - before, 1),
    }))  # fmt: skip


def main() -> None:
    """Measure both sides in fresh processes, print and write; or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--steps", type=int, default=22)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "new_tokens.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run_side(given)
        return
    found: dict[str, Any] = {}
    for side in SIDES:
        numbers = f"--tokens {given.tokens} --steps {given.steps}".split()
        call = [str(HERE), "--side", side, "--model", given.model, *numbers]
        found[side] = fresh(call, runs=given.runs)
        print(side, found[side], flush=True)
    speed = found["ours"]["tokens_per_second"] / found["peft"]["tokens_per_second"]
    memory = found["ours"]["peak_mb"] / found["peft"]["peak_mb"]
    saved = found["peft"]["bytes"] / found["ours"]["bytes"]
    print(f"ours / peft: {speed:.2f} times the tokens a second, {memory:.2f} of the memory")
    print(f"its adapter has {saved:,.0f} times the bytes of our patch")
    settings = {"model": given.model, "tokens": given.tokens, "steps": given.steps, "untimed": SKIP, "batch": BATCH}
    save(given.out, {"settings": settings, "sides": found})


if __name__ == "__main__":
    main()
