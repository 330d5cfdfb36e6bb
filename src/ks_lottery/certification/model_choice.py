"""The smallest of a family of models that keeps what the reference does, by Learn then Test in the given order.

Must never look at the calibration text to order the family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.certification.agree_spec import KINDS
from ks_lottery.certification.candidates import TUNED
from ks_lottery.certification.choice import fixed_order
from ks_lottery.certification.units import (
    AVERAGE,
    SENTENCES,
    counted_words,
    drawn_documents,
    over_the_draw,
    unit_losses,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ks_lottery.certification.bounds import Bounded
    from ks_lottery.certification.calibration import Calibration
    from ks_lottery.certification.units import Kind

_CLAIMS = {
    "share": "{model} differs from {reference} in at most {epsilon} of {the} {average}",
    "any": "{model} differs from {reference} at {any} in at most {epsilon} of {sentences}",
    "accuracy": "the share of {the} {average}, in which {model} agrees with the text is at most {epsilon} below that of "
    "{reference}",
    "generated": "the greedy output of {model} differs from that of {reference} for at most {epsilon} of {sentences}",
}
"""What holds of the chosen model, by the loss."""


def model_losses(
    calibration: Calibration, name: str, loss: str, same: npt.ArrayLike | None = None
) -> tuple[Bounded, npt.NDArray[np.float64]]:
    """Return the kind of a loss, and the loss of one model on each unit of calibration, in the order of the draw.

    Parameters
    ----------
    loss
        Key of `ks_lottery.config.choices.AGREEMENT_LOSSES`.
    same
        Whether the model generated the same as the reference for a sentence; needed for ``generated``.

    Returns
    -------
    kind, losses
        As for `fixed_order`.
    """
    reference, answers = calibration.answers[TUNED], calibration.answers[name]
    grouped = drawn_documents(calibration.pool, calibration.documents)

    def of(wrong: npt.ArrayLike, index: npt.ArrayLike, kind: Kind) -> npt.NDArray[np.float64]:
        return unit_losses(
            wrong, index, kind=kind, documents=grouped, order=calibration.order, seed=calibration.seed
        )  # fmt: skip

    if loss == "accuracy":
        ours, theirs = (of(~each.correct, each.sentence, "share") for each in (answers, reference))
        return KINDS[loss], ours - theirs
    if loss == "generated":
        differs = ~np.asarray(same, dtype=bool)
        return KINDS[loss], of(differs, np.arange(len(differs)), "any")
    return KINDS[loss], of(answers.first != reference.first, reference.sentence, "any" if loss == "any" else "share")


def choose_model(
    calibration: Calibration,
    reference: str,
    names: Sequence[str],
    loss: str,
    epsilon: float,
    same: Mapping[str, npt.ArrayLike],
) -> dict[str, Any]:
    """Choose among models, tested in the given order until the loss of one is not shown to be at most `epsilon`.

    Parameters
    ----------
    reference, names
        What results call the reference and the candidates, the latter in the order of testing.
    loss
        Key of `ks_lottery.config.choices.AGREEMENT_LOSSES`.
    epsilon
        Largest loss of the chosen model, in (0, 1).
    same
        By candidate, whether it generated the same as the reference for each sentence; may be empty for other losses.

    Returns
    -------
    dict
        ``model``, the chosen one or None; ``chosen``, its place; ``passed``; ``observed`` losses and ``pvalues`` of all; ``n``,
        ``method``, ``pool``, ``positions``, ``epsilon``, ``delta``, ``loss``; and the ``statement``.

    Raises
    ------
    UserError
        When n is too small to show epsilon even without any loss.
    """
    pool = calibration.pool
    kinds_losses = [model_losses(calibration, name, loss, same.get(name)) for name in names]
    tests = fixed_order(
        [losses for _, losses in kinds_losses], epsilon, calibration.delta,
        pool=pool, kind=KINDS[loss], bounding=calibration.bounding,
    )  # fmt: skip
    chosen = tests.passed - 1 if tests.passed else None
    words = counted_words(calibration.positions)
    shown = f"{100 * epsilon:.12g} percentage points" if loss == "accuracy" else f"{epsilon:g}"
    over = over_the_draw(calibration.delta, tests.n, pool)
    if chosen is None:
        statement = (
            f"No model was chosen: {tests.n:,} {pool.unit}s of {pool.name} cannot prove, at delta {calibration.delta:g}, a "
            f"loss ({loss}) of at most {epsilon:g} against {reference}, even for the first candidate, {names[0]} "
            f"(its loss in these {pool.unit}s is {tests.observed[0]:.4f})."
        )
    else:
        claim = _CLAIMS[loss].format(
            model=names[chosen], reference=reference, epsilon=shown,
            sentences=SENTENCES[pool.unit], average=AVERAGE[pool.unit], **words,
        )  # fmt: skip
        statement = (
            f"{over}, {claim}; it is the last of {len(names)} candidates, in the given order, for which this was shown."
        )
    return {
        "model": None if chosen is None else names[chosen],
        "chosen": chosen,
        "passed": tests.passed,
        "epsilon": epsilon,
        "delta": calibration.delta,
        "loss": loss,
        "n": tests.n,
        "observed": list(tests.observed),
        "pvalues": list(tests.pvalues),
        "method": f"Learn then Test, fixed sequence, {tests.method}",
        "positions": calibration.positions,
        "pool": pool.as_dict(),
        "statement": statement,
    }
