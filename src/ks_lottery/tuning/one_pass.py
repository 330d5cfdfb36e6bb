"""Chooses the rows of a partial tuning in one pass over its text with the original model; nothing is tuned before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ks_lottery.models.gradients import examples_digest, gradients_of
from ks_lottery.tickets.tickets import Tickets
from ks_lottery.tuning.methods import method_rows
from ks_lottery.tuning.processes import launched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tuning.tune_spec import TuneSpec

ROWS_FILE = "rows.json"
"""The rows that a pass chose, in the folder of the unfinished training: a training that resumes reads them."""


def choose_rows(
    spec: TuneSpec,
    loaded: LoadedModel,
    examples: Sequence[Example],
    config: TrainConfig,
    *,
    tick: Callable[[int, int], None] | None = None,
) -> Tickets:
    """Return the rows by a rule of `ks_lottery.config.choices.MEASURED`, the same in every process.

    The processes that train together share the batches out. With a folder the rows are kept there, and not chosen again.
    """
    file = None if spec.folder is None else spec.folder / ROWS_FILE
    made_from = {"base": loaded.checkpoint.describe(), "examples": examples_digest(examples)}
    if file is not None and file.is_file():
        rows = Tickets.open(file)
        about = {"selector": spec.by, "size": spec.size, "batch_size": config.batch_size}
        if rows.made_from == made_from and about.items() <= rows.rule.items():
            return rows

    def gradients() -> Attribution:
        return gradients_of(
            loaded,
            examples,
            batch_size=config.batch_size,
            share_prefix=config.share_prefix,
            shared_out=_joined(next(loaded.lm.parameters()).device.type),
            tick=tick,
        )

    rows = method_rows(spec, loaded, examples, gradients=gradients)
    assert rows is not None  # noqa: S101 (a rule chooses rows)
    if file is not None and os.environ.get("RANK", "0") == "0":
        rows.save(file)
    return rows


def _joined(device: str) -> bool:
    """Let the processes that were started together form a group, as the Trainer will, and say whether there are several."""
    from torch import distributed

    if not launched():
        return False
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return True
