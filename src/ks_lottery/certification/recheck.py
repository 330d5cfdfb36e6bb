"""Recomputes every guarantee and the choice of saved certificates from the calibration predictions beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.calibration import CALIBRATION_FILE, CALIBRATION_FOLDER, Calibration
from ks_lottery.certification.candidates import TUNED
from ks_lottery.errors import UserError
from ks_lottery.report.section import Column, Section
from ks_lottery.store.files import read_json
from ks_lottery.store.run_folder import RunFolder
from ks_lottery.store.work_folder import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

CLOSE = 1e-9
"""Largest difference of two numbers that count as the same: another version of a library may round otherwise."""


NONE = "none"
"""Small model of a choice that chose none."""


@dataclass(frozen=True, kw_only=True)
class Recheck:
    """One guarantee or choice of a saved certificate, as it is saved and as it is recomputed.

    Parameters
    ----------
    certificate
        Name of the certificate's file.
    model
        Small model; for a choice the chosen one, as saved.
    claim
        What is bounded, or ``choice``.
    saved, computed
        As in the certificate.
    """

    certificate: str
    model: str
    claim: str
    saved: Mapping[str, Any]
    computed: Mapping[str, Any]

    @property
    def same(self) -> bool:
        """Whether the two are equal in every field."""
        return _same(self.saved, self.computed)

    @property
    def differing(self) -> list[str]:
        """Names of the fields that differ."""
        names = dict.fromkeys([*self.saved, *self.computed])
        return [name for name in names if not _same(self.saved.get(name), self.computed.get(name))]


def recheck(folder: str | Path) -> list[Recheck]:
    """Recompute what calibration guarantees or chooses, from the files of a folder alone.

    Parameters
    ----------
    folder
        What `certify` wrote, or a run.

    Raises
    ------
    UserError
        When the folder has no certificate with calibration, a file is missing or damaged, or the files are from different runs.
    """
    path = Path(folder)
    places = [path, RunFolder(path).certificates]
    place = next((at for at in places if (at / CALIBRATION_FOLDER / CALIBRATION_FILE).is_file()), None)
    if place is None:
        raise UserError(
            f"{folder} holds no {CALIBRATION_FOLDER}/{CALIBRATION_FILE}: give a run, or what certify --calibration wrote"
        )
    calibration = Calibration.open(place / CALIBRATION_FOLDER)
    results: list[Recheck] = []
    for file in sorted(file for file in place.glob("*.json") if file.name != MANIFEST_FILE):
        content = read_json(file, "certificate")
        if content["made_from"]["tuned_patch"] != calibration.answers[TUNED].made_from["patch"]:
            raise UserError(f"{file} is of another tuned patch than the calibration predictions beside it")
        results += [*_guarantees(file, content, calibration), *_choice(file, content, calibration)]
    if not results:
        raise UserError(f"{place} holds no guarantee and no choice to recompute")
    return results


def recheck_section(results: list[Recheck]) -> Section:
    """Return saved and recomputed figures side by side: of a guarantee its bound, of a choice the chosen set."""
    several = len({one.certificate for one in results}) > 1
    by_alpha = all(_is_number(one.model) or one.model == NONE for one in results)
    columns = [
        *([Column(title="certificate")] if several else []),
        Column(title="alpha" if by_alpha else "small model"),
        Column(title="claim"),
        *(Column(title=title, align="right") for title in ("saved", "recomputed")),
        Column(title="same"),
    ]
    rows: list[list[Any]] = [
        [
            *([one.certificate] if several else []),
            one.model,
            one.claim,
            _figure(one.saved),
            _figure(one.computed),
            "yes" if one.same else f"no: {', '.join(one.differing)}",
        ]
        for one in results
    ]
    wrong = sum(not one.same for one in results)
    said = (
        f"{len(results):,} recomputed, {wrong:,} of them differ."
        if wrong
        else f"{len(results):,} recomputed: all equal."
    )
    return Section(columns=columns, rows=rows, sentences=[said], keys=2 + several)


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _guarantees(file: Path, content: Mapping[str, Any], calibration: Calibration) -> list[Recheck]:
    saved: list[dict[str, Any]] = content["guarantees"]
    models = list(dict.fromkeys(str(one["model"]) for one in saved))
    _check_models(file, models, calibration)
    computed = {(one["model"], one["bounded"]): one for one in calibration.guarantees(models)}
    return [
        Recheck(
            certificate=file.stem, model=one["model"], claim=one["bounded"], saved=one,
            computed=computed.get((one["model"], one["bounded"]), {}),
        )
        for one in saved
    ]  # fmt: skip


def _choice(file: Path, content: Mapping[str, Any], calibration: Calibration) -> list[Recheck]:
    saved: dict[str, Any] | None = content["choice"]
    if saved is None:
        return []
    if calibration.epsilon is None:
        raise UserError(f"{file} has a choice, but its calibration was asked for none")
    models: list[str] = saved["models"]
    _check_models(file, models, calibration)
    choice = calibration.choice(dict(zip(models, saved["sizes"], strict=True)))
    computed = {
        **choice.as_dict(),
        "models": models,
        "model": None if choice.chosen is None else models[choice.chosen],
    }
    model = str(saved["model"] or NONE)
    return [Recheck(certificate=file.stem, model=model, claim="choice", saved=saved, computed=computed)]


def _check_models(file: Path, models: list[str], calibration: Calibration) -> None:
    missing = [name for name in models if name not in calibration.answers]
    if missing:
        raise UserError(f"{file}: there are no calibration predictions of {missing[0]} beside it")


def _figure(content: Mapping[str, Any]) -> str:
    if "lower" in content:
        return f">= {content['lower']:.6f}"
    size = content.get("size")
    return "none" if size is None else f"{size:,} tickets"


def _same(one: Any, two: Any) -> bool:
    """Compare plain values; floats up to `CLOSE`."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(_same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=0.0, abs_tol=CLOSE)
    return one == two
