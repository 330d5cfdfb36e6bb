"""A whole grid of ten alphas, predicted for the certificate, against ten passes in which nothing is shared.

    python benchmarks/certify.py --data DIR [--tuned runs/embed] [--sentences 200] [--runs 5]

DIR holds line-aligned news to tune on (globalvoices.en-ca.{en,ca}) and FLORES dev (flores200.dev.{eng,cat}_Latn), of which the
first sentences are certified. Without --tuned the embed tuning is done first, once, into --work. Both sides have the same
batches, the same cut at 20 target positions, the same head and the same top two of each position; the peer runs every
prompt whole for each alpha. Sides alternate, each in a fresh process; loading is not timed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import measuring

ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
POSITIONS = 20


def tuned_patch(given: argparse.Namespace) -> Path:
    """Return the folder of the embed tuning; tune where there is none."""
    folder = given.tuned or given.work / "embed"
    if not (folder / "patch.safetensors").is_file():
        from ks_lottery import keep_useful, open_checkpoint, read_corpus, tune

        news = [given.data / f"globalvoices.en-ca.{side}" for side in ("en", "ca")]
        corpus = read_corpus(news[0], target=news[1], source_language="en", target_language="ca")
        patch = tune(open_checkpoint(given.model), keep_useful(corpus)[0].head(1600), epochs=1, learning_rate=1e-2)
        patch.save(folder)
    return folder


def side(given: argparse.Namespace) -> None:
    """Predict the grid one way, and print seconds and a digest of the answers."""
    import torch

    from ks_lottery.certification.candidates import transfers
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.batches import encode
    from ks_lottery.corpus.readers import read_corpus
    from ks_lottery.evaluation.next_token import predict
    from ks_lottery.evaluation.patches import predict_patches
    from ks_lottery.models.language_model import LabelledLanguageModel
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.models.sides import installed_patch
    from ks_lottery.tickets.blocks import scan_sources

    loaded = load_model(open_checkpoint(given.model), dtype=given.dtype)
    tuned = RowPatch.open(given.tuned)
    candidates = transfers(tuned, scan_sources(loaded.checkpoint, tuned), ALPHAS)
    flores = [given.data / f"flores200.dev.{name}_Latn" for name in ("eng", "cat")]
    corpus = read_corpus(flores[0], target=flores[1], source_language="en", target_language="ca")
    examples = [e.cut(POSITIONS) for e in encode(loaded.tokenizer, corpus.head(given.sentences), max_tokens=4096)[0]]
    predict(LabelledLanguageModel(loaded.lm), examples[: given.batch_size], batch_size=given.batch_size)  # warm
    every = len(candidates) * sum(len(e) - 1 for e in examples)
    tokens = every
    start = time.perf_counter()
    if given.side == "plain":
        model, found = LabelledLanguageModel(loaded.lm, share_prefix=False), {}
        for one in candidates:
            with installed_patch(loaded.lm, one.patch):
                found[one.name] = predict(model, examples, batch_size=given.batch_size)
    else:
        shared = predict_patches(
            loaded.lm,
            {one.name: one.patch for one in candidates},
            examples,
            batch_size=given.batch_size,
            share_sentences=given.side == "ours",
        )
        found, tokens = shared.predictions, shared.computed_tokens
    seconds = time.perf_counter() - start
    np.savez(given.answers, **{name: p.first for name, p in found.items()})
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mb": measuring.peak_mb(),
                "tokens": every,
                "computed_tokens": tokens,
                "tickets": [len(one.rows) for one in candidates],
                "threads": torch.get_num_threads(),
                "dtype": str(loaded.lm.dtype).removeprefix("torch."),
            }
        )
    )


def main() -> None:
    """Measure both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tuned", type=Path, help="folder of an embed tuning's patch")
    parser.add_argument("--work", type=Path, default=Path("runs/certify-benchmark"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/certify.json"))
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--runs", type=int, default=measuring.RUNS)
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--model", default="asset:smollm2-135m-instruct")
    parser.add_argument("--side", choices=("plain", "prefix", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side(given)
        return
    given.work.mkdir(parents=True, exist_ok=True)
    call = [str(Path(__file__)), "--data", str(given.data), "--tuned", str(tuned_patch(given)), "--dtype", given.dtype]
    call += ["--sentences", str(given.sentences), "--batch-size", str(given.batch_size), "--model", given.model]
    results: dict[str, list[dict[str, object]]] = {"plain": [], "prefix": [], "ours": []}
    for _ in range(given.runs):
        for name, runs in results.items():
            runs.append(measuring.fresh([*call, "--side", name, "--answers", str(given.work / f"{name}.npz")], runs=1))
    medians = {name: sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2] for name, runs in results.items()}
    plain, ours = (np.load(given.work / f"{name}.npz") for name in ("plain", "ours"))
    total = sum(plain[name].size for name in plain.files)
    differing = sum(int((plain[name] != ours[name]).sum()) for name in plain.files)
    content = {
        "alphas": ALPHAS, "positions": POSITIONS, "sentences": given.sentences, "batch_size": given.batch_size,
        "ratio": round(medians["plain"]["seconds"] / medians["ours"]["seconds"], 3),
        "ratio_of_the_prefix_alone": round(medians["plain"]["seconds"] / medians["prefix"]["seconds"], 3),
        "answers": total, "answers_that_differ": differing,
        "sides": {n: {**m, "runs": [round(r["seconds"], 2) for r in results[n]]} for n, m in medians.items()},
    }  # fmt: skip
    for name, one in medians.items():
        print(f"{name:<7} {one['seconds']:7.2f} s  {one['computed_tokens']:,} of {one['tokens']:,} tokens computed")
    print(f"ratio {content['ratio']:.2f} (shared prefix alone {content['ratio_of_the_prefix_alone']:.2f})")
    print(f"{differing} of {total:,} answers differ ({medians['ours']['dtype']})")
    measuring.save(given.results, content)


if __name__ == "__main__":
    main()
