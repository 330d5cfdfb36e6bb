"""What a run compares with its tickets: as many rows, chosen otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.config.choices import COMPARISON_SETS, MEASURED, RANDOM_DRAWS
from ks_lottery.models.gradients import gradients_of
from ks_lottery.models.rows import trainable_rows
from ks_lottery.recipes.method_names import BASIC_METHODS, DRAWS, RANDOM, methods_of
from ks_lottery.store.run_folder import EMBED
from ks_lottery.tickets.selectors import Basis, select_rows

if TYPE_CHECKING:
    from ks_lottery.config.settings import RunConfig
    from ks_lottery.recipes.job import Job
    from ks_lottery.recipes.stage import Tick
    from ks_lottery.tickets.tickets import Tickets

RECORDED = ("lca", "gradient")
"""Rivals that embed tuning recorded; every other one needs no tuning. `gradient` is the recorded one here."""


def rivals(config: RunConfig) -> tuple[str, ...]:
    """Return the rivals of a run, with the draws of random rows as one."""
    return tuple(RANDOM if by == "random-reachable" else by for by in COMPARISON_SETS[config.compare])


def rival_methods(config: RunConfig) -> tuple[str, ...]:
    """Return the methods that train the rows of the rivals, each draw of random rows by itself."""
    return tuple(method for name in rivals(config) for method in methods_of(name))


def compared_methods(config: RunConfig) -> tuple[str, ...]:
    """Return every method of a run, in the order of its table."""
    return (*BASIC_METHODS, *rival_methods(config))


def rival_rows(job: Job, method: str, tick: Tick) -> Tickets:
    """Return as many rows as there are tickets, by the selector of a rival's method.

    Random rows are drawn from those that the text reaches, the fair rival; each draw of each run has a seed of its own.
    """
    train = job.config.train

    def gradients() -> Attribution:
        return gradients_of(
            job.loaded, job.train, batch_size=train.batch_size, share_prefix=train.share_prefix, tick=tick
        )

    drawn = method in DRAWS
    basis = Basis(
        vocabulary=job.checkpoint.vocabulary,
        size=len(job.tickets),
        seed=RANDOM_DRAWS * job.config.seed + DRAWS.index(method) if drawn else job.config.seed,
        attribution=Attribution.open(job.folder.method(EMBED)) if method in RECORDED else None,
        gradients=gradients if method in MEASURED else None,
        examples=lambda: job.train,
        reachable=lambda: trainable_rows([e.sequence for e in job.train], job.loaded.lm, "input"),
    )
    return select_rows("random-reachable" if drawn else method, basis)
