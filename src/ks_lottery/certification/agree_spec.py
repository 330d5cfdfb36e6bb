"""What a comparison of models is asked for, beside models and text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ks_lottery.certification.units import check_asked
from ks_lottery.config.choices import AGREEMENT_LOSSES, BOUNDS
from ks_lottery.config.measure_commands import AgreeOptions
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.certification.bounds import Bounded

KINDS: dict[str, Bounded] = {"share": "share", "any": "any", "accuracy": "paired", "generated": "any"}
"""Each of `ks_lottery.config.choices.AGREEMENT_LOSSES` to the kind of its bound."""

BOUNDED = {"share": "agreement", "any": "all_agree", "accuracy": "accuracy_change", "generated": "generated"}
"""Each of them to the guarantee that bounds 1 minus it, or minus it."""


@dataclass(frozen=True, kw_only=True)
class AgreeSpec(AgreeOptions):
    """What a comparison of models is asked for, beside models and text.

    Parameters
    ----------
    calibration
        Share (below 1) or number of sentences of the text that are drawn, and that are computed.
    epsilon
        With it the smallest candidate is chosen whose loss is at most this, with probability 1 - delta.
    """

    epsilon: float | None = None

    @property
    def drawn(self) -> float:
        """The share, or the whole number, of sentences that are drawn.

        Raises
        ------
        UserError
            When it is above 1 and not whole.
        """
        if self.calibration < 1:
            return float(self.calibration)
        if self.calibration != int(self.calibration):
            raise UserError(
                f"`calibration` is {self.calibration:g}, but must be a share below 1, or a whole number of sentences"
            )
        return int(self.calibration)

    @property
    def allowed(self) -> float | None:
        """The loss that the bound must be able to show: that of the choice, or 1 - ``fail_below``."""
        return 1.0 - self.fail_below if self.fail_below is not None else self.epsilon

    def check(self) -> None:
        """Refuse settings that do not belong together.

        Raises
        ------
        UserError
            For the first such setting.
        """
        check_asked("delta", self.delta)
        _ = self.first_positions, self.drawn
        for name, value, known in (("loss", self.loss, AGREEMENT_LOSSES), ("bound", self.bound, BOUNDS)):
            if value not in known:
                raise UserError(f"`{name}` is {value!r}, but must be one of {', '.join(known)}")
        if self.epsilon is not None:
            check_asked("epsilon", self.epsilon)
            if self.fail_below is not None:
                raise UserError(
                    "a bound does not hold for a model that was chosen by the same text: give `epsilon` or `fail_below`"
                )
        if self.loss == "generated" and self.allowed is not None and not self.generate:
            raise UserError("the loss `generated` is that of generated outputs: give `generate` too")
