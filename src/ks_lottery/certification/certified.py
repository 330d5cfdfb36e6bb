"""The result of a certification: certificates, the predictions that they rest on, and the transfer that was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.certification.calibration import CALIBRATION_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.certification.calibration import Calibration
    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.evaluation.predictions import Predictions


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certified:
    """The result of a certification.

    Parameters
    ----------
    certificates
        Of the partial transfers (``transfer``), and of the patches: by the patch's name, or ``small`` where there are several.
    predictions
        On the text reported on, by model.
    calibration
        What was answered on the calibration text, where there is one.
    chosen
        The transfer that was chosen, where one was asked for and found.
    overlong
        Sentences left out as longer than the limit.
    computed, passes
        Tokens that were computed, and those that as many passes as there are models would compute.
    """

    certificates: Mapping[str, Certificate]
    predictions: Mapping[str, Predictions]
    calibration: Calibration | None
    chosen: RowPatch | None
    overlong: int
    computed: int
    passes: int

    def __repr__(self) -> str:
        return f"Certified({', '.join(self.certificates)}; {len(self.predictions)} models)"

    @property
    def certificate(self) -> Certificate:
        """The first certificate, which is the only one unless patches and transfers were certified together."""
        return next(iter(self.certificates.values()))

    def save(self, folder: str | Path) -> Path:
        """Write every certificate, the predictions on both texts, and the chosen transfer into a folder; return it."""
        folder = Path(folder).expanduser()
        for name, certificate in self.certificates.items():
            certificate.save(folder, "certificate" if len(self.certificates) == 1 else name)
        for name, predictions in self.predictions.items():
            predictions.save(folder / "predictions" / f"{name.replace('/', '_')}.parquet")
        if self.calibration is not None:
            self.calibration.save(folder / CALIBRATION_FOLDER)
        if self.chosen is not None:
            self.chosen.save(folder / "chosen")
        return folder
