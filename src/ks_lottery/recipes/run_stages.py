"""The stages of the main job: each calls the public function of the floor below, saves its result and logs it."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.calibration import CALIBRATION_FOLDER
from ks_lottery.certification.certify import certify_with
from ks_lottery.certification.pool import held_out_pool
from ks_lottery.certification.spec import CertifySpec
from ks_lottery.checkpoint.attribution import ATTRIBUTION_FILE
from ks_lottery.checkpoint.patch import PATCH_FILE
from ks_lottery.corpus.batches import longest
from ks_lottery.corpus.prompts import usual_order
from ks_lottery.errors import UserError
from ks_lottery.recipes.measurements import evaluate_methods, measure_where
from ks_lottery.recipes.method_names import DRAWS
from ks_lottery.recipes.rivals import RECORDED, compared_methods, rival_methods, rival_rows
from ks_lottery.recipes.stage import Made, Recipe, Stage
from ks_lottery.recipes.summary import summarize
from ks_lottery.store.files import write_json
from ks_lottery.store.manifest import digest_json
from ks_lottery.store.run_folder import CALIBRATION, EMBED, TEST
from ks_lottery.tickets.compare import scan
from ks_lottery.tickets.select import select
from ks_lottery.tuning.transfer import transfer
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ks_lottery.config.settings import RunConfig
    from ks_lottery.recipes.job import Job
    from ks_lottery.recipes.stage import Tick, Work

TRAIN = "train"

TITLES = {
    "gradient-sum": "for comparison: as many rows by one pass at the original model, without embed tuning",
    "occurrence": "for comparison: as many rows that occur most",
    "lca": "for comparison: as many rows that lowered the loss most",
    "gradient": "for comparison: as many rows of largest gradient while tuning",
    **{method: f"for comparison: as many random rows, draw {n + 1} of {len(DRAWS)}" for n, method in enumerate(DRAWS)},
}
"""What the screen calls the training of a rival's rows."""


def main_recipe(job: Job) -> Recipe:
    """Return the main job as a recipe."""
    settings = {name: asdict(section) for name, section in _sections(job.config).items()}
    seed = {"seed": job.config.seed}
    training = {**settings["model"], **settings["text"], **settings["train"], **seed}
    measuring = {**settings["model"], **settings["text"], **settings["evaluate"], **seed}

    rivals = rival_methods(job.config)

    def tuning(method: str, title: str, *inputs: str) -> Stage:
        make = partial(_tune, job, method)
        return Stage(name=method, title=title, make=make, inputs=("text", *inputs), settings=training)

    return Recipe(
        inputs={
            "model": job.checkpoint.fingerprint, "corpus": job.report["fingerprint"], "general": digest_json(job.general),
        },
        stages=(
            text_stage(job),
            tuning(EMBED, "embed tuning: every row that the text reaches"),
            Stage(
                name="scan", title="scan before against after, select tickets, transfer", make=partial(_scan, job),
                inputs=("model", EMBED), settings=settings["select"],
            ),
            tuning("partial", "partial tuning: the tickets alone", "scan"),
            *(tuning(name, TITLES[name], "scan", *([EMBED] if name in RECORDED else ["model"])) for name in rivals),
            Stage(
                name="evaluate", title="accuracy, translations, forgetting", make=partial(evaluate_methods, job),
                inputs=("text", "scan", EMBED, "partial", *rivals, "general"), settings=measuring,
            ),
            Stage(
                name="where", title="where the tickets act: instruction, source or target", make=partial(measure_where, job),
                inputs=("text", "scan", "partial"), settings=measuring,
            ),
            Stage(
                name="certify", title="certificate", make=partial(_certify, job),
                inputs=("text", "scan", EMBED, "partial"), settings={**measuring, **settings["certify"]},
            ),
            Stage(
                name="summary", title="summary", make=partial(_summary, job),
                inputs=("evaluate", "where", "certify", "scan"), settings=settings,
            ),
        ),
    )  # fmt: skip


def text_stage(job: Job) -> Stage:
    """Return the stage that every job begins with: its text, read, cleaned and split."""
    return Stage(
        name="text", title="read, clean and split the text", make=partial(_text, job),
        inputs=("model", "corpus"), settings=asdict(job.config.text),
    )  # fmt: skip


def _sections(config: RunConfig) -> dict[str, Any]:
    names = ("model", "text", "train", "select", "certify", "evaluate")
    return {name: getattr(config, name) for name in names}


def _text(job: Job, tick: Tick) -> Made:
    files: list[Path] = []
    for part in (TRAIN, CALIBRATION, TEST):
        files.append(job.folder.text(part))
        getattr(job.split, part).save(files[-1])
    examples = {TRAIN: job.train, TEST: job.test}
    overlong = {part: len(getattr(job.split, part)) - len(fitting) for part, fitting in examples.items()}
    for part, fitting in examples.items():
        if not fitting:
            limit = job.config.text.max_tokens
            raise UserError(f"no {part} example fits into {limit} tokens: raise text.max_tokens")
    report: dict[str, Any] = {**job.report, "overlong": overlong, "instruction": usual_order(job.split.train)}
    write_json(job.folder.text_report, report)
    tick(1, 1)
    return Made(
        files=[*files, job.folder.text_report],
        log=[
            report["sentence"],
            *([report["columns"]] if report["columns"] else []),
            *([f"left out in reading: {report['left_out']}"] if report["left_out"] else []),
            f"train {len(job.train)}, calibration {len(job.split.calibration)}, test {len(job.test)} {job.split.test.unit}; "
            f"left out as too long: train {overlong[TRAIN]}, test {overlong[TEST]}{_advice(job, overlong)}",
        ],
        shown=True,
    )


def _advice(job: Job, overlong: Mapping[str, int]) -> str:
    """Say which limit would keep the examples that are too long."""
    if not any(overlong.values()):
        return ""
    text = job.config.text
    need = max(longest(job.loaded.tokenizer, getattr(job.split, part), template=text.template) for part in overlong)
    return f" (over {text.max_tokens} tokens; text.max_tokens {need} keeps them all)"


def _tune(job: Job, method: str, work: Work) -> Made:
    text = job.config.text
    spec = TuneSpec(
        method=EMBED if method == EMBED else "partial",
        tickets=None if method == EMBED else job.tickets if method == "partial" else rival_rows(job, method, work),
        template=text.template,
        max_tokens=text.max_tokens,
        seed=job.config.seed,
        settings=asdict(job.config.train),
        folder=work.unfinished,
    )
    result = prepare(job.loaded, job.train, spec).run(tick=work)
    folder = job.folder.method(method)
    result.save(folder, tokens=job.tokens)
    recorded = [folder / ATTRIBUTION_FILE] if result.product.attribution is not None else []
    files = [folder / PATCH_FILE, *recorded, job.folder.rows(method), job.folder.training(method)]
    return Made(files=files, log=[f"{len(result.product):,} rows trained{result.losses_said}"], shown=True)


def _scan(job: Job, tick: Tick) -> Made:
    alpha = job.config.select.alpha
    embed = job.patch(EMBED)
    result = scan(job.checkpoint, embed, alpha=alpha)
    result.save(job.folder.scan, job.tokens, job.kinds)
    tickets = select(result, alpha=alpha, allow_empty=True)  # a run says what to change, and measures the rest
    tickets.save(job.folder.tickets, job.tokens)
    folder = job.folder.method("transfer")
    transfer(job.checkpoint, embed, tickets, allow_empty=True).save(folder)
    tick(1, 1)
    power = result.power(alpha)
    return Made(
        files=[job.folder.scan, job.folder.tickets, folder / PATCH_FILE],
        log=[
            f"{power['rows_moved']:,} rows moved, {len(tickets):,} tickets at alpha {alpha:g}; critical D "
            f"{power['critical_statistic']:.4f}, largest D {power['largest_statistic']:.4f}, "
            f"largest move {power['largest_spread']:.3f} of a row's spread"
        ],
        shown=True,
    )


def _certify(job: Job, tick: Tick) -> Made:
    settings, text = job.config.certify, job.config.text
    spec = CertifySpec(
        small={"partial": job.patch("partial")},
        transfer=True,
        config=settings,
        calibration=job.split.calibration if job.calibration else None,
        pool=held_out_pool(job.split, job.report),
        rest=job.split.uncut,
        split_seed=text.split_seed,
        template=text.template,
        max_tokens=text.max_tokens,
        batch_size=job.config.evaluate.batch_size,
        share_prefix=job.config.train.share_prefix,
    )
    certified = certify_with(spec, job.loaded, job.patch(EMBED), job.scan, job.split.test, tick=tick)
    calibration = certified.calibration
    files = [] if calibration is None else calibration.save(job.folder.certificates / CALIBRATION_FOLDER)
    log: list[str] = []
    for name, certificate in certified.certificates.items():
        certificate.save(job.folder.certificates, name)
        files += certificate.files(job.folder.certificates, name)
        for level in certificate.levels:
            bound = level.bounds[settings.tau]
            audit = bound.rules["theorem"]
            at = "" if level.alpha is None else f" at alpha {level.alpha:g}"
            log.append(
                f"{name}{at}: tau {bound.tau:.4f}, certified {audit.accuracy:.4f}, "
                f"{audit.violations} of {audit.positions} certified positions answered differently"
            )
    return Made(files=files, log=log)


def _summary(job: Job, tick: Tick) -> Made:
    write_json(job.folder.summary, summarize(job, compared_methods(job.config)))
    tick(1, 1)
    return Made(files=[job.folder.summary])
