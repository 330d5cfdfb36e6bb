"""What the files of a certificate must contain, checked before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.errors import UserError
from ks_lottery.store.schema import MAKE_AGAIN, is_number, is_whole, real_column, short, whole_column

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    Check = Callable[[Any], bool]
    Form = tuple[Check, str] | dict[str, "Form"] | list["Form"]


def _optional(form: tuple[Check, str]) -> tuple[Check, str]:
    return (lambda value: value is None or form[0](value)), f"{form[1]} or null"


TEXT = (lambda value: isinstance(value, str)), "a text"
COUNT = is_whole, "a whole number from 0"
NUMBER = is_number, "a number"
SHARE = (lambda value: is_number(value, 0, 1)), "a number from 0 to 1"
PAIR = (
    (lambda v: isinstance(v, list) and len(v) == 2 and all(map(is_number, v)) and v[0] <= v[1]),
    "two numbers that rise",
)
COUNTED = (lambda value: value == "all" or is_whole(value)), "a whole number or all"
OBJECT = (lambda value: isinstance(value, dict)), "an object"

AUDIT: Form = {
    "accuracy": SHARE, "verified": SHARE, "positions": COUNT, "violations": COUNT, "rate": SHARE, "violation_interval": PAIR,
}  # fmt: skip
RULES: Form = {"theorem": AUDIT, "algorithm1": AUDIT, "both": AUDIT}
FULL: Form = {"*": {"above": _optional(SHARE), "tickets": _optional(COUNT)}}
CERTIFICATE: dict[str, Form] = {
    "small": TEXT, "tau": TEXT, "positions": COUNT, "sentences": COUNT,
    "counted": {"bound": COUNTED, "guarantee": _optional(COUNTED)},
    "original_accuracy": SHARE, "tuned_accuracy": SHARE, "half_gap_range": PAIR, "original_half_gap_range": PAIR,
    "full": FULL, "original_full": FULL,
    "levels": [{
        "name": TEXT, "alpha": _optional(SHARE), "tickets": COUNT, "prediction_accuracy": SHARE, "agreement": SHARE,
        "bounds": {"*": {"tau": NUMBER, "rules": RULES}},
    }],
    "worst": [{
        "source": TEXT, "so_far": TEXT, "wanted": TEXT, "half_gap": NUMBER, "answers": {"*": TEXT}, "taus": {"*": NUMBER},
    }],
    "guarantees": [{
        "model": TEXT, "bounded": TEXT, "lower": SHARE, "observed": SHARE, "delta": SHARE, "positions": _optional(COUNT),
        "statement": TEXT, "pool": {"how": TEXT},
    }],
    "made_from": OBJECT,
}  # fmt: skip
"""Keys of the JSON file; a dictionary with ``*`` is one of any keys, and a list one of any length."""

CHOICE: Form = {
    "sizes": [COUNT], "observed": [SHARE], "pvalues": [SHARE], "chosen": _optional(COUNT), "passed": COUNT, "statement": TEXT,
}  # fmt: skip


def check_content(path: Path, content: Mapping[str, Any]) -> None:
    """Check the sums of a certificate.

    Raises
    ------
    UserError
        Naming the first key that is missing or is something else.
    """
    _check(path, "", content, {"choice": (lambda _: True, ""), **CERTIFICATE})
    bounds = [level["bounds"] for level in content["levels"]]
    names = [level["name"] for level in content["levels"]]
    if not bounds or len(set(names)) < len(names) or any("empirical" not in bound for bound in bounds):
        raise UserError(f"{path}: its small models do not each have a name and an empirical tau: {MAKE_AGAIN}")
    if any(content["tau"] not in content[name] for name in ("full", "original_full")):
        raise UserError(f"{path}: its tau is {short(content['tau'])}, but it has no results for this tau: {MAKE_AGAIN}")
    if any(guarantee["model"] not in names for guarantee in content["guarantees"]):
        raise UserError(f"{path}: a guarantee is of a small model that it does not have: {MAKE_AGAIN}")
    if any(not worst["answers"] or worst["answers"].keys() - worst["taus"].keys() for worst in content["worst"]):
        raise UserError(f"{path}: an example does not say what each small model answers: {MAKE_AGAIN}")
    choice = content["choice"]
    if choice is not None:
        _check(path, "choice", choice, CHOICE)
        if not len(choice["sizes"]) == len(choice["observed"]) == len(choice["pvalues"]):
            raise UserError(f"{path}: its choice has lists of different lengths: {MAKE_AGAIN}")


def _check(path: Path, where: str, value: Any, form: Form) -> None:
    wanted = form[1] if isinstance(form, tuple) else "an object" if isinstance(form, dict) else "a list"
    fits = form[0](value) if isinstance(form, tuple) else isinstance(value, type(form))
    if not fits:
        raise UserError(f"{path}: {where} is {short(value)}, but must be {wanted}: {MAKE_AGAIN}")
    if isinstance(form, list):
        for number, item in enumerate(value, start=1):
            _check(path, f"entry {number} of {where}", item, form[0])
    elif isinstance(form, dict):
        for key in value if "*" in form else form:
            if key not in value:
                raise UserError(f"{path} has no {f'{key} in {where}' if where else key}: {MAKE_AGAIN}")
            _check(path, f"{where}.{key}".lstrip("."), value[key], form.get("*", form.get(key, TEXT)))


def checked_columns(path: Path, columns: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the positions of a certificate: one entry for each small model and position.

    Raises
    ------
    UserError
        When a column is missing, of another type or out of range, or the entries are not those of the small models.
    """
    checked: dict[str, npt.NDArray[Any]] = dict(columns)
    for name in ("sentence", "position", "label", "tuned", "small"):
        checked[name] = whole_column(path, columns, name)
    checked["alpha"] = real_column(path, columns, "alpha", low=0.0, high=1.0, undefined=True)
    for name in ("half_gap_tuned", "half_gap_original"):
        checked[name] = real_column(path, columns, name, low=-1.0, high=1.0)
    marks = [f"{rule}_{kind}" for kind in content["levels"][0]["bounds"] for rule in ("theorem", "algorithm1", "both")]
    for name in marks:
        if name not in columns or np.asarray(columns[name]).dtype != np.bool_:
            raise UserError(f"{path} has no column {name} of true and false: {MAKE_AGAIN}")
    models = [level["name"] for level in content["levels"]]
    given, each = list(columns.get("model", ())), content["positions"]
    if len(given) != each * len(models) or given != [name for name in models for _ in range(each)]:
        raise UserError(f"{path} does not have {each:,} positions of each small model: {MAKE_AGAIN}")
    return checked
