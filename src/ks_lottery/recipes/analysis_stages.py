"""Stages of the analyses: what tickets are (table 3), which modules change (figure 6), and whether a test had power."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.monolingual import token_counts
from ks_lottery.recipes.stage import Cost, Made, Stage, made_figures
from ks_lottery.recipes.study_stages import CODE, ROWS_FILE, full_tuning
from ks_lottery.store.run_folder import SCAN_FILE
from ks_lottery.tickets.compare import compare
from ks_lottery.tickets.explain import explain
from ks_lottery.tickets.module_kinds import by_kind
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.span_counts import SPANS_FILE, SpanCounts
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.full import LAYER
from ks_lottery.tuning.scale import scale_of
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ks_lottery.recipes.stage import Work
    from ks_lottery.recipes.study import Study

ALPHA = 0.05
"""Significance level of the analyses."""


def explain_stage(study: Study, embed: Stage, scan: Stage, rows: Stage) -> Stage:
    """Return the stage that explains tickets, as `explain` does: p, ranks by each score, frequency, origin.

    The figures of its cell are those of `Explanation.as_dict` with ``power``, what the test could see (`Scan.power`).
    Frequencies are counted in the target side of the training text.
    """
    what = f"explain {rows.name.partition(': ')[2]}"
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=partial(_explain, study), kind="explain",
        inputs={
            "model": study.model_input, "text": study.train_input, "tuned": embed.name, "scan": scan.name, "rows": rows.name,
        },
        code=CODE["explain"], cost=lambda: Cost(disk=500 * study.reachable),
    )  # fmt: skip


def layer_stage(study: Study, layer: int, seed: int) -> Stage:
    """Return the stage that tunes one layer alone and scans it; the tuned model itself is not saved.

    Its folder has ``scan.parquet``, of all units of the layer, compared in float32.
    """
    what = f"full tuning of layer {layer} alone{study.variant}, seed {seed}"
    training = study.scale.training_of("full")
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=partial(_layer, study, layer, seed),
        train=partial(_train_layer, study, layer, seed), prepare=partial(_make_room, study),
        inputs={"model": study.model_input, "text": study.train_input}, kind="layer", code=CODE["layer"],
        settings={"layer": layer, "seed": seed, **study.prompt, **training},
        cost=lambda: Cost(
            pace="train", tokens=round(sum(len(example) - 1 for example in study.train_examples) * training["epochs"]),
            memory=2 * study.models.processes * study.model_bytes, disk=200 * study.checkpoint.width,
        ),
    )  # fmt: skip


def kinds_stage(study: Study, scan: Stage) -> Stage:
    """Return the stage that summarises a scan by kind of module; the figures of its cell are ``kinds`` (`by_kind`)."""
    what = f"kinds of modules in {scan.name.partition(': ')[2]}"
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=_kinds, inputs={"scan": scan.name},
        kind="kinds", code=CODE["kinds"], settings={"alpha": ALPHA}, cost=lambda: Cost(disk=1000),
    )  # fmt: skip


def power_stage(study: Study, embed: Stage, scan: Stage) -> Stage:
    """Return the stage that compares how far embed tuning moves rows with what the test sees.

    The figures of its cell are those of `Scan.power`, and of the training before it (`ks_lottery.tuning.scale.Scale`):
    ``learning_rate``, ``steps``, ``spread``, ``width`` and ``measurable``.
    """
    what = f"power of {scan.name.partition(': ')[2]}"
    settings = {name: value for name, value in embed.settings.items() if name != "seed"}
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=partial(_power, study), kind="power",
        inputs={"model": study.model_input, "text": study.train_input, "scan": scan.name}, prepare=lambda: study.loaded,
        code=CODE["power"], settings={"alpha": ALPHA, **settings}, cost=lambda: Cost(memory=study.model_bytes, disk=500),
    )  # fmt: skip


def layers_of(study: Study) -> list[int]:
    """Return the numbers of the model's layers, by the names of its tensors."""
    return sorted({int(match[1]) for name in study.checkpoint.tensors if (match := LAYER.search(name))})


def _explain(study: Study, work: Work) -> Made:
    scan, tickets = Scan.open(work.inputs["scan"] / SCAN_FILE), Tickets.open(work.inputs["rows"] / ROWS_FILE)
    figures: dict[str, Any] = {"vocabulary": len(scan), "rows": [], "agreement": {}}
    if len(tickets):
        spans = work.inputs["tuned"] / SPANS_FILE
        figures = explain(
            tickets, scan, frequencies=token_counts(study.tokenizer, (pair.target for pair in study.train)),
            tokens=dict(enumerate(study.tokens)), origins=SpanCounts.open(spans) if spans.is_file() else None,
        ).as_dict()  # fmt: skip
    return made_figures({**figures, "power": scan.power(ALPHA)}, work)


def _make_room(study: Study) -> None:
    if study.models.processes > 1:
        study.models.release()


def _layer(study: Study, layer: int, seed: int, work: Work) -> Made:
    named = map(LAYER.search, study.checkpoint.tensors)
    place = next(match for match in named if match and int(match[1]) == layer)
    tuned: Any = work.trained
    if tuned is None:
        tuned = full_tuning(study, seed, work, str(layer)).product.loaded.lm
    scan = compare(
        study.checkpoint, tuned, units="all", tensors=f"{place.string[: place.end()]}*", alpha=ALPHA, compare_as="float32",
        ignore_tokenizer=True,
    ).scan  # fmt: skip
    scan.save(work.folder / SCAN_FILE)
    return Made(files=[work.folder / SCAN_FILE])


def _train_layer(study: Study, layer: int, seed: int, work: Work) -> Callable[[Path], object]:
    return full_tuning(study, seed, work, str(layer)).save


def _kinds(work: Work) -> Made:
    return made_figures({"kinds": by_kind(Scan.open(work.inputs["scan"] / SCAN_FILE), ALPHA)}, work)


def _power(study: Study, work: Work) -> Made:
    spec = TuneSpec(method="embed", settings=study.scale.training_of("embed"), **study.prompt)
    scale = scale_of(prepare(study.loaded, study.train_examples, spec))
    found = Scan.open(work.inputs["scan"] / SCAN_FILE).power(ALPHA)
    before = {} if scale is None else {
        "learning_rate": scale.learning_rate, "steps": scale.steps, "spread": scale.spread, "width": scale.width,
        "measurable": scale.is_measurable,
    }  # fmt: skip
    return made_figures({**found, **before}, work)
