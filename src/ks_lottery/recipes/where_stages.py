"""Stages of the recipe `where`: in which spans a product acts, and in which spans chosen rows occur."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.batches import span_occurrences
from ks_lottery.errors import UserError
from ks_lottery.evaluation.gated_runs import COMBINATIONS
from ks_lottery.evaluation.located import WhereSpec, where_with
from ks_lottery.recipes.stage import Cost, Made, Stage, made_figures
from ks_lottery.recipes.study import BATCH
from ks_lottery.recipes.study_stages import CODE, ROWS_FILE
from ks_lottery.tickets.span_counts import SpanCounts
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from ks_lottery.recipes.stage import Work
    from ks_lottery.recipes.study import Study

CONTROL_PASSES = 12
"""Passes over the text that the controls take, for the cost of a stage: seven patches, and two models under two prompts."""


def where_stage(study: Study, product: Stage, *, controls: bool = False, translate: bool = False) -> Stage:
    """Return the stage that measures in which spans of the test text the rows of a patch act, as `where` does.

    The figures of its cell are those of `Where.as_dict`, with what each sentence adds in each combination of spans, and
    without what it was made from.

    Parameters
    ----------
    controls
        Measure the controls too.
    translate
        Translate the first sentences too, as many as the scale says.
    """
    scale = study.scale
    translations = min(scale.translations, len(study.test)) if translate else 0
    spec = WhereSpec(
        controls=controls, translate=translations or None, max_new_tokens=scale.max_new_tokens, by_sentence=True,
        batch_size=BATCH, **study.prompt,
    )  # fmt: skip
    more = [*(["controls"] if controls else []), *(["translations"] if translations else [])]
    what = f"where {product.name.partition(': ')[2]} acts{study.variant}{' with ' if more else ''}{' and '.join(more)}"
    passes = len(COMBINATIONS) + controls * CONTROL_PASSES
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=partial(_where, study, spec),
        prepare=lambda: study.loaded, kind="where", code=CODE["where"],
        inputs={"model": study.model_input, "text": study.test_input, "product": product.name}, settings=spec.as_dict(),
        cost=lambda: Cost(
            pace="predict",
            tokens=passes * sum(len(example) - 1 for example in study.test_examples)
            + len(COMBINATIONS) * translations * scale.max_new_tokens,
            memory=study.model_bytes, disk=len(COMBINATIONS) * 20 * len(study.test),
        ),
    )  # fmt: skip


def origin_stage(study: Study, rows: Stage) -> Stage:
    """Return the stage that counts how often the token of each chosen row occurs in the training text, by span.

    The figures of its cell are lists with one entry a row, in the order of the rows: ``rows``, ``tokens``, and the occurrences
    in the ``instruction``, the ``source`` and the ``target``.
    """
    what = f"origin of {rows.name.partition(': ')[2]}"
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=partial(_origin, study),
        inputs={"model": study.model_input, "text": study.train_input, "rows": rows.name}, kind="origin",
        code=CODE["origin"], settings=study.prompt, cost=lambda: Cost(disk=40 * (rows.settings["size"] or study.reachable)),
    )  # fmt: skip


def span_counts_of(study: Study) -> SpanCounts:
    """Return how often each token occurs in the instruction, the source and the target of the training text.

    Raises
    ------
    UserError
        When the source sentences cannot be located in their prompts.
    """
    counted = span_occurrences(study.train_examples)
    if counted is None:
        raise UserError(
            f"template {study.template}: the source sentences of {study.train.origin} cannot be located in their prompts, "
            "since the tokenizer or its chat template changes the text: choose another `template`"
        )
    return SpanCounts.of_occurrences(counted, {"text": study.train.fingerprint})


def _where(study: Study, spec: WhereSpec, work: Work) -> Made:
    patch = RowPatch.open(work.inputs["product"])
    located = where_with(spec, study.loaded, patch, study.test, stage=lambda _: nullcontext(work))
    figures = {name: value for name, value in located.as_dict().items() if name != "made_from"}
    return made_figures(figures, work)


def _origin(study: Study, work: Work) -> Made:
    rows = Tickets.open(work.inputs["rows"] / ROWS_FILE).rows
    counts = {name: column.tolist() for name, column in span_counts_of(study).of(np.asarray(rows)).items()}
    return made_figures({"rows": rows.tolist(), "tokens": [study.tokens[row] for row in rows.tolist()], **counts}, work)
