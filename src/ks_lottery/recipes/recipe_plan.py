"""What a recipe would cost: its stages, what is there already, tokens, memory, disk, and time at measured speed."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ks_lottery.recipes.schedule import makespan
from ks_lottery.recipes.stage import Cost
from ks_lottery.report.forms import duration, size
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ks_lottery.recipes.prepared_recipe import PreparedRecipe
    from ks_lottery.recipes.stored import StoredRecipe
    from ks_lottery.recipes.study import Study

MOST = 40
"""Stages that a dry run shows one by one."""

Paces = dict[tuple[str, str], float]
"""Digest of a model and kind of computing to input tokens a second."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage before it is made.

    Parameters
    ----------
    state
        ``in cells`` (only finished cells need it), ``in the store``, or ``to make``.
    seconds
        Time at measured speed; None where nothing was measured. Stages without a model take None and count as nothing.
    name, sources
        Its name, and those of the stages that it reads.
    """

    title: str
    state: str
    cost: Cost
    seconds: float | None
    name: str = ""
    sources: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """What a recipe would cost.

    Parameters
    ----------
    stages
        Its stages, in order.
    cells, finished
        Number of cells, and of those that are done.
    free
        Bytes that are free where the store is; None where that is not known.
    measured
        Where the speed comes from, for people.
    workers
        Processes that make stages at the same time.
    """

    stages: Sequence[PlannedStage]
    cells: int
    finished: int
    free: int | None
    measured: str
    workers: int = 1

    @property
    def missing(self) -> list[PlannedStage]:
        """Stages that are to be made."""
        return [stage for stage in self.stages if stage.state == "to make"]

    @property
    def seconds(self) -> float | None:
        """Time in all, of the workers at the same time; None where the speed of a stage with a model was never measured."""
        if any(stage.seconds is None for stage in self.missing if stage.cost.tokens):
            return None
        needs = {stage.name: stage.sources for stage in self.missing}
        missing = {name: [source for source in sources if source in needs] for name, sources in needs.items()}
        return makespan(missing, {stage.name: stage.seconds or 0.0 for stage in self.missing}, self.workers)

    def sections(self) -> list[Section]:
        """Return what a dry run prints."""
        columns = [
            Column(title="stage"), Column(title="state"), Column(title="tokens", form="integer"),
            Column(title="memory", form="bytes"), Column(title="disk", form="bytes"), Column(title="time", form="duration"),
        ]  # fmt: skip
        rows = [
            [
                stage.title, stage.state, stage.cost.tokens or None, stage.cost.memory or None, stage.cost.disk or None,
                stage.seconds if stage.state == "to make" else None,
            ]
            for stage in self.stages[:MOST]
        ]  # fmt: skip
        more = len(self.stages) - len(rows)
        return [
            Section(
                columns=columns, rows=rows, sentences=[*([f"... and {more:,} more"] if more else []), *self._sums()]
            )
        ]

    def _sums(self) -> list[str]:
        missing = self.missing
        tokens, disk = (sum(getattr(stage.cost, name) for stage in missing) for name in ("tokens", "disk"))
        memory = max((stage.cost.memory for stage in missing), default=0)
        if not missing:
            return [f"{self.finished:,} of {self.cells:,} cells are done: nothing is computed"]
        timed, of_workers = self.seconds, f", with {self.workers:,} workers" if self.workers > 1 else ""
        time_said = (
            f"time (an estimate, from {self.measured}{of_workers}): {duration(timed)}" if timed is not None
            else "time: nothing was measured yet with this model here; a dry run with `measure` measures two steps"
        )  # fmt: skip
        free = "" if self.free is None else f"; {size(self.free)} are free"
        return [
            f"{self.finished:,} of {self.cells:,} cells are done; {len(missing):,} of {len(self.stages):,} stages are to make",
            f"tokens: {tokens:,}",
            f"memory (an estimate, without what a batch keeps): {size(memory)}",
            f"disk (an estimate): {size(disk)} more{free}",
            time_said,
        ]


def plan_recipe(prepared: PreparedRecipe, *, measure: bool = False, workers: int = 1) -> RecipePlan:
    """Return what a recipe would cost; nothing is made.

    Parameters
    ----------
    measure
        Measure two training steps and one batch of predictions of each model whose speed the store does not tell.
    workers
        Processes that make stages at the same time.
    """
    stored = prepared.stored
    states, finished = _states(stored)
    models = {study.model_input: stored.recipe.inputs[study.model_input] for study in prepared.studies}
    paces, measured = _measured_before(stored), "earlier stages with this model"
    if measure:
        by_model = {study.model_input: study for study in prepared.studies}
        for study in by_model.values():
            if (models[study.model_input], "train") not in paces:
                paces |= {(models[study.model_input], pace): speed for pace, speed in _measure(study).items()}
                measured = "two measured steps"
    stages: list[PlannedStage] = []
    for stage in stored.recipe.stages:
        cost = stage.cost() if stage.cost is not None else Cost()
        model = next((models[name] for name in stage.roles.values() if name in models), "")
        pace = paces.get((model, cost.pace))
        seconds = cost.tokens / pace if pace and cost.tokens else None
        planned = PlannedStage(
            title=stage.title, state=states[stage.name], cost=cost, seconds=seconds, name=stage.name,
            sources=stored.recipe.sources(stage.name),
        )  # fmt: skip
        stages.append(planned)
    return RecipePlan(
        stages=stages,
        cells=sum(stored.present()),
        finished=finished,
        free=_free(stored.store.root),
        measured=measured,
        workers=workers,
    )


def _states(stored: StoredRecipe) -> tuple[dict[str, str], int]:
    """Return the state of each stage, and the number of finished cells.

    Whether a later stage is in the store is known only where all that it needs is: its key has the content of its inputs.
    """
    recipe = stored.recipe
    done = [stored.cells.read(key) is not None for key in stored.cell_keys()]
    needed = {cell.stage for cell, is_done in zip(recipe.cells, done, strict=True) if not (is_done or cell.needs)}
    digests, there = dict(recipe.inputs), set[str]()
    for stage in recipe.stages:
        if all(name in digests for name in stage.roles.values()):
            found = stored.store.whole(stage.key(digests, stored.conditions))
            if found is not None:
                digests[stage.name] = found.digest
                there.add(stage.name)
    for stage in reversed(recipe.stages):
        if stage.name in needed and stage.name not in there:
            needed |= {name for name in stage.roles.values() if name not in recipe.inputs}
    states = {
        stage.name: "in the store" if stage.name in there else "to make" if stage.name in needed else "in cells"
        for stage in recipe.stages
    }
    return states, sum(done)


def _measured_before(stored: StoredRecipe) -> Paces:
    """Return the speed of earlier stages under the same conditions, tokens of all of them over their seconds."""
    sums: dict[tuple[str, str], tuple[int, float]] = {}
    alone = {name: value for name, value in stored.conditions.items() if name != "processes"}
    under = (alone, dict(stored.conditions))  # of a stage that does not train, and of one that does
    for stage in stored.store.stages()[0]:
        about = stage.about
        model: Mapping[str, str] = about["inputs"].get("model", {})
        if (
            about["tokens"] > 0
            and about["seconds"] > 0
            and model
            and about["conditions"] == under[about["pace"] == "train"]
        ):
            place = model["digest"], about["pace"]
            tokens, seconds = sums.get(place, (0, 0.0))
            sums[place] = tokens + about["tokens"], seconds + about["seconds"]
    return {place: tokens / seconds for place, (tokens, seconds) in sums.items()}


def _measure(study: Study) -> dict[str, float]:
    """Measure two steps of embed tuning, as `tune --dry-run` does, and the predictions of one batch."""
    from ks_lottery.evaluation.next_token import predict
    from ks_lottery.models.language_model import LabelledLanguageModel
    from ks_lottery.tuning.tune import prepare
    from ks_lottery.tuning.tune_spec import TuneSpec

    spec = TuneSpec(method="embed", settings=study.scale.training_of("embed"), **study.prompt)
    plan = prepare(study.loaded, study.train_examples, spec).plan()
    train = plan.tokens * study.scale.training.epochs / max(plan.seconds, 1e-9)
    batch = study.test_examples[:8]
    start = time.perf_counter()
    predict(LabelledLanguageModel(study.loaded.lm), batch, batch_size=len(batch))
    seconds = max(time.perf_counter() - start, 1e-9)
    return {"train": train, "gradient": train, "predict": sum(len(example) - 1 for example in batch) / seconds}


def _free(root: Path) -> int | None:
    there = next((path for path in (root, *root.parents) if path.exists()), None)
    return None if there is None else shutil.disk_usage(there).free
