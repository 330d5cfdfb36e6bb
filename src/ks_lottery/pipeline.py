"""The main job: config in, Run folder out, stage by stage; the same command goes on where an earlier one stopped.

Must never compute a thing itself: each stage calls the floor below and saves what it returns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ks_lottery.artifacts import read_json, read_json_lines, write_error, write_json, write_json_lines
from ks_lottery.certification.certify import Certificate, certify, transfer_predictions
from ks_lottery.checkpoint.patch import PATCH_FILE, RowPatch
from ks_lottery.corpus.batches import Example, encode
from ks_lottery.corpus.prompts import instruction, render_prompt
from ks_lottery.errors import UserError
from ks_lottery.evaluation.next_token import Predictions, predict
from ks_lottery.evaluation.scores import score
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import LoadedModel, load_model, load_tokenizer, open_checkpoint
from ks_lottery.models.rows import installed_rows
from ks_lottery.models.tokens import token_strings
from ks_lottery.run_folder import LOCK, RunFolder
from ks_lottery.scanning import Scan, scan
from ks_lottery.text import load_text
from ks_lottery.tickets import Tickets, select
from ks_lottery.tuning.methods import Choice, rows_of
from ks_lottery.tuning.train import train_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config import RunConfig
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.corpus.selection import Split
    from ks_lottery.report.screen import Screen

    Tick = Callable[[int, int], None]

METHODS = ("original", "embed", "partial", "transfer", "random", "occurrence")
"""What a run compares, in the order of its table."""


@dataclass(frozen=True)
class Job:
    """One run in progress: its config and folder, and the inputs that are the same for all stages."""

    config: RunConfig
    folder: RunFolder
    checkpoint: Checkpoint
    split: Split
    report: dict[str, Any]

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @cached_property
    def loaded(self) -> LoadedModel:
        """The original model; loaded when the first stage asks for it."""
        model = self.config.model
        return load_model(
            self.checkpoint, dtype=model.dtype, device=model.device, trust_remote_code=model.trust_remote_code
        )

    @cached_property
    def tokens(self) -> list[str]:
        """Each row's token, safe to print."""
        return token_strings(self.loaded.tokenizer, self.checkpoint.vocabulary)

    def examples(self, corpus: Corpus) -> list[Example]:
        """Tokenize a split as the config says."""
        text = self.config.text
        return encode(self.loaded.tokenizer, corpus, template=text.template, max_tokens=text.max_tokens)[0]

    @cached_property
    def train(self) -> list[Example]:
        """Training examples."""
        return self.examples(self.split.train)

    @cached_property
    def test(self) -> list[Example]:
        """Examples that everything is measured on."""
        return self.examples(self.split.test)

    def patch(self, method: str) -> RowPatch:
        """Return the saved patch of a method."""
        return RowPatch.open(self.path / method)

    @property
    def scan(self) -> Scan:
        """The saved scan."""
        return Scan.open(self.path / "scan.parquet")

    @property
    def tickets(self) -> Tickets:
        """The saved tickets."""
        return Tickets.open(self.path / "tickets.json")

    def predictions(self, method: str) -> Predictions:
        """Return the saved predictions of a method."""
        return Predictions.open(self.path / "predictions" / f"{method}.parquet")


@dataclass(frozen=True)
class Left:
    """What a stage left: files, and lines for the log (no times: the log's bytes are the same in each run)."""

    files: list[Path]
    log: list[str]


def prepare(config: RunConfig, folder: RunFolder) -> Job:
    """Open model and text and check them, before anything is written.

    Raises
    ------
    UserError
        For whatever is wrong with them.
    """
    folder.check(config)
    checkpoint = open_checkpoint(config.model.name)
    _ = checkpoint.embedding
    split, report = load_text(config.text)
    load_tokenizer(checkpoint, trust_remote_code=config.model.trust_remote_code)
    render_prompt(config.text.template, "", "")
    return Job(config, folder, checkpoint, split, report)


def run(config: RunConfig, path: Path, screen: Screen) -> dict[str, Any]:
    """Do the main job, or what is left of it, and return its summary.

    Parameters
    ----------
    path
        Folder of the run; made by an earlier call with the same config, or new.
    screen
        Where progress is shown.

    Raises
    ------
    UserError
        For bad input, a folder of another config, a full disk, or when another process works in the folder.
    """
    from filelock import FileLock, Timeout

    folder = RunFolder(path)
    screen.total = len(STAGES) + 1
    with screen.stage("open model and text"):
        job = prepare(config, folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process works in {path}: wait for it, or give another --out") from error
    except OSError as error:
        raise write_error(path, error) from error
    with lock:
        folder.check(config)
        folder.claim(config, {"model": job.checkpoint.fingerprint, "text": job.report["fingerprint"]})
        order = list(STAGES)
        again = False
        for name, (title, work) in STAGES.items():
            if not again and folder.is_done(name):
                screen.skipped(title)
                continue
            if not again:
                again = True
                folder.forget(order[order.index(name) :])
            start = time.perf_counter()
            with screen.stage(title) as tick:
                left = work(job, tick)
            folder.finish(name, left.files, left.log, order)
            folder.time(name, time.perf_counter() - start)
    return read_json(path / "summary.json")


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
    report: dict[str, Any] = {**job.report, "overlong": overlong}
    write_json(job.path / "text" / "report.json", report)
    tick(1, 1)
    return Left(
        [*files, job.path / "text" / "report.json"],
        [
            report["sentence"],
            f"train {len(job.train)}, calibration {len(job.split.calibration)}, test {len(job.test)} pairs; "
            f"left out as too long: train {overlong['train']}, test {overlong['test']}",
        ],
    )


def _tune(job: Job, method: str, tick: Tick) -> Left:
    tickets = None if method == "embed" else job.tickets
    size = 0 if tickets is None else len(tickets)
    chosen = rows_of(method, Choice(job.loaded, job.train, tickets, size, job.config.seed))
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
    files = [folder / name for name in (PATCH_FILE, "rows.json", "training.json")]
    return Left(files, [f"{len(chosen)} rows trained{ends}"])


def _scan(job: Job, tick: Tick) -> Left:
    alpha = job.config.select.alpha
    found = scan(job.checkpoint, job.patch("embed"))
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
            f"{power['rows_moved']} rows moved, {len(tickets)} tickets at alpha {alpha:g}; critical D "
            f"{power['critical_statistic']:.4f}, largest D {power['largest_statistic']:.4f}, "
            f"largest move {power['largest_spread']:.3f} of a row's spread"
        ],
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
            with installed_rows(job.loaded.lm, patch.ids, patch.values):
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
    order = instruction(text.source_language, text.target_language)
    prompts = [render_prompt(text.template, order, pair.source) for pair in pairs]
    done: dict[str, list[str]] = {}
    files: list[Path] = []
    for number, method in enumerate(METHODS):
        patch = _patch_of(job, method)
        if patch.content not in done:
            with installed_rows(job.loaded.lm, patch.ids, patch.values):
                done[patch.content] = translate(
                    job.loaded.lm,
                    job.loaded.tokenizer,
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
    settings, found = job.config.certify, job.scan
    original, tuned = job.predictions("original"), job.predictions("embed")
    known = {_patch_of(job, method).content: job.predictions(method) for method in METHODS}
    small = transfer_predictions(
        job.loaded,
        job.patch("embed"),
        found,
        job.test,
        alphas=settings.alphas,
        known=known,
        batch_size=job.config.evaluate.batch_size,
        share_prefix=job.config.train.share_prefix,
        tick=tick,
    )
    certificates: list[Certificate] = [certify(original, tuned, small, found, config=settings, name="transfer")]
    partial = [(job.config.select.alpha, job.predictions("partial"))]
    certificates.append(certify(original, tuned, partial, found, config=settings, name="partial"))
    files: list[Path] = []
    log: list[str] = []
    for certificate in certificates:
        certificate.save(job.path / "certificate", certificate.small)
        files += [job.path / "certificate" / f"{certificate.small}.{end}" for end in ("json", "parquet")]
        for level in certificate.levels:
            rule = level.rules["theorem"]
            log.append(
                f"{certificate.small} at alpha {level.alpha:g}: tau {level.tau:.4f}, certified {rule.accuracy:.4f}, "
                f"{rule.violations} of {rule.positions} certified positions answered differently"
            )
    return Left(files, log)


def _summary(job: Job, tick: Tick) -> Left:
    settings, seed = job.config.evaluate, job.config.seed
    methods: dict[str, Any] = {}
    for method in METHODS:
        found = job.predictions(method)
        lines = read_json_lines(job.path / "hypotheses" / f"{method}.jsonl")
        scores = score([line["hypothesis"] for line in lines], [line["reference"] for line in lines])
        file = job.path / method / PATCH_FILE
        methods[method] = {
            "accuracy": found.accuracy,
            "interval": found.interval(confidence=settings.confidence, resamples=settings.resamples, seed=seed),
            "loss": found.loss,
            "chrf": scores["chrf"]["score"],
            "bleu": scores["bleu"]["score"],
            "signatures": {name: value["signature"] for name, value in scores.items()},
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
    "measure": ("next-token accuracy and loss", _measure),
    "translate": ("translations", _translate),
    "certify": ("certificate", _certify),
    "summary": ("summary", _summary),
}
"""Stages of a run in their order: name to title and work."""
