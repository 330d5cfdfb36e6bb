"""What choosing rows in one pass costs, against one epoch's forward and backward, in turns on the embedded model.

    python benchmarks/one_pass.py [--data DIR] [--examples 96] [--repeats 5] [--out benchmarks/results/one_pass.json]

The peer computes the loss of the same examples, in the order and batches of an epoch of embed tuning, and its gradient with
respect to the same rows, and nothing else: no optimizer, no record. Beside it stands an epoch of embed tuning as `tune` does
it. Processor time is printed too, for a busy machine. With --data the text is globalvoices.en-ca.{en,ca} in that folder, else
the embedded catalogs. The first turn is left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.batches import collate, encode
from ks_lottery.corpus.gettext import read_catalogs
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.corpus.selection import keep_useful, split
from ks_lottery.models.attention import plain_attention
from ks_lottery.models.gradients import gradients_of
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.rows import padding_row, reachable_rows
from ks_lottery.models.sides import installed_rows
from ks_lottery.store.assets import catalog_files, catalog_root
from ks_lottery.tuning.trainer import step_order
from ks_lottery.tuning.tune import TuneSpec, prepare
from measuring import save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel


def epoch(loaded: LoadedModel, examples: Sequence[Example], batch: int) -> None:
    """Compute the loss and its gradient over all examples, in the batches of an epoch."""
    ids = reachable_rows([e.sequence for e in examples], padding_row(loaded.lm))
    order = step_order([len(e) for e in examples], batch, seed=0, epoch=0)
    with installed_rows(loaded.lm, ids, loaded.checkpoint.rows(ids)), plain_attention(loaded.lm):
        model = LabelledLanguageModel(loaded.lm)
        model.train()
        for start in range(0, len(order), batch):
            inputs = collate([examples[i].features() for i in order[start : start + batch]])
            model(**inputs)["loss"].backward()
            model.zero_grad()
        model.eval()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--examples", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    loaded = load_model(open_checkpoint(DEFAULT_MODEL), dtype=given.dtype, device="cpu")
    if given.data:
        files = (given.data / f"globalvoices.en-ca.{language}" for language in ("en", "ca"))
        corpus = read_corpus(next(files), target=next(files), source_language="en", target_language="ca")
    else:
        corpus, _ = read_catalogs(catalog_files(), catalog_root(), target_language="ca")
    examples = encode(loaded.tokenizer, split(keep_useful(corpus)[0]).train, max_tokens=256)[0][: given.examples]
    settings = {"batch_size": given.batch, "epochs": 1.0, "learning_rate": 1e-2}
    tuning = prepare(loaded, examples, TuneSpec(settings=settings))
    sides: dict[str, Callable[[], object]] = {
        "forward_and_backward": lambda: epoch(loaded, examples, given.batch),
        "one_pass": lambda: gradients_of(loaded, examples, batch_size=given.batch),
        "embed_tuning": tuning.run,
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(given.repeats + 1):
        for name, side in sides.items():
            start, used = time.perf_counter(), time.process_time()
            side()
            if turn:
                times[name].append(time.perf_counter() - start)
                spent[name].append(time.process_time() - used)
    processor = {name: statistics.median(seconds) for name, seconds in spent.items()}
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    paired = [a / b for a, b in zip(times["one_pass"], times["forward_and_backward"], strict=True)]
    result = {
        "seconds": {name: round(seconds, 3) for name, seconds in medians.items()},
        "processor_seconds": {name: round(seconds, 3) for name, seconds in processor.items()},
        "ratio_of_processor_seconds": round(processor["one_pass"] / processor["forward_and_backward"], 3),
        "ratio_of_medians": round(medians["one_pass"] / medians["forward_and_backward"], 3),
        "median_of_paired_ratios": round(statistics.median(paired), 3),
        "ratio_to_embed_tuning": round(medians["one_pass"] / medians["embed_tuning"], 3),
        "examples": len(examples), "tokens": sum(map(len, examples)), "batch": given.batch, "dtype": str(loaded.lm.dtype),
        "text": "globalvoices en-ca" if given.data else "catalogs", "threads": torch.get_num_threads(),
    }  # fmt: skip
    for name, value in result.items():
        print(f"{name:<26} {value}")
    if given.out:
        save(given.out, result)


if __name__ == "__main__":
    main()
