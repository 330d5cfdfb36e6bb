"""Every method of a run against partial tuning, from the saved predictions: paired differences with Holm's correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.recipes.findings import TITLES
from ks_lottery.recipes.method_names import methods_of
from ks_lottery.report.section import Column, Section
from ks_lottery.stats.crossed import crossed_bootstrap
from ks_lottery.stats.multiplicity import adjust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.store.run_folder import RunFolder

BASELINE = "partial"


def differences_section(
    folder: RunFolder, config: Mapping[str, Any], summary: Mapping[str, Any]
) -> tuple[Section, list[tuple[str, float, float | None, float | None]]] | None:
    """Return the accuracy of each method less that of partial tuning, and the same as lines of a plot.

    Sentences are resampled, paired; p is the two-sided bootstrap p, corrected by Holm for all methods of the table. Of random
    rows the mean over draws counts.

    Returns
    -------
    Section and list, or None
        None where the predictions of a method are not there.
    """
    names = [name for name in summary["methods"] if name != BASELINE]
    files = {name: [folder.predictions(method) for method in methods_of(name)] for name in (BASELINE, *names)}
    if not all(file.is_file() for several in files.values() for file in several):
        return None
    opened = {name: [Predictions.open(file) for file in several] for name, several in files.items()}
    (base,) = opened[BASELINE]
    sentences = base.by_sentence()
    evaluate = config.get("evaluate", {})
    settings = {
        "confidence": summary["confidence"],
        "resamples": int(evaluate.get("resamples", 2000)),
        "seed": int(config.get("seed", 0)),
    }
    found = {}
    for name in names:
        for draw in opened[name]:
            draw.check_same_positions(base)
        correct = np.mean([draw.by_sentence()["correct"] for draw in opened[name]], axis=0)
        gaps = correct - np.array(sentences["correct"])
        found[name] = crossed_bootstrap(gaps[None], sentences["positions"], **settings)
    holm = np.exp(adjust(np.log([one.pvalue for one in found.values()]), "holm"))
    columns = [
        Column(title="method"),
        Column(title="difference", form="+.4f"),
        Column(title=f"{summary['confidence']:.0%} interval", form="+.4f"),
        Column(title="p", form=".4f"),
        Column(title="Holm's p", form=".4f"),
    ]
    rows = [
        [TITLES.get(name, name), one.estimate, (one.low, one.high), one.pvalue, float(corrected)]
        for (name, one), corrected in zip(found.items(), holm, strict=True)
    ]
    said = (
        "difference: accuracy less that of partial tuning, paired by sentence; p: two-sided bootstrap; Holm's p holds for all "
        "rows of this table together. One seed of training: neither covers what another seed would change."
    )
    lines: list[tuple[str, float, float | None, float | None]] = [
        (str(TITLES.get(name, name)), one.estimate, one.low, one.high) for name, one in found.items()
    ]
    return Section(title="Differences from partial tuning", columns=columns, rows=rows, sentences=[said]), lines
