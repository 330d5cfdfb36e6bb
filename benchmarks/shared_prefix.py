"""Training with and without the shared prefix, on the embedded model and text: tokens a second, forward and backward.

    python benchmarks/shared_prefix.py [--dtype bfloat16] [--batch-size 4] [--batches 6]

The peer is the same step with every prompt computed whole, as the transformers Trainer does by itself.
"""

from __future__ import annotations

import argparse
import time

import torch

from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.batches import batches_by_length, collate, encode
from ks_lottery.corpus.gettext import read_catalogs
from ks_lottery.corpus.selection import keep_useful, split
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.rows import reachable_rows
from ks_lottery.models.sides import installed_rows
from ks_lottery.store.assets import catalog_files, catalog_root


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=6)
    given = parser.parse_args()
    loaded = load_model(open_checkpoint(DEFAULT_MODEL), dtype=given.dtype, device="cpu")
    corpus, _ = read_catalogs(catalog_files(), catalog_root(), target_language="ca")
    examples, _ = encode(loaded.tokenizer, split(keep_useful(corpus)[0]).train)
    groups = batches_by_length([len(e.sequence) for e in examples], given.batch_size)
    chosen = groups[:: max(1, len(groups) // given.batches)][: given.batches]
    ids = reachable_rows([e.sequence for e in examples], None)
    tokens = sum(len(examples[i].sequence) for group in chosen for i in group)
    seconds: dict[bool, float] = {}
    losses: dict[bool, float] = {}
    with installed_rows(loaded.lm, ids, loaded.checkpoint.rows(ids)):
        for share in (False, True):
            model = LabelledLanguageModel(loaded.lm, share_prefix=share)
            model(**collate([examples[i].features() for i in chosen[-1]]))["loss"].backward()
            start = time.perf_counter()
            total = torch.zeros(())
            for group in chosen:
                loss = model(**collate([examples[i].features() for i in group]))["loss"]
                loss.backward()
                total += loss.detach()
            seconds[share], losses[share] = time.perf_counter() - start, float(total) / len(chosen)
    print(f"{len(chosen)} batches of {given.batch_size}, {tokens:,} tokens, {loaded.lm.dtype}")
    print(f"whole prompts  {tokens / seconds[False]:8.0f} tokens/s, loss {losses[False]:.5f}")
    print(f"shared prefix  {tokens / seconds[True]:8.0f} tokens/s, loss {losses[True]:.5f}")
    print(f"ratio          {seconds[False] / seconds[True]:8.2f}")


if __name__ == "__main__":
    main()
