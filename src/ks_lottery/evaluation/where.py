"""The noun `Where`: in which part of a text the rows of a patch act, with the controls that explain it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 (types of fields are read at run time)
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.evaluation.effects import Effect
from ks_lottery.evaluation.evaluation_figures import where_figure
from ks_lottery.evaluation.where_sections import conclusion, where_sections
from ks_lottery.report.notebook import Shown, to_html
from ks_lottery.report.vega import to_altair
from ks_lottery.store.content import ByContent, data_frame
from ks_lottery.store.files import read_json, write_json
from ks_lottery.store.manifest import digest_json, manifest
from ks_lottery.store.schema import MAKE_AGAIN, is_number

if TYPE_CHECKING:
    from altair import Chart, LayerChart
    from pandas import DataFrame

    from ks_lottery.report.section import Section

NOWHERE, EVERYWHERE = "nowhere", "everywhere"
"""Names of the original model and of the whole patch among the spans."""

FIELDS = ("sentences", "overlong", "rows", "translated", "tokens", "signatures", "notes", "made_from", "settings")
"""Fields beside the effects, as they are saved."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Where(ByContent, Shown):
    """What the rows of one patch do on one text, active in some spans of it alone.

    Two are equal when all figures are.

    Parameters
    ----------
    sentences, overlong
        Number of sentences that were measured, and of those that were left out as longer than the limit.
    rows
        Number of rows of the patch.
    spans
        An `Effect` for each combination of instruction, source and target, named by them; ``everywhere`` for all three, and
        ``nowhere``, the original model, for none.
    controls
        An `Effect` for each control; empty without controls.
    translated
        Number of sentences that were translated.
    tokens
        Tokens that one pass computes which shares its prefix (``pass``), that the spans took (``spans``), and that the controls
        took (``controls``).
    signatures
        Of the metrics of the translations, by metric; of one that could not be computed, why.
    notes
        What is missing and why, one sentence each.
    by_sentence
        For each combination of spans what each sentence adds (`Predictions.by_sentence`); empty where it was not asked for.
    made_from
        What identifies the ``base``, the ``patch`` and the ``text``.
    settings
        As in `WhereSpec`.
    """

    sentences: int
    overlong: int
    rows: int
    spans: Sequence[Effect]
    controls: Sequence[Effect] = ()
    translated: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    by_sentence: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    made_from: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return one short line."""
        alone = ", ".join(f"{e.name} {e.difference:+.4f}" for e in self.spans if e.name in {"instruction", EVERYWHERE})
        return f"Where({self.rows:,} rows on {self.sentences:,} sentences: {alone})"

    def __getitem__(self, name: str) -> Effect:
        """Return the effect of this name, of a span or of a control."""
        return next(effect for effect in (*self.spans, *self.controls) if effect.name == name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all figures."""
        content = self.as_dict()
        return digest_json({name: value for name, value in content.items() if name not in {"made_from", "settings"}})

    @property
    def ratio(self) -> float:
        """Tokens that the spans took, divided by those of one pass that shares its prefix."""
        return self.tokens["spans"] / self.tokens["pass"]

    @property
    def sentence(self) -> str:
        """What follows, in one sentence, from what was measured."""
        return conclusion(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain values, for JSON."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        for name in ("tokens", "signatures", "made_from", "settings"):
            plain[name] = dict(plain[name])
        return {
            **plain,
            "notes": list(self.notes),
            "by_sentence": {name: dict(added) for name, added in self.by_sentence.items()},
            "spans": [effect.as_dict() for effect in self.spans],
            "controls": [effect.as_dict() for effect in self.controls],
        }

    def to_pandas(self) -> DataFrame:
        """Return one row for each effect, of the spans and of the controls, with the fields of `Effect`.

        Raises
        ------
        UserError
            When pandas is not installed.
        """
        effects = [*self.spans, *self.controls]
        kinds = ["span"] * len(self.spans) + ["control"] * len(self.controls)
        columns = {name: [getattr(e, name) for e in effects] for name in Effect.__dataclass_fields__}
        return data_frame({"kind": kinds, **columns})

    def sections(self) -> list[Section]:
        """Return the spans, the translations, the controls, and what follows."""
        return where_sections(self.as_dict())

    def plot(self) -> Chart | LayerChart:
        """Return what remains of the gain with the rows active in some spans alone, as a chart of altair."""
        return to_altair(where_figure([effect.as_dict() for effect in self.spans]).spec)

    def save(self, path: str | Path) -> Path:
        """Write everything to `path` as JSON, whole or not at all, and return the path."""
        path = Path(path).expanduser()
        write_json(path, {**manifest("where", made_from=self.made_from, settings=self.settings), **self.as_dict()})
        return path

    @classmethod
    def open(cls, path: str | Path) -> Where:
        """Read what `save` wrote to `path`.

        Raises
        ------
        UserError
            When the file is missing, damaged, of another kind, or of a newer format.
        """
        saved = read_json(Path(path).expanduser(), "where")
        try:
            effects = {name: tuple(Effect.of(effect) for effect in saved[name]) for name in ("spans", "controls")}
            opened = cls(
                **effects, by_sentence=_added(saved.get("by_sentence", {})), **{name: saved[name] for name in FIELDS}
            )
            _ = repr(opened), to_html(opened.sections())  # what cannot be shown is damaged: say so here, not later
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{path}: what `where` saved is not whole: {MAKE_AGAIN}") from error
        return opened


def _added(saved: Any) -> dict[str, dict[str, list[float]]]:
    """Return what each sentence adds, read from a file; older files do not have it.

    Raises
    ------
    ValueError
        When it is something else than lists of as many numbers.
    """
    added = {str(name): {str(what): list(values) for what, values in lists.items()} for name, lists in saved.items()}
    every = [values for lists in added.values() for values in lists.values()]
    if any(len(values) != len(every[0]) or not all(map(is_number, values)) for values in every):
        raise ValueError("lists of different lengths, or something else than numbers")
    return added
