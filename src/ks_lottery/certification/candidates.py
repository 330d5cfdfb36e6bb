"""The small models that are certified: transfers of the tuned rows over a grid of alpha or of tickets, and patches as they are.

Must never train, nor change a patch that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.certification.algorithm import Small
from ks_lottery.errors import UserError
from ks_lottery.evaluation.patches import predict_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.batches import Example
    from ks_lottery.evaluation.patches import Shared
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tickets.scan import Scan
    from ks_lottery.tickets.tickets import Tickets

TRANSFER = "transfer"
"""Name of the certificate of partial transfers."""

ORIGINAL, TUNED = "original", "tuned"
"""Names of the two models that every small one is compared with."""

OTHER_VOCABULARY = "and certify compares models that share one: evaluate it instead"
"""Why a patch that adds tokens is refused."""


@dataclass(frozen=True)
class Candidate:
    """A small model before it has answered anything; fields as in `Small`, and the patch that makes it."""

    name: str
    rows: npt.NDArray[np.int64]
    patch: RowPatch
    alpha: float | None = None

    def answered(self, predictions: Predictions) -> Small:
        """Return the small model with its predictions."""
        return Small(self.name, self.rows, predictions, self.alpha)


def transfers(tuned: RowPatch, scan: Scan, alphas: Sequence[float]) -> list[Candidate]:
    """Return the partial transfer of each alpha: the tuned values of the rows with p < alpha in the original model."""
    every = [(alpha, np.sort(scan.passing(alpha))) for alpha in alphas]
    return [Candidate(f"{alpha:g}", rows, tuned.restrict(rows), alpha) for alpha, rows in every]


def transfer_of(tuned: RowPatch, scan: Scan, tickets: Tickets, name: str = TRANSFER) -> Candidate:
    """Return the partial transfer of given tickets."""
    return Candidate(name, tickets.ids, tuned.restrict(tickets.ids), alpha_of(tickets.rule, scan, tickets.ids))


def patched(
    patch: RowPatch, name: str, checkpoint: Checkpoint, scan: Scan, tickets: Tickets | None = None
) -> Candidate:
    """Return a patch, such as partial tuning leaves, as it is: with the rows that it changes and the alpha of its manifest.

    Parameters
    ----------
    tickets
        What the patch's rows are said to have been selected by, in place of its manifest.

    Raises
    ------
    UserError
        When the tickets are not the rows that the patch changes.
    """
    rows = changed_rows(patch, checkpoint)
    if tickets is None:
        return Candidate(name, rows, patch, alpha_of(patch.settings.get("rule"), scan, rows))
    # Rows that the patch lists with the base's own values, and rows that no tuning moved, may be named or not.
    more = np.setdiff1d(tickets.ids, np.union1d(patch.ids, np.flatnonzero(scan.moved == 0)))
    absent = np.setdiff1d(rows, tickets.ids)
    if len(more) or len(absent):
        raise UserError(
            f"the tickets are not the rows that {name} changes: of its {len(rows):,} rows {len(absent):,} are missing in the "
            f"tickets, and {len(more):,} tickets are rows that it does not change. Give the tickets that it was made with, or "
            "leave `tickets` out: its manifest names them"
        )
    return Candidate(name, rows, patch, alpha_of(tickets.rule, scan, rows))


def changed_rows(patch: RowPatch, checkpoint: Checkpoint) -> npt.NDArray[np.int64]:
    """Return the rows whose values in a patch are not the base's, bit for bit, on either side that it changes."""
    changed = np.zeros(len(patch), dtype=bool)
    for side in ("input", "output"):
        values = patch.values_of(side)
        if values is not None:
            base = checkpoint.rows(patch.ids, side=side).contiguous().view(torch.int32)
            changed |= (values.contiguous().view(torch.int32) != base).any(dim=1).numpy()
    return patch.ids[changed]


def nested_transfers(
    tuned: RowPatch, scan: Scan, alphas: Sequence[float], tickets: Tickets | None = None, sizes: Sequence[int] = ()
) -> list[Candidate]:
    """Return transfers from the largest set of rows to the smallest, each a proper part of the one before it.

    Parameters
    ----------
    tickets
        The sets are the first `sizes` of these; without them, the rows of each alpha.
    sizes
        Numbers of first tickets; by default all, half, a quarter, ... of them.

    Raises
    ------
    UserError
        When no set holds a row.
    """
    if tickets is None:
        candidates = transfers(tuned, scan, sorted(alphas, reverse=True))
    else:
        halves = [len(tickets) >> k for k in range(len(tickets).bit_length())]
        falling = sorted({min(n, len(tickets)) for n in sizes or halves if n > 0}, reverse=True)
        candidates = [transfer_of(tuned, scan, tickets.head(n), f"{n:,} tickets") for n in falling]
    nested: list[Candidate] = []
    for candidate in candidates:
        if not nested or len(candidate.patch) < len(nested[-1].patch):
            nested.append(candidate)
    if not nested:
        raise UserError("no alpha and no tickets select any row, so nothing can be chosen: give others")
    return nested


def alpha_of(rule: Mapping[str, Any] | None, scan: Scan, rows: npt.NDArray[np.int64]) -> float | None:
    """Return the alpha that rows were selected by; None where that is not how, or not in this scan.

    A tau that is a function of alpha bounds the rows with p >= alpha. So `rows` must hold each moved row with p < alpha.
    """
    if rule is None or set(rule) != {"selector", "alpha"} or rule["selector"] != "ks":
        return None
    alpha = float(rule["alpha"])
    missing = np.setdiff1d(scan.passing(alpha), rows)
    return None if scan.moved[missing].any() else alpha


def check_side(tuned: RowPatch, small: RowPatch, name: str) -> None:
    """Refuse patches that the theorem has no words for: rows of one matrix are tested, on one side.

    Raises
    ------
    UserError
        When the two patches change other sides, or each side has values of its own.
    """
    if tuned.side != small.side:
        raise UserError(
            f"{name} changes the {small.side} side and the tuned patch the {tuned.side} side: certify patches of one side"
        )
    if tuned.output_values is not None:
        raise UserError(
            "the tuned patch has other values on each side, and a certificate speaks of one matrix: tune one side"
        )


def predict_candidates(
    loaded: LoadedModel,
    tuned: RowPatch,
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    share_prefix: bool = True,
    tick: Callable[[int, int], None] | None = None,
) -> Shared:
    """Predict with the original, the tuned and every small model, in one pass each; what they share is computed once.

    Returns
    -------
    Shared
        Predictions by name; those of the two former are called `ORIGINAL` and `TUNED`.
    """
    none = tuned.restrict(np.empty(0, dtype=np.int64))
    patches = {ORIGINAL: none, TUNED: tuned, **{one.name: one.patch for one in candidates}}
    return predict_patches(loaded.lm, patches, examples, batch_size=batch_size, share_prefix=share_prefix, tick=tick)
