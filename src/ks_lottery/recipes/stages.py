"""The stages of the main job: each calls the floors below, saves what they return, and says what it left.

Must never compute a thing itself, nor put a time into the log: its bytes are the same in each run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.algorithm import certify_predictions
from ks_lottery.certification.candidates import ORIGINAL, TUNED, patched, predict_candidates, transfers
from ks_lottery.certification.certify import guarantees_of, parted
from ks_lottery.certification.pool import held_out_pool
from ks_lottery.checkpoint.attribution import ATTRIBUTION_FILE, ATTRIBUTIONS, Attribution
from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.corpus.batches import longest
from ks_lottery.corpus.forms import PromptForm
from ks_lottery.corpus.prompts import orders, usual_order
from ks_lottery.errors import UserError
from ks_lottery.evaluation.next_token import Predictions, predict
from ks_lottery.evaluation.scores import score
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.sides import installed_patch
from ks_lottery.store.files import read_json, read_json_lines, write_json, write_json_lines
from ks_lottery.tickets.blocks import scan_sources
from ks_lottery.tickets.tickets import select, select_by_attribution
from ks_lottery.tuning.methods import Choice, rows_of
from ks_lottery.tuning.row_training import train_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ks_lottery.corpus.batches import Example
    from ks_lottery.recipes.job import Job

    Tick = Callable[[int, int], None]

METHODS = ("original", "embed", "partial", "transfer", "random", "occurrence", "lca", "gradient")
"""What a run compares, in the order of its table."""


@dataclass(frozen=True)
class Left:
    """What a stage left: files, lines for the log, and whether the screen shows those lines too."""

    files: list[Path]
    log: list[str]
    shown: bool = False


def _text(job: Job, tick: Tick) -> Left:
    files: list[Path] = []
    for part in ("train", "calibration", "test"):
        file = job.path / "text" / f"{part}.jsonl"
        getattr(job.split, part).save(file)
        files.append(file)
    parts: dict[str, list[Example]] = {"train": job.train, "test": job.test}
    overlong = {name: len(getattr(job.split, name)) - len(kept) for name, kept in parts.items()}
    for name, kept in parts.items():
        if not kept:
            limit = job.config.text.max_tokens
            raise UserError(f"no {name} example fits into {limit} tokens: raise text.max_tokens")
    report: dict[str, Any] = {**job.report, "overlong": overlong, "instruction": usual_order(job.split.train)}
    write_json(job.path / "text" / "report.json", report)
    tick(1, 1)
    return Left(
        [*files, job.path / "text" / "report.json"],
        [
            report["sentence"],
            *([f"left out in reading: {report['left_out']}"] if report["left_out"] else []),
            f"train {len(job.train)}, calibration {len(job.split.calibration)}, test {len(job.test)} pairs; "
            f"left out as too long: train {overlong['train']}, test {overlong['test']}{_advice(job, overlong)}",
        ],
        shown=True,
    )


def _advice(job: Job, overlong: dict[str, int]) -> str:
    """Say what would keep the examples that are too long."""
    if not any(overlong.values()):
        return ""
    text = job.config.text
    need = max(longest(job.loaded.tokenizer, getattr(job.split, name), template=text.template) for name in overlong)
    return f" (over {text.max_tokens} tokens; text.max_tokens {need} keeps them all)"


def _tune(job: Job, method: str, tick: Tick) -> Left:
    tickets = None if method == "embed" else job.tickets
    size = 0 if tickets is None else len(tickets)
    if method in ATTRIBUTIONS:
        chosen = select_by_attribution(Attribution.open(job.path / "embed"), method, size)
    else:
        # A run's random rows are drawn from those that the text reaches, the fair rival.
        rows_method = "random-reachable" if method == "random" else method
        chosen = rows_of(rows_method, Choice(job.loaded, job.train, tickets, size, job.config.seed))
    trained = train_rows(
        job.loaded,
        job.train,
        chosen.ids,
        config=job.config.train,
        seed=job.config.seed,
        method=method,
        tick=tick,
    )
    folder = job.path / method
    trained.patch.save(folder)
    chosen.save(folder / "rows.json", job.tokens)
    losses = [{"step": step, "loss": loss} for step, loss in trained.losses]
    write_json(folder / "training.json", {"rows": len(chosen), "losses": losses})
    ends = f"; loss {losses[0]['loss']:.3f} at first, {losses[-1]['loss']:.3f} at last" if losses else ""
    recorded = () if trained.patch.attribution is None else (ATTRIBUTION_FILE,)
    files = [folder / name for name in (PATCH_FILE, *recorded, "rows.json", "training.json")]
    return Left(files, [f"{len(chosen):,} rows trained{ends}"], shown=True)


def _scan(job: Job, tick: Tick) -> Left:
    alpha = job.config.select.alpha
    found = scan_sources(job.checkpoint, job.patch("embed"))
    found.save(job.path / "scan.parquet", job.tokens)
    tickets = select(found, alpha=alpha)
    tickets.save(job.path / "tickets.json", job.tokens)
    transfer = job.patch("embed").restrict(tickets.ids)
    transfer.save(job.path / "transfer")
    tick(1, 1)
    power = found.power(alpha)
    files = [job.path / name for name in ("scan.parquet", "tickets.json", f"transfer/{PATCH_FILE}")]
    return Left(
        files,
        [
            f"{power['rows_moved']:,} rows moved, {len(tickets):,} tickets at alpha {alpha:g}; critical D "
            f"{power['critical_statistic']:.4f}, largest D {power['largest_statistic']:.4f}, "
            f"largest move {power['largest_spread']:.3f} of a row's spread"
        ],
        shown=True,
    )


def _measure(job: Job, tick: Tick) -> Left:
    seen: dict[str, Predictions] = {}
    log: list[str] = []
    files: list[Path] = []
    model = LabelledLanguageModel(job.loaded.lm, share_prefix=job.config.train.share_prefix)
    for number, method in enumerate(METHODS):
        patch = _patch_of(job, method)
        if patch.content not in seen:
            made = {"base": job.checkpoint.fingerprint, "patch": patch.content}
            with installed_patch(job.loaded.lm, patch):
                seen[patch.content] = predict(
                    model,
                    job.test,
                    batch_size=job.config.evaluate.batch_size,
                    made_from=made,
                    tick=lambda done, total, n=number: tick(n * total + done, len(METHODS) * total),
                )
        found = seen[patch.content]
        files.append(job.path / "predictions" / f"{method}.parquet")
        found.save(files[-1])
        log.append(f"{method} accuracy {found.accuracy:.4f}, loss {found.loss:.4f} on {len(found)} positions")
    return Left(files, log)


def _translate(job: Job, tick: Tick) -> Left:
    settings, text = job.config.evaluate, job.config.text
    pairs = job.split.test.pairs[: settings.translations]
    form = PromptForm(job.loaded.tokenizer, text.template)
    prompts = form.prompts(orders(job.split.test)[: len(pairs)], [pair.source for pair in pairs])
    done: dict[str, list[str]] = {}
    files: list[Path] = []
    for number, method in enumerate(METHODS):
        patch = _patch_of(job, method)
        if patch.content not in done:
            with installed_patch(job.loaded.lm, patch):
                done[patch.content] = translate(
                    job.loaded.lm,
                    form,
                    prompts,
                    num_beams=settings.num_beams,
                    max_new_tokens=settings.max_new_tokens,
                    batch_size=settings.batch_size,
                    tick=lambda d, total, n=number: tick(n * total + d, len(METHODS) * total),
                )
        files.append(job.path / "hypotheses" / f"{method}.jsonl")
        rows = [
            {"source": pair.source, "reference": pair.target, "hypothesis": hypothesis}
            for pair, hypothesis in zip(pairs, done[patch.content], strict=True)
        ]
        write_json_lines(files[-1], rows)
    return Left(files, [f"{len(pairs)} sentences, {settings.num_beams} beams"])


def _certify(job: Job, tick: Tick) -> Left:
    settings, found, tuned = job.config.certify, job.scan, job.patch("embed")
    small = {
        "transfer": transfers(tuned, found, settings.alphas),
        "partial": [patched(job.patch("partial"), "partial", job.tickets)],
    }
    examples = [example.cut(settings.positions) for example in (*job.test, *job.calibration)]
    every = [candidate for candidates in small.values() for candidate in candidates]
    shared = predict_candidates(
        job.loaded,
        tuned,
        every,
        examples,
        batch_size=job.config.evaluate.batch_size,
        share_prefix=job.config.train.share_prefix,
        tick=tick,
    )
    parts = {name: parted(predictions, len(job.test)) for name, predictions in shared.predictions.items()}
    answers, held = ({name: part[side] for name, part in parts.items()} for side in (0, 1))
    pool = held_out_pool(job.split, job.report)
    files: list[Path] = []
    log: list[str] = []
    for name, candidates in small.items():
        smalls = [candidate.answered(answers[candidate.name]) for candidate in candidates]
        certificate = certify_predictions(answers[ORIGINAL], answers[TUNED], smalls, found, config=settings, name=name)
        bounds = guarantees_of(candidates, held, pool, delta=settings.delta) if job.calibration else []
        certificate = replace(certificate, guarantees=bounds)
        files += certificate.save(job.path / "certificate", name)
        for level in certificate.levels:
            bound = level.bounds[settings.tau]
            audit = bound.rules["theorem"]
            log.append(
                f"{name} at alpha {level.alpha:g}: tau {bound.tau:.4f}, certified {audit.accuracy:.4f}, "
                f"{audit.violations} of {audit.positions} certified positions answered differently"
            )
    return Left(files, log)


def _summary(job: Job, tick: Tick) -> Left:
    settings, seed = job.config.evaluate, job.config.seed
    methods: dict[str, Any] = {}
    for method in METHODS:
        found = job.predictions(method)
        lines = read_json_lines(job.path / "hypotheses" / f"{method}.jsonl")
        hypotheses, references = ([line[side] for line in lines] for side in ("hypothesis", "reference"))
        scores = score(hypotheses, references, metrics=("bleu", "chrf"), resamples=0)
        file = job.path / method / PATCH_FILE
        methods[method] = {
            "accuracy": found.accuracy,
            "interval": found.interval(confidence=settings.confidence, resamples=settings.resamples, seed=seed),
            "loss": found.loss,
            "chrf": scores["chrf"].score,
            "bleu": scores["bleu"].score,
            "signatures": {name: metric.signature for name, metric in scores.metrics.items()},
            "trained_parameters": _patch_of(job, method).parameters,
            "bytes": file.stat().st_size if file.is_file() else 0,
        }
    certificates = {
        name: {k: v for k, v in read_json(job.path / "certificate" / f"{name}.json").items() if k not in _ABOUT}
        for name in ("transfer", "partial")
    }
    summary = {
        "model": {**job.checkpoint.describe(), "dtype": str(job.loaded.lm.dtype).removeprefix("torch.")},
        "text": {
            "source_language": job.config.text.source_language,
            "target_language": job.config.text.target_language,
            "train": len(job.train),
            "calibration": len(job.split.calibration),
            "test": len(job.test),
        },
        "confidence": settings.confidence,
        "positions": len(job.predictions("original")),
        "translations": min(settings.translations, len(job.split.test)),
        "methods": methods,
        "scan": job.scan.power(job.config.select.alpha),
        "tickets": read_json(job.path / "tickets.json", "tickets")["rows"],
        "certificate": certificates,
    }
    write_json(job.path / "summary.json", summary)
    tick(1, 1)
    return Left([job.path / "summary.json"], [])


_ABOUT = ("kind", "format", "made_from", "settings", "versions")


def _patch_of(job: Job, method: str) -> RowPatch:
    if method != "original":
        return job.patch(method)
    empty = job.patch("embed").ids[:0]
    return job.patch("embed").restrict(empty)


STAGES: dict[str, tuple[str, Callable[[Job, Tick], Left]]] = {
    "text": ("read, clean and split the text", _text),
    "embed": ("embed tuning: every row that the text reaches", lambda job, tick: _tune(job, "embed", tick)),
    "scan": ("scan before against after, select tickets, transfer", _scan),
    "partial": ("partial tuning: the tickets alone", lambda job, tick: _tune(job, "partial", tick)),
    "random": ("for comparison: as many random rows", lambda job, tick: _tune(job, "random", tick)),
    "occurrence": (
        "for comparison: as many rows that occur most",
        lambda job, tick: _tune(job, "occurrence", tick),
    ),
    "lca": ("for comparison: as many rows that lowered the loss most", lambda job, tick: _tune(job, "lca", tick)),
    "gradient": ("for comparison: as many rows of largest gradient", lambda job, tick: _tune(job, "gradient", tick)),
    "measure": ("next-token accuracy and loss", _measure),
    "translate": ("translations", _translate),
    "certify": ("certificate", _certify),
    "summary": ("summary", _summary),
}
"""Stages of a run in their order: name to title and work."""
