"""Stages around certificates: certify small models, as `certify` does, and compare two tunings of the same rows (table 6)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.certification.candidates import ORIGINAL, TUNED
from ks_lottery.certification.certify import certify_with
from ks_lottery.certification.spec import CertifySpec
from ks_lottery.certification.theorem import RULES
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.recipes.stage import Cost, Made, Stage, made_figures
from ks_lottery.recipes.study import BATCH
from ks_lottery.recipes.study_stages import CODE, ROWS_FILE
from ks_lottery.store.run_folder import SCAN_FILE
from ks_lottery.tickets.agreement import compare_tunings
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.certification.certified import Certified
    from ks_lottery.recipes.stage import Work
    from ks_lottery.recipes.study import Study

CALIBRATION = 0.5
"""Share of the test text that is drawn for the guarantees; the rest is reported on."""

LEVEL = 0.05
"""Level of the second test of table 6, which the paper does not name; the same for each alpha."""

SHOWN = (
    "positions", "sentences", "counted", "original_accuracy", "tuned_accuracy", "half_gap_range", "full", "levels",
    "guarantees",
)  # fmt: skip
"""What the figures of a cell have of `Certificate.as_dict`."""


def named(alpha: float) -> str:
    """Return the name of the small model of an alpha."""
    return f"{alpha:g}"


def certify_stage(
    study: Study, embed: Stage, scan: Stage, alphas: Sequence[float], smalls: Mapping[float, Stage] | None = None
) -> Stage:
    """Return the stage that certifies small models against embed tuning on the test text, as `certify` does.

    Its folder has the certificate, and the figures of a cell: taus, what each rule verifies and certifies, the audit, the
    guarantees, and ``by_sentence``, what each sentence adds (`sentence_figures`).

    Parameters
    ----------
    embed, scan
        Embed tuning, and the stage that scanned it.
    alphas
        Levels whose rows are transferred; not used with `smalls`.
    smalls
        Tunings to certify as they are, by the alpha that chose their rows; None for partial transfers.
    """
    given = smalls or {}
    levels = list(given) if given else list(alphas)
    way = "partial tunings" if given else "transfers"
    what = f"certify {way} at {len(levels)} alphas{study.variant}, seed {embed.settings['seed']}"
    inputs = {"model": study.model_input, "text": study.test_input, "tuned": embed.name, "scan": scan.name}
    inputs |= {f"small {named(alpha)}": small.name for alpha, small in given.items()}
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), inputs=inputs, kind="certify",
        make=partial(_certify, study, levels, partially=bool(given)), prepare=lambda: study.loaded, code=CODE["certify"],
        settings={**study.prompt, "alphas": levels, "calibration": CALIBRATION, "batch_size": BATCH},
        cost=lambda: Cost(
            pace="predict", tokens=(2 + len(levels)) * sum(len(example) - 1 for example in study.test_examples),
            memory=study.model_bytes, disk=80 * len(levels) * sum(len(example.response) for example in study.test_examples),
        ),
    )  # fmt: skip


def alike_stage(study: Study, embed: Stage, partially: Stage, rows: Stage) -> Stage:
    """Return the stage that tests the embed-tuned against the partially tuned values of the tickets: a cell of table 6.

    The figures of its cell are those of `ComparedTunings.as_dict`; without a ticket, ``compared`` is 0 and ``unchanged`` None.
    """
    what = f"compare embed tuning with {partially.name.partition(': ')[2]}"
    return Stage(
        name=f"{study.name} {study.pair}: {what}", title=study.titled(what), make=partial(_alike), kind="alike",
        inputs={"tuned": embed.name, "small": partially.name, "rows": rows.name}, code=CODE["alike"],
        settings={"level": LEVEL}, cost=lambda: Cost(disk=200),
    )  # fmt: skip


def _certify(study: Study, alphas: Sequence[float], work: Work, *, partially: bool) -> Made:
    smalls = (
        {named(alpha): RowPatch.open(work.inputs[f"small {named(alpha)}"]) for alpha in alphas} if partially else {}
    )
    spec = CertifySpec(
        small=smalls, config=CertifyConfig(alphas=tuple(alphas)), calibration=CALIBRATION, template=study.template,
        max_tokens=study.max_tokens, batch_size=BATCH,
    )  # fmt: skip
    tuned, scan = RowPatch.open(work.inputs["tuned"]), Scan.open(work.inputs["scan"] / SCAN_FILE)
    certified = certify_with(spec, study.loaded, tuned, scan, study.test, tick=work)
    certified.certificate.save(work.folder)
    content = certified.certificate.as_dict()
    figures = {**{name: content[name] for name in SHOWN}, "by_sentence": sentence_figures(certified)}
    return made_figures(figures, work)


def sentence_figures(certified: Certified) -> dict[str, Any]:
    """Return what each sentence adds, over the first positions that count for the bound.

    Returns
    -------
    dict
        Lists with one entry a sentence: ``positions``; right answers of the ``original`` and the ``tuned`` model; and under
        ``levels``, by small model, its right answers (``small``), and for each rule, with the empirical tau, the certified
        positions (``theorem``, ...) and those of them that it answers wrongly (``theorem violations``, ...).
    """
    certificate = certified.certificate
    first = int(certificate.counted["bound"] or 0)
    tuned, original = (certified.predictions[name].head(first) for name in (TUNED, ORIGINAL))
    size = int(tuned.sentence.max()) + 1

    def added(marks: Any) -> list[int]:
        return np.bincount(tuned.sentence, weights=marks, minlength=size).astype(int).tolist()

    columns = certificate.columns
    levels: dict[str, dict[str, list[int]]] = {}
    for level in certificate.levels:
        own = columns["model"] == level.name
        right = columns["small"][own] == columns["label"][own]
        levels[level.name] = {"small": added(right)}
        for rule in RULES:
            mark = columns[f"{rule}_empirical"][own]
            levels[level.name] |= {rule: added(mark), f"{rule} violations": added(mark & ~right)}
    positions = np.bincount(tuned.sentence, minlength=size).tolist()
    return {
        "positions": positions,
        "original": added(original.correct),
        "tuned": added(tuned.correct),
        "levels": levels,
    }


def _alike(work: Work) -> Made:
    tickets = Tickets.open(work.inputs["rows"] / ROWS_FILE)
    figures: dict[str, Any] = {"compared": 0, "changed": 0, "unchanged": None, "level": LEVEL}
    if len(tickets):
        compared = compare_tunings(work.inputs["tuned"], work.inputs["small"], tickets, level=LEVEL)
        figures = {name: value for name, value in compared.as_dict().items() if name != "rows"}
    return made_figures(figures, work)
