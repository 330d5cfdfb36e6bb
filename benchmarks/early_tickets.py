"""How early the tickets of embed tuning are known, and what stopping there costs: the demo, watched by `KSCallback`.

    python benchmarks/early_tickets.py [--budget default] [--seed 0] [--out benchmarks/results/early_tickets.json]

One embed tuning is checked at every 5% of its steps. Where the set has settled by rules that were fixed beforehand, its
tickets are trained alone, beside the tickets of the whole embed tuning, as many of those with the largest D, random draws of
as many reachable rows, the rows that occur most, and what a short embed tuning with a schedule of its own ranks first. A
training that is stopped at a step has the weights of the whole one at that step, so no rule needs a training of its own.
About nine minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery import KSCallback, open_checkpoint
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.source import load_text
from ks_lottery.evaluation.next_token import predict
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model
from ks_lottery.models.sides import installed_rows
from ks_lottery.recipes.demo import BUDGETS, demo_config
from ks_lottery.stats.intervals import bootstrap_interval
from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import critical_count
from ks_lottery.store.files import write_json
from ks_lottery.store.manifest import versions
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.callback import jaccard, settled_at
from ks_lottery.tuning.tune import TuneSpec, prepare

if TYPE_CHECKING:
    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.config.settings import RunConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.load import LoadedModel

    Rows = npt.NDArray[np.int64]

EVERY, SHORT = 0.05, 0.25
RULES = ((0.8, 2), (0.9, 2))
"""Threshold and patience, fixed before anything was measured."""


class Timed(KSCallback):
    """Keeps the counts of each check, and the time that all of them took."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.history: list[npt.NDArray[np.int64]] = []
        self.seconds = 0.0

    def on_step_end(self, *given: Any, **more: Any) -> Any:
        """Check, and take the time."""
        start = time.perf_counter()
        control = super().on_step_end(*given, **more)
        self.seconds += time.perf_counter() - start
        if len(self.checks) > len(self.history):
            self.history.append(self.counts.copy())
        return control

    def top(self, size: int, check: int = -1) -> Rows:
        """Return the `size` rows with the largest D at a check, ascending; ties go to the lower row."""
        return np.sort(self.ids[np.argsort(-self.history[check], kind="stable")[:size]])


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def difference(one: Predictions, other: Predictions, **settings: Any) -> tuple[float, tuple[float, float]]:
    """Return accuracy of `one` less that of `other`, and its interval by resampling sentences, paired."""
    size = int(one.sentence.max()) + 1
    more = np.bincount(one.sentence, weights=one.correct.astype(float) - other.correct, minlength=size)
    total = np.bincount(one.sentence, minlength=size).astype(float)
    return float(more.sum() / total.sum()), bootstrap_interval(more, total, **settings)


@dataclass(frozen=True)
class Demo:
    """The demo's model, text and settings."""

    config: RunConfig
    loaded: LoadedModel
    train: list[Example]
    test: list[Example]

    @classmethod
    def open(cls, budget: str, seed: int) -> Demo:
        """Open model and text as the demo does."""
        config = demo_config(budget=budget, seed=seed)
        parts, _ = load_text(config.text)
        loaded = load_model(open_checkpoint(config.model.name), dtype=config.model.dtype, device=config.model.device)
        text = {"template": config.text.template, "max_tokens": config.text.max_tokens}
        train, test = (encode(loaded.tokenizer, part, **text)[0] for part in (parts.train, parts.test))
        return cls(config, loaded, train, test)

    def rows(self, method: str, size: int | None = None) -> Rows:
        """Return the rows that a method of the demo trains, ascending."""
        tickets = prepare(self.loaded, self.train, TuneSpec(method=method, size=size, seed=self.config.seed)).rows
        assert tickets is not None
        return tickets.ids

    def tune(self, ids: Rows, watcher: Timed | None = None, share: float = 1.0) -> tuple[RowPatch, float]:
        """Train rows for a share of the demo's epochs, and return them with the seconds it took."""
        settings = replace(self.config.train, epochs=self.config.train.epochs * share)
        start = time.perf_counter()
        spec = TuneSpec(
            method="partial" if watcher is None else "embed",
            tickets=Tickets(rows=ids, rule={}),
            seed=self.config.seed,
            settings=asdict(settings),
        )
        tuning = prepare(self.loaded, self.train, spec)
        product = tuning.run(callbacks=() if watcher is None else (watcher,)).product
        return product, time.perf_counter() - start

    def measure(self, patch: RowPatch) -> Predictions:
        """Predict the test text."""
        model = LabelledLanguageModel(self.loaded.lm, share_prefix=self.config.train.share_prefix)
        with installed_rows(self.loaded.lm, patch.ids, patch.values):
            return predict(model, self.test, batch_size=self.config.evaluate.batch_size)


def timeline(whole: Timed) -> list[dict[str, Any]]:
    """Return, and print, each check against the last."""
    last = whole.checks[-1]
    found: list[dict[str, Any]] = []
    print("step  share  tickets  largest D  Jaccard before  Jaccard final  as many as final by D, Jaccard")
    for number, check in enumerate(whole.checks):
        row = {
            "step": check.step,
            "share": check.step / last.step,
            "tickets": len(check.rows),
            "largest_D": check.largest,
            "jaccard_previous": check.jaccard,
            "jaccard_final": jaccard(check.rows, last.rows),
            "in_final": int(np.isin(check.rows, last.rows).sum()),
            "jaccard_final_by_D": jaccard(whole.top(len(last.rows), number), whole.top(len(last.rows))),
        }
        before = "-" if check.jaccard is None else f"{check.jaccard:.3f}"
        print(
            f"{check.step:>4} {row['share']:6.2f} {row['tickets']:>8} {check.largest:10.4f} {before:>15} "
            f"{row['jaccard_final']:14.3f} {row['jaccard_final_by_D']:15.3f}"
        )
        found.append(row)
    return found


def apply_rules(whole: Timed) -> tuple[list[dict[str, Any]], dict[str, Rows]]:
    """Return where each rule would have stopped, and the tickets there."""
    last = whole.checks[-1]
    rules: list[dict[str, Any]] = []
    sets: dict[str, Rows] = {}
    for threshold, patience in RULES:
        step = settled_at(whole.checks, threshold=threshold, patience=patience)
        rules.append({"threshold": threshold, "patience": patience, "step": step})
        if step is not None:
            rows = next(check.rows for check in whole.checks if check.step == step)
            rules[-1] |= {"share": step / last.step, "tickets": len(rows), "jaccard_final": jaccard(rows, last.rows)}
            sets[f"settled {threshold:g}/{patience}"] = rows
    return rules, sets


def compare(demo: Demo, predictions: dict[str, Predictions], sets: dict[str, Rows]) -> dict[str, Any]:
    """Return, and print, the accuracy of each method, and how far it is from that of the final tickets."""
    config = demo.config
    resampling = {
        "confidence": config.evaluate.confidence, "resamples": config.evaluate.resamples, "seed": config.seed
    }  # fmt: skip
    methods: dict[str, Any] = {}
    print(f"{'method':<45} rows  in final  accuracy  interval      less final tickets")
    for name, found in predictions.items():
        less, between = difference(found, predictions["final tickets"], **resampling)
        methods[name] = {
            "rows": len(sets[name]),
            "in_final": int(np.isin(sets[name], sets["final tickets"]).sum()),
            "accuracy": found.accuracy,
            "interval": found.interval(**resampling),
            "loss": found.loss,
            "less_final": less,
            "less_final_interval": between,
        }
        low, high = methods[name]["interval"]
        print(
            f"{name:<45} {len(sets[name]):>5} {methods[name]['in_final']:>8} {found.accuracy:9.4f}  {low:.3f}-{high:.3f}  "
            f"{less:+.4f} ({between[0]:+.4f} to {between[1]:+.4f})"
        )
    return methods


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="default", choices=list(BUDGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/early_tickets.json"))
    given = parser.parse_args()
    demo = Demo.open(given.budget, given.seed)
    reachable, alpha = demo.rows("embed"), demo.config.select.alpha
    noise = np.random.default_rng(0).standard_normal((2, 200, 576)).astype(np.float32)
    ks_counts(*noise)  # compiles, or loads what was compiled, outside the times
    whole, short = (Timed(every=EVERY, alpha=alpha) for _ in range(2))
    embed, seconds = demo.tune(reachable, whole)
    early, short_seconds = demo.tune(reachable, short, SHORT)
    final, last = whole.checks[-1].rows, short.checks[-1]
    print(
        f"embed tuning: {whole.checks[-1].step} steps, {seconds:.1f} s, its {len(whole.checks)} checks {whole.seconds:.2f} s"
    )
    print(
        f"short embed tuning: {last.step} steps, {short_seconds:.1f} s, {len(last.rows)} tickets, largest {last.largest:.4f}"
    )
    checks = timeline(whole)
    rules, settled = apply_rules(whole)

    sets = {"final tickets": final, **settled}
    if settled:
        name, size = next((name, len(rows)) for name, rows in settled.items())
        sets[f"final by D, as many as {name}"] = whole.top(size)
        sets[f"random, as many as {name}"] = demo.rows("random", size)
    if len(last.rows):
        sets["short embed tuning's tickets"] = last.rows
    sets["short embed tuning by D, as many as final"] = short.top(len(final))
    sets["random, as many as final"] = demo.rows("random", len(final))
    sets["occur most, as many as final"] = demo.rows("occurrence", len(final))
    patches = {"original": embed.restrict(embed.ids[:0]), "embed tuning": embed, "short embed tuning": early}
    predictions = {name: demo.measure(patch) for name, patch in patches.items()}
    predictions |= {name: demo.measure(demo.tune(rows)[0]) for name, rows in sets.items()}
    methods = compare(demo, predictions, {**{name: patch.ids for name, patch in patches.items()}, **sets})

    width = embed.values.shape[1]
    settings = {
        "every": EVERY,
        "alpha": alpha,
        "critical_D": critical_count(width, alpha) / width,
        "short": SHORT,
        "train": len(demo.train),
        "test": len(demo.test),
        "positions": len(predictions["original"]),
        **{name: embed.settings[name] for name in ("learning_rate", "epochs", "batch_size", "warmup_ratio")},
    }
    result = {
        "command": f"python benchmarks/early_tickets.py --budget {given.budget} --seed {given.seed}",
        "machine": {**machine(), "dtype": str(demo.loaded.lm.dtype).removeprefix("torch.")},
        "versions": versions(),
        "base": demo.loaded.checkpoint.describe(),
        "settings": settings,
        "seconds": {"embed": seconds, "checks": whole.seconds, "short": short_seconds},
        "checks": checks,
        "rules": rules,
        "short": {
            "steps": last.step,
            "tickets": len(last.rows),
            "largest_D": last.largest,
            "jaccard_final": jaccard(last.rows, final),
            "jaccard_final_by_D": jaccard(short.top(len(final)), whole.top(len(final))),
        },
        "methods": methods,
    }
    write_json(given.out, result)


if __name__ == "__main__":
    main()
