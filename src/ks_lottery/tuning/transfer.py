"""Partial transfer: the tuned values of tickets, and no others, in the original model (section 3.3 of the paper)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ks_lottery.config.train_commands import TransferSettings
from ks_lottery.errors import UserError
from ks_lottery.models.new_tokens import with_new_tokens
from ks_lottery.models.row_scale import rate_sentence

if TYPE_CHECKING:
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.tickets.tickets import Tickets


def transfer(
    base: Checkpoint,
    patch: RowPatch,
    tickets: Tickets,
    *,
    force: bool = TransferSettings.force,
    allow_empty: bool = TransferSettings.allow_empty,
) -> RowPatch:
    """Return a patch of the values that `patch` gives to the tickets; tickets that it does not change are left out.

    Its settings hold the rule that selected the tickets.

    Parameters
    ----------
    force
        Accept a patch and tickets of other weights; its base is then this one, and its settings say which it was.
    allow_empty
        Return a patch without rows where the tickets are none, or `patch` changes none of them; off by default.

    Raises
    ------
    UserError
        When the patch was made, or the tickets were selected, on other weights, or their rows do not fit the base; or there
        is nothing to transfer.
    """
    patch.check_base(base, force=force)
    tickets.check_base(with_new_tokens(base, patch), force=force)
    small = patch.restrict(tickets.ids)
    if not len(small) and not allow_empty:
        if not len(tickets):
            raise UserError(f"the tickets are an empty set: there is nothing to transfer. {rate_sentence(base)}")
        what = "the ticket" if len(tickets) == 1 else f"any of the {len(tickets):,} tickets"
        raise UserError(
            f"the patch does not change {what}: there is nothing to transfer. Give the patch of the tuning they "
            "were selected from"
        )
    small = replace(small, settings={**small.settings, "rule": dict(tickets.rule)})
    if not force:
        return small
    return replace(small, base=base.describe(), settings={**small.settings, "made_on": dict(patch.base)})
