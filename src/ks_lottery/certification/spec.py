"""What a certification is asked for, beside model, patches, scan and text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ks_lottery.certification.units import check_asked
from ks_lottery.config.measure_commands import CertifyOptions
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.certification.pool import Pool
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.tickets.tickets import Tickets


@dataclass(frozen=True, kw_only=True)
class CertifySpec(CertifyOptions):
    """What a certification is asked for, beside model, tuned patch, scan and text.

    Parameters
    ----------
    small
        Patches to certify as they are, by name: each with the rows that it really changes, and the rule of its manifest.
    transfer
        Certify partial transfers: of `tickets`, or, without tickets or beside patches, of the rows of each alpha. They are
        certified too where `small` is empty.
    tickets
        Rows of the transfer; with `small`, what the rows of each were selected by: they must be those that it changes.
    config
        Grid of alpha, kind of tau that is shown, first positions that count for the bound and for a guarantee, probability that
        a guarantee fails.
    calibration
        Text to calibrate a guarantee on, or the share or number of sentences of the text that are drawn for it; None for none.
    same_pool
        The user's word that text and calibration text are parts of one text, split at random.
    pool
        What the calibration text was drawn from, where that is known.
    rest
        The pool beside the calibration text, where the text reported on is only a part of that.
    epsilon
        With it the smallest ticket set is chosen whose loss of agreement is at most this, with probability 1 - delta.
    loss
        Of the choice: ``share`` of positions answered differently, or whether ``any`` is.
    sizes
        With tickets and `epsilon`: numbers of first tickets to choose among; by default all, half, a quarter, ... of them.
    max_tokens
        Longest example; longer ones are left out. Without it, text that does not fit the model's context is refused.
    split_seed
        Seed of the draw of calibration sentences, which no training seed touches.
    examples
        Number of the worst examples that a certificate keeps.
    """

    small: Mapping[str, RowPatch] = field(default_factory=dict)
    tickets: Tickets | None = None
    config: CertifyConfig = field(default_factory=CertifyConfig)
    calibration: Corpus | float | None = None
    pool: Pool | None = None
    rest: Corpus | None = None
    epsilon: float | None = None

    @property
    def transfers(self) -> bool:
        """Whether partial transfers are certified."""
        return self.transfer or not self.small

    def check(self) -> None:
        """Refuse settings that do not belong together.

        Raises
        ------
        UserError
            For the first such setting.
        """
        check_asked("delta", self.config.delta)
        if self.split_seed < 0:
            raise UserError(f"split_seed is {self.split_seed}, but must be 0 or more")
        if self.epsilon is not None:
            check_asked("epsilon", self.epsilon)
            if self.small:
                raise UserError(
                    "choosing a ticket set works on transfers; a partially tuned model is certified as it is"
                )
            if self.calibration is None:
                raise UserError(
                    "choosing a ticket set needs calibration text: give `calibration`, or a share of the text"
                )
        if self.sizes and (self.tickets is None or self.epsilon is None):
            raise UserError(
                "sizes are numbers of first tickets to choose among: give `tickets` and `epsilon` with them"
            )
