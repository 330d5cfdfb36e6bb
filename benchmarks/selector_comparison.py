"""Which rows are worth training: six selectors at the same counts, by partial tuning and by transfer, over several seeds.

    python benchmarks/selector_comparison.py --data DIR --tune-settings     # learning rates and steps, on held-out news
    python benchmarks/selector_comparison.py --data DIR --lr 5e-3 --steps 150  # the comparison, measured on FLORES dev

DIR holds line-aligned news (globalvoices.en-ca.{en,ca}: trained on, and held out for the settings), FLORES
(flores200.dev.{eng,cat}_Latn: measured on, never trained on) and Catalan sentences (ccmatrix.mono.ca: frequencies).
A finished cell is one line of --results and is not done again: stop it whenever you like, the same command goes on. What
embed tuning left, and the count of right answers for each sentence, lie in --work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.checkpoint.attribution import ATTRIBUTION_FILE, Attribution
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.readers import read_corpus
from ks_lottery.corpus.selection import keep_useful, split
from ks_lottery.evaluation.next_token import predict
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.rows import padding_row, reachable_rows
from ks_lottery.models.sides import installed_rows
from ks_lottery.stats.intervals import bootstrap_interval
from ks_lottery.store.manifest import digest_json
from ks_lottery.tickets.blocks import scan_sources
from ks_lottery.tickets.selectors import Basis, select_rows
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.tune import TuneSpec, prepare

if TYPE_CHECKING:
    from ks_lottery.corpus.batches import Example

SELECTORS = ("ks", "lca", "gradient", "occurrence", "frequency", "random-reachable")
USES = ("transfer", "partial")


@dataclass(frozen=True)
class Setting:
    """What a training depends on, beside its rows."""

    seed: int
    steps: int
    batch: int
    embed_lr: float
    lr: float


@dataclass
class Study:
    """The model, the texts, and the cells that are done."""

    given: argparse.Namespace
    done: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Load the model once, and read the lines of an earlier call."""
        self.loaded = load_model(open_checkpoint(self.given.model), dtype=self.given.dtype, device=self.given.device)
        self.results = self.given.tuning_results if self.given.tune_settings else self.given.results
        if self.results.is_file():
            for line in self.results.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self.done[row["key"]] = row

    def read(self, source: str, target: str) -> Any:
        """Read a line-aligned text."""
        data = self.given.data
        return read_corpus(data / source, target=data / target, source_language="en", target_language="ca")

    @cached_property
    def news(self) -> tuple[list[Example], list[Example]]:
        """Examples to train on, and held-out ones; those over --max-tokens are left out."""
        parts = split(keep_useful(self.read("globalvoices.en-ca.en", "globalvoices.en-ca.ca"))[0])
        train, test = (
            encode(self.loaded.tokenizer, c, max_tokens=self.given.max_tokens)[0] for c in (parts.train, parts.test)
        )
        print(f"news: {len(train):,} examples to train on, {len(test):,} held out", flush=True)
        return train, test

    @cached_property
    def measured(self) -> list[Example]:
        """The examples that everything is measured on."""
        if self.given.tune_settings:
            return self.news[1][: self.given.held_out]
        pairs = self.read("flores200.dev.eng_Latn", "flores200.dev.cat_Latn")
        return encode(self.loaded.tokenizer, pairs.head(self.given.flores or len(pairs)), max_tokens=1024)[0]

    @cached_property
    def frequencies(self) -> Counter[int]:
        """Tokens of the Catalan sentences."""
        counts: Counter[int] = Counter()
        for sentence in (self.given.data / "ccmatrix.mono.ca").read_text(encoding="utf-8").splitlines():
            counts.update(self.loaded.tokenizer(sentence, add_special_tokens=False)["input_ids"])
        return counts

    def examples(self, setting: Setting) -> list[Example]:
        """Draw the examples of a seed, one pass of which makes the steps."""
        pool, wanted = self.news[0], setting.steps * setting.batch
        if wanted > len(pool):
            raise SystemExit(
                f"{wanted} examples are wanted, and there are {len(pool)}: fewer steps, or more --max-tokens"
            )
        drawn = np.random.default_rng(setting.seed).permutation(len(pool))[:wanted]
        return [pool[i] for i in drawn]

    def train(self, setting: Setting, rows: np.ndarray, method: str) -> tuple[RowPatch, float]:
        """Train rows, and return the patch and the seconds."""
        embed = method == "embed"
        spec = TuneSpec(
            method="embed" if embed else "partial",
            tickets=Tickets(rows=rows, rule={}),
            seed=setting.seed,
            settings={
                "learning_rate": setting.embed_lr if embed else setting.lr,
                "epochs": 1.0,
                "batch_size": setting.batch,
            },
        )
        start = time.perf_counter()
        patch = prepare(self.loaded, self.examples(setting), spec).run().product
        return patch, time.perf_counter() - start

    def embed(self, setting: Setting) -> tuple[RowPatch, Attribution, float]:
        """Tune every reachable row, or open what an earlier call left."""
        about = {"model": self.loaded.checkpoint.fingerprint, "dtype": str(self.loaded.lm.dtype), **vars(setting)}
        del about["lr"]
        folder = self.given.work / f"embed-{digest_json([about, self.given.max_tokens])[:16]}"
        seconds = 0.0
        if not (folder / ATTRIBUTION_FILE).is_file():
            sequences = [e.sequence for e in self.examples(setting)]
            patch, seconds = self.train(setting, reachable_rows(sequences, padding_row(self.loaded.lm)), "embed")
            patch.save(folder)
        return RowPatch.open(folder), Attribution.open(folder), seconds

    def measure(self, name: str, setting: Setting | None, patch: RowPatch, **about: Any) -> None:
        """Measure one cell and write its line."""
        start = time.perf_counter()
        with installed_rows(self.loaded.lm, patch.ids, patch.values):
            found = predict(LabelledLanguageModel(self.loaded.lm), self.measured, batch_size=self.given.eval_batch)
        size = len(self.measured)
        right = np.bincount(found.sentence, weights=found.correct, minlength=size)
        total = np.bincount(found.sentence, minlength=size)
        key = self.key(name, setting)
        self.given.work.mkdir(parents=True, exist_ok=True)
        np.savez(self.given.work / f"{key}.npz", right=right, total=total)
        low, high = found.interval()
        row = {
            "key": key, "cell": name, "accuracy": round(found.accuracy, 6), "interval": [round(low, 6), round(high, 6)],
            "loss": round(found.loss, 6), "rows": len(patch), **about, **self.conditions(setting),
            "measuring_seconds": round(time.perf_counter() - start, 1),
        }  # fmt: skip
        self.results.parent.mkdir(parents=True, exist_ok=True)
        with self.results.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        self.done[key] = row
        training = about.get("training_seconds")
        spent = (
            f"{row['measuring_seconds']:.0f} s"
            if training is None
            else f"{training:.0f} + {row['measuring_seconds']:.0f} s"
        )
        print(
            f"{name:<44} accuracy {found.accuracy:.4f} ({low:.4f}-{high:.4f})  loss {found.loss:.4f}  {spent}",
            flush=True,
        )

    def conditions(self, setting: Setting | None) -> dict[str, Any]:
        """Return all that a figure depends on, beside the cell's name."""
        on = (
            f"held-out {self.given.held_out}"
            if self.given.tune_settings
            else f"FLORES dev {self.given.flores or 'all'}"
        )
        return {
            **(vars(setting) if setting else {}), "max_tokens": self.given.max_tokens, "measured_on": on,
            "model": self.given.model, "dtype": str(self.loaded.lm.dtype).removeprefix("torch."),
        }  # fmt: skip

    def key(self, name: str, setting: Setting | None) -> str:
        """Name a cell under its conditions."""
        return digest_json([name, self.conditions(setting)])[:20]

    def left(self, names: list[str], setting: Setting | None) -> list[str]:
        """Return those cells that are not done."""
        return [name for name in names if self.key(name, setting) not in self.done]

    def tickets(self, selector: str, count: int, setting: Setting, patch: RowPatch, known: Attribution) -> Tickets:
        """Select `count` rows."""
        basis = Basis(
            vocabulary=self.loaded.checkpoint.vocabulary,
            size=count,
            seed=setting.seed,
            scan=scan_sources(self.loaded.checkpoint, patch) if selector == "ks" else None,
            attribution=known,
            frequencies=self.frequencies if selector == "frequency" else None,
            examples=lambda: self.examples(setting),
            reachable=lambda: patch.ids,
        )
        return select_rows(selector, basis)

    def compare(self, setting: Setting, selectors: list[str], counts: list[int]) -> None:
        """Do the cells of a seed that are left."""
        cells = [(s, n) for n in counts for s in selectors]
        names = [f"seed {setting.seed} {n} rows by {s}, {use}" for s, n in cells for use in USES]
        if not self.left([f"seed {setting.seed} embed tuning", *names], setting):
            return
        patch, known, seconds = self.embed(setting)
        name = f"seed {setting.seed} embed tuning"
        if self.left([name], setting):
            self.measure(name, setting, patch, use="embed", training_seconds=round(seconds, 1))
        for selector, count in cells:
            name = f"seed {setting.seed} {count} rows by {selector}"
            if not self.left([f"{name}, {use}" for use in USES], setting):
                continue
            tickets = self.tickets(selector, count, setting, patch, known)
            about = {"selector": selector, "count": count}
            if self.left([f"{name}, transfer"], setting):
                self.measure(f"{name}, transfer", setting, patch.restrict(tickets.ids), use="transfer", **about)
            if self.left([f"{name}, partial"], setting):
                small, seconds = self.train(setting, tickets.ids, "partial")
                about["training_seconds"] = round(seconds, 1)
                self.measure(f"{name}, partial", setting, small, use="partial", **about)

    def original(self) -> None:
        """Measure the model as it is."""
        if self.left(["original"], None):
            none = np.empty(0, dtype=np.int64)
            base = self.loaded.checkpoint
            self.measure("original", None, RowPatch(none, base.rows(none), base.describe()), use="original")

    def counted(self, name: str, settings: list[Setting]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return right answers and positions of each sentence, summed over the seeds that are done."""
        files = [self.given.work / f"{self.key(name.format(seed=s.seed), s)}.npz" for s in settings]
        found = [np.load(file) for file in files if file.is_file()]
        if not found:
            return None
        return sum(f["right"] for f in found), sum(f["total"] for f in found)

    def report(self, settings: list[Setting], selectors: list[str], counts: list[int]) -> None:
        """Print accuracies over all seeds and, beside them, what each selector has over ks; intervals resample sentences."""
        embed = self.counted("seed {seed} embed tuning", settings)
        if embed is not None:
            low, high = bootstrap_interval(*embed)
            print(f"\nembed tuning {embed[0].sum() / embed[1].sum():.4f} ({low:.4f}-{high:.4f})")
        print(f"{'use':<9} {'rows':>5}  {'selector':<17} {'accuracy':>8}  95% interval     less ks  95% interval")
        for use in USES:
            for count in counts:
                ks = self.counted(f"seed {{seed}} {count} rows by ks, {use}", settings)
                for selector in selectors:
                    cell = self.counted(f"seed {{seed}} {count} rows by {selector}, {use}", settings)
                    if cell is None:
                        continue
                    low, high = bootstrap_interval(*cell)
                    line = f"{use:<9} {count:>5}  {selector:<17} {cell[0].sum() / cell[1].sum():>8.4f}  {low:.4f}-{high:.4f}"
                    if selector != "ks" and ks is not None and ks[1].sum() == cell[1].sum():
                        low, high = bootstrap_interval(cell[0] - ks[0], cell[1])
                        line += f"  {(cell[0] - ks[0]).sum() / cell[1].sum():+8.4f}  {low:+.4f} to {high:+.4f}"
                    print(line)


def main() -> None:
    """Parse, do what is left, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/selector_comparison.jsonl"))
    parser.add_argument("--tuning-results", type=Path, default=Path("benchmarks/results/selector_settings.jsonl"))
    parser.add_argument("--work", type=Path, default=Path("runs/selectors"), help="patches and counts by sentence")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[150], help="of a training; several for --tune-settings"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, nargs="+", default=[5e-3], help="several for --tune-settings")
    parser.add_argument("--embed-lr", type=float, help="another one for embed tuning (default: --lr)")
    parser.add_argument("--flores", type=int, default=0, help="the first so many sentences; 0: all 997")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--counts", type=int, nargs="+", default=[18, 120, 800])
    parser.add_argument("--selectors", nargs="+", default=list(SELECTORS), choices=SELECTORS)
    parser.add_argument("--max-tokens", type=int, default=160, help="training examples with more are left out")
    parser.add_argument("--eval-batch", type=int, default=16)
    parser.add_argument("--tune-settings", action="store_true", help="embed, and partial of --tune-count rows by ks")
    parser.add_argument("--tune-count", type=int, default=120)
    parser.add_argument("--held-out", type=int, default=200, help="sentences that settings are measured on")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="bfloat16", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of torch (default: all)")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    study = Study(given)
    study.original()
    if given.tune_settings:
        for steps in given.steps:
            for lr in given.lr:
                setting = Setting(given.seeds[0], steps, given.batch, given.embed_lr or lr, lr)
                print(f"steps {steps}, lr {lr:g}:", flush=True)
                study.compare(setting, ["ks"], [given.tune_count])
        return
    if len(given.steps) > 1 or len(given.lr) > 1:
        sys.exit("one --steps and one --lr, chosen with --tune-settings")
    lr = given.lr[0]
    settings = [Setting(seed, given.steps[0], given.batch, given.embed_lr or lr, lr) for seed in given.seeds]
    for setting in settings:
        study.compare(setting, given.selectors, given.counts)
    study.report(settings, given.selectors, given.counts)


if __name__ == "__main__":
    main()
