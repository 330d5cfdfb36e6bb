"""What recording the attribution costs embed tuning: step times with and without, in turns, on the embedded model.

    python benchmarks/attribution.py [--data DIR] [--steps 12] [--repeats 4] [--out benchmarks/results/attribution.json]

The peer is the same training of the same rows and batches without the recorder. With --data the text is
globalvoices.en-ca.{en,ca} in that folder, else the embedded catalogs. The first step of each training is left out. Beside
the ratio of medians, which carries the machine's noise, the time spent inside the recorder is measured by itself.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.gettext import read_catalogs
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.corpus.selection import keep_useful, split
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.rows import padding_row, reachable_rows
from ks_lottery.store.assets import catalog_files, catalog_root
from ks_lottery.store.files import write_json
from ks_lottery.store.manifest import versions
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.recorder import AttributionRecorder
from ks_lottery.tuning.tune import TuneSpec, prepare

INSIDE = ("_count", "on_pre_optimizer_step", "on_optimizer_step", "on_log", "finish")


def clocked(spent: list[float]) -> None:
    """Add the seconds of each call of the recorder to `spent`."""

    def wrap(function: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent.append(time.perf_counter() - start)

        return timed

    for name in INSIDE:
        setattr(AttributionRecorder, name, wrap(getattr(AttributionRecorder, name)))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    loaded = load_model(open_checkpoint(DEFAULT_MODEL), dtype=given.dtype)
    if given.data:
        files = (given.data / f"globalvoices.en-ca.{language}" for language in ("en", "ca"))
        corpus = read_corpus(next(files), target=next(files), source_language="en", target_language="ca")
    else:
        corpus, _ = read_catalogs(catalog_files(), catalog_root(), target_language="ca")
    examples, _ = encode(loaded.tokenizer, split(keep_useful(corpus)[0]).train, max_tokens=256)
    # As many rows as a real training reaches, whatever few steps are measured.
    ids = reachable_rows([e.sequence for e in examples[:1200]], padding_row(loaded.lm))
    chosen = examples[: given.steps * given.batch]
    settings = {"batch_size": given.batch, "epochs": 1.0, "learning_rate": 5e-3}
    tickets = Tickets(rows=ids, rule={})
    with_recorder = replace(prepare(loaded, chosen, TuneSpec(settings=settings)), rows=tickets)
    without = prepare(loaded, chosen, TuneSpec(method="partial", tickets=tickets, settings=settings))
    spent: list[float] = []
    clocked(spent)
    times: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(given.repeats):
        for name, tuning in (("with", with_recorder), ("without", without)):
            ticks: list[float] = []
            tuning.run(tick=lambda *_, t=ticks: t.append(time.perf_counter()))
            times[name] += [b - a for a, b in itertools.pairwise(ticks)]
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    paired = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    inside = sum(spent) / (given.steps * given.repeats)
    result = {
        "step_seconds": {name: round(seconds, 4) for name, seconds in medians.items()},
        "ratio_of_medians": round(medians["with"] / medians["without"], 4),
        "median_of_paired_ratios": round(statistics.median(paired), 4),
        "recorder_seconds_a_step": round(inside, 5),
        "recorder_share_of_a_step": round(inside / medians["without"], 5),
        "rows": len(ids), "width": loaded.checkpoint.width, "batch": given.batch, "steps": len(times["with"]),
        "text": "globalvoices en-ca" if given.data else "catalogs", "dtype": str(loaded.lm.dtype),
        "threads": torch.get_num_threads(), "versions": versions(),
    }  # fmt: skip
    for name, value in result.items():
        print(f"{name:<26} {value}")
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
