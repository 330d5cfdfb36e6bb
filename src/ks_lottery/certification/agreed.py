"""The result of comparing models with a reference: what is guaranteed of each, or which one was chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.agree_spec import BOUNDED
from ks_lottery.certification.agreed_sections import agreed_sections, release_note
from ks_lottery.certification.calibration import CALIBRATION_FOLDER
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.store.content import ByContent, digest_content
from ks_lottery.store.files import read_json, write_json, write_json_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.certification.calibration import Calibration
    from ks_lottery.evaluation.outputs import Output
    from ks_lottery.report.section import Section

AGREED_FILE, GENERATED_FILE = "agreement.json", "generated.jsonl"

_FIELDS = (
    "reference", "candidates", "text", "plain", "sentences", "overlong", "loss", "guarantees", "choice", "fail_below",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Agreed(ByContent, Shown):
    """What is guaranteed of candidates against a reference, by finite-sample bounds that hold whatever the models are.

    Two are equal when all that `as_dict` returns is.

    Parameters
    ----------
    reference, candidates
        Names of the models.
    text
        What the text was read from.
    plain
        Whether it is plain text, without prompts.
    sentences, overlong
        Sentences that were drawn and computed, and sentences of the text that were left out as too long.
    loss
        Key of `ks_lottery.config.choices.AGREEMENT_LOSSES`: what the choice and `fail_below` go by.
    guarantees
        Of each candidate, as `Guarantee.as_dict` returns them, with ``model``; empty where one was to be chosen.
    choice
        What Learn then Test chose; None where nothing was to be chosen.
    fail_below
        What was asked for; None for nothing.
    manifest
        Of what it was made, by what settings.
    calibration, outputs
        The answers that the bounds rest on, and the generated outputs by model; None in a result that was opened.
    """

    reference: str
    candidates: Sequence[str]
    text: str
    plain: bool
    sentences: int
    overlong: int
    loss: str
    guarantees: Sequence[Mapping[str, Any]] = ()
    choice: Mapping[str, Any] | None = None
    fail_below: float | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])
    calibration: Calibration | None = None
    outputs: Mapping[str, Sequence[Output]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return one short line."""
        return f"Agreed({len(self.candidates)} models against {self.reference}, {self.sentences:,} sentences of {self.text})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `as_dict`."""
        return digest_content(self.as_dict(), {})

    @property
    def below(self) -> list[str]:
        """Candidates without a guarantee that 1 - loss is at least `fail_below`."""
        if self.fail_below is None:
            return []
        bounded, paired = BOUNDED[self.loss], self.loss == "accuracy"
        return [
            str(one["model"])
            for one in self.guarantees
            if one["bounded"] == bounded and one["lower"] + paired < self.fail_below
        ]

    @property
    def passed(self) -> bool:
        """Whether all that was asked for holds: no candidate is below `fail_below`, and one was chosen where one was to be."""
        return not self.below and (self.choice is None or self.choice["model"] is not None)

    @property
    def notes(self) -> list[str]:
        """One sentence for a release note of each candidate; of a choice the one that says what was chosen."""
        if self.choice is not None:
            return [str(self.choice["statement"])]
        return [release_note(self.reference, name, self.guarantees) for name in self.candidates]

    def sections(self) -> list[Section]:
        """Return the bounds or the choice, what they speak of, and the sentence for a release note."""
        return agreed_sections(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single answers, as plain values; ``passed``, ``below`` and ``notes`` included."""
        return {
            **{name: getattr(self, name) for name in _FIELDS},
            "candidates": list(self.candidates),
            "guarantees": [dict(one) for one in self.guarantees],
            "choice": None if self.choice is None else dict(self.choice),
            "passed": self.passed,
            "below": self.below,
            "notes": self.notes,
        }

    def save(self, folder: str | Path) -> Path:
        """Write the result, the answers that it rests on, and the generated outputs into a folder; return the JSON file.

        Parameters
        ----------
        folder
            Where to write ``agreement.json``, ``calibration/`` and, where outputs were generated, ``generated.jsonl``.
        """
        folder = Path(folder).expanduser()
        file = folder / AGREED_FILE
        write_json(file, {**self.manifest, **self.as_dict()})
        if self.calibration is not None:
            self.calibration.save(folder / CALIBRATION_FOLDER)
        if self.outputs:
            rows = [
                {
                    name: {"text": output.text, "ended": output.ended}
                    for name, output in zip(self.outputs, line, strict=True)
                }
                for line in zip(*self.outputs.values(), strict=True)
            ]
            write_json_lines(folder / GENERATED_FILE, rows)
        return file

    @classmethod
    def open(cls, path: str | Path) -> Agreed:
        """Read what `save` wrote. The single answers are not read.

        Parameters
        ----------
        path
            The JSON file, or the folder that it is in.

        Raises
        ------
        UserError
            When the file is missing or damaged, or holds something else.
        """
        path = Path(path).expanduser()
        file = path / AGREED_FILE if path.is_dir() else path
        about = read_json(file, "agreement")
        parts = ("kind", "format", "made_from", "settings", "versions")
        try:
            opened = cls(
                **{name: about[name] for name in _FIELDS},
                manifest={name: about[name] for name in parts if name in about},
            )
            same = opened.as_dict() == {name: about[name] for name in opened.as_dict()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file} is damaged: compare the models again") from error
        if not same:
            raise UserError(f"{file} is damaged: compare the models again")
        return opened
