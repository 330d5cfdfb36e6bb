"""Whether a unit of XLIFF 1.2 is a finished translation, by its own state and by those of the tools that extend it."""

from __future__ import annotations

from typing import Any

from ks_lottery.corpus.markup import local_name

FINISHED = frozenset({"translated", "signed-off", "final"})
"""States of a target that are a translation; all others ask for more work."""

GUESSED = ("fuzzy-", "leveraged-mt", "mt-", "rejected-")
"""Beginnings of the state qualifiers that say that nobody translated this sentence."""

SDL_FINISHED = frozenset({"Translated", "ApprovedTranslation", "ApprovedSignOff"})
"""Values of ``conf`` of a segment of SDLXLIFF that are a translation; Draft, Rejected... and none are not."""

MEMOQ_UNFINISHED = frozenset({
    "NotStarted", "PartiallyEdited", "Pretranslated", "PreTranslated", "MachineTranslated", "AssembledFromFragments",
    "Rejected",
})  # fmt: skip
"""Values of memoQ's ``status`` of a unit that are no translation yet."""


def is_finished(unit: Any, target: Any, *, segmented: bool = True) -> bool:
    """Say whether a unit is a finished translation.

    It is where each mark that it has says so: the state of its target is translated, signed-off or final; the qualifier names
    no guess; without a state, the unit is not marked as not approved; every segment of SDLXLIFF is translated or approved, none
    a draft or rejected; memoQ's status is not one of unfinished work; Phrase's ``confirmed`` is not 0.

    Parameters
    ----------
    unit, target
        The lxml elements ``trans-unit`` and ``target``.
    segmented
        Ask the segments of SDLXLIFF too; False where each is judged by itself (`segments`).
    """
    state = target.get("state")
    return (
        not target.get("state-qualifier", "").startswith(GUESSED)
        and (state in FINISHED if state else unit.get("approved", "yes") == "yes")
        and (not segmented or all(segment.get("conf") in SDL_FINISHED for segment in _segments(unit)))
        and _foreign(unit, "status") not in MEMOQ_UNFINISHED
        and _foreign(unit, "confirmed") not in {"0", "false"}
    )


def segments(unit: Any, target: Any) -> list[tuple[Any, Any, bool]]:
    """Return the segments that SDLXLIFF divides a unit into.

    Returns
    -------
    list of tuple
        For each segment the marks with its source and its target, and whether it is a finished translation, as far as its own
        ``conf`` says; empty where the unit is not divided, or a segment is not marked in both.
    """
    source = next((child for child in unit if local_name(child) == "seg-source"), None)
    defined = _segments(unit)
    if source is None or len(defined) < 2:
        return []
    sides = [
        {m.get("mid"): m for m in e.iter() if local_name(m) == "mrk" and m.get("mtype") == "seg"}
        for e in (source, target)
    ]
    if any(segment.get("id") not in side for segment in defined for side in sides):
        return []
    return [(*(side[s.get("id")] for side in sides), s.get("conf") in SDL_FINISHED) for s in defined]


def _segments(unit: Any) -> list[Any]:
    """Return the definitions of segments that SDLXLIFF puts into a unit."""
    return [
        segment
        for child in unit
        if local_name(child) == "seg-defs"
        for segment in child
        if local_name(segment) == "seg"
    ]


def _foreign(unit: Any, name: str) -> str | None:
    """Return an attribute of another namespace than XLIFF's."""
    return next((value for key, value in unit.attrib.items() if key.endswith("}" + name)), None)
