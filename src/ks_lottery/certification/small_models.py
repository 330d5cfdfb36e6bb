"""The small models of each certificate, and whether they belong to the model and to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.certification.candidates import (
    OTHER_VOCABULARY,
    TRANSFER,
    Candidate,
    check_side,
    nested_transfers,
    patched,
    transfer_of,
    transfers,
)
from ks_lottery.checkpoint.added_tokens import refuse_new_tokens
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.certification.spec import CertifySpec
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.tickets.scan import Scan


def check_patches(checkpoint: Checkpoint, tuned: RowPatch, spec: CertifySpec) -> None:
    """Refuse patches or tickets of another base or of other sides.

    Raises
    ------
    UserError
        For the first that does not belong.
    """
    tuned.check_base(checkpoint)
    for patch in (tuned, *spec.small.values()):
        refuse_new_tokens(patch.added, OTHER_VOCABULARY)
    for name, patch in spec.small.items():
        patch.check_base(checkpoint)
        check_side(tuned, patch, name)
    check_side(tuned, tuned, "the tuned patch")
    if spec.tickets is not None:
        spec.tickets.check_base(checkpoint)


def candidate_groups(
    tuned: RowPatch, scan: Scan, spec: CertifySpec, checkpoint: Checkpoint
) -> dict[str, list[Candidate]]:
    """Return the small models of each certificate, by its name.

    Raises
    ------
    UserError
        When the tau that is shown needs an alpha that a model does not have, or tickets are not those of a patch.
    """
    groups: dict[str, list[Candidate]] = {}
    alphas = spec.config.alphas
    if spec.transfers and spec.epsilon is not None:
        groups[TRANSFER] = nested_transfers(tuned, scan, alphas, spec.tickets, spec.sizes)
    elif spec.transfers and spec.tickets is not None and not spec.small:
        groups[TRANSFER] = [transfer_of(tuned, scan, spec.tickets)]
    elif spec.transfers:
        groups[TRANSFER] = transfers(tuned, scan, alphas)
    if spec.small:
        name = next(iter(spec.small)) if len(spec.small) == 1 else "small"
        groups[name] = [patched(patch, label, checkpoint, scan, spec.tickets) for label, patch in spec.small.items()]
    missing = [candidate.name for candidates in groups.values() for candidate in candidates if candidate.alpha is None]
    if spec.config.tau != "empirical" and missing:
        raise UserError(
            f"tau {spec.config.tau} is a function of alpha, and the rows of {missing[0]} were not selected by alpha alone: "
            "give tickets that were selected by alpha, or take `tau=empirical`"
        )
    return groups
