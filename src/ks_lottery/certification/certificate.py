"""A certificate: what each of three taus and three rules certifies of a small model, what was audited, what is guaranteed.

Must never call the bound a guarantee: it holds under the theorem's assumptions, which no deep network is known to meet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certificate_content import check_content, checked_columns
from ks_lottery.certification.certificate_figures import alpha_figure
from ks_lottery.certification.certificate_sections import certificate_sections
from ks_lottery.report.notebook import Shown
from ks_lottery.report.vega import to_altair
from ks_lottery.store.content import ByContent, data_frame, digest_content
from ks_lottery.store.files import read_json, read_table, write_json, write_table
from ks_lottery.store.manifest import manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from altair import Chart, LayerChart
    from pandas import DataFrame

    from ks_lottery.report.section import Section

MEANING = (
    "A bound under the assumptions of theorem 2 (each row's shift taken alone, a smooth model), not a guarantee; "
    "violations counts the certified positions that the small model answers differently."
)


@dataclass(frozen=True)
class Audit:
    """One rule at one tau: what it certifies, and where the small model disagrees.

    Parameters
    ----------
    accuracy
        Certified accuracy: share of all positions that are certified.
    verified
        Share of all positions whose half gap exceeds tau: the gap that the rule goes by, of the tuned or the original model.
    positions, violations
        Certified positions, and those of them that the small model answers differently.
    rate
        Violations over certified positions; 0 where there are none.
    violation_interval
        95% Clopper-Pearson interval of that rate, as if positions were independent, which those of a sentence are not.
    """

    accuracy: float
    verified: float
    positions: int
    violations: int
    rate: float
    violation_interval: tuple[float, float]


@dataclass(frozen=True)
class Bound:
    """One tau, and what each rule verifies and certifies with it."""

    tau: float
    rules: Mapping[str, Audit]


@dataclass(frozen=True)
class Level:
    """The certificate of one small model.

    Parameters
    ----------
    name, alpha
        As in `Small`.
    tickets
        Number of rows that it has from tuning.
    prediction_accuracy
        Share of positions that the small model answers as the reference.
    agreement
        Share of positions that the small model answers as the tuned one.
    bounds
        By kind of tau.
    """

    name: str
    alpha: float | None
    tickets: int
    prediction_accuracy: float
    agreement: float
    bounds: Mapping[str, Bound]


_SUMS = (
    "small", "tau", "positions", "sentences", "counted", "original_accuracy", "tuned_accuracy", "half_gap_range", "full",
    "original_half_gap_range", "original_full",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Certificate(ByContent, Shown):
    """What is certified, per position and in sum, by which bound, with which tau; what was audited; what is guaranteed.

    Two are equal when sums and positions are.

    Parameters
    ----------
    small
        Name of the small models: ``transfer``, that of a patch, or ``small`` for several.
    tau
        The kind of tau that reports show; the others are there too.
    positions, sentences
        Number of target positions that count, and of the sentences that they are in.
    original_accuracy, tuned_accuracy
        Share of positions that the original and the tuned model answer as the reference, in [0, 1].
    counted
        How many first positions of a sentence count, a number or ``all``: for the ``bound`` and its audit, and for a
        ``guarantee``, None where there is none.
    half_gap_range
        Smallest and largest (p_A - p_B) / 2 of the tuned model, s_min and s_max of section 4.2.
    full
        What verifies every position (tau(alpha) < s_min), by kind of tau: see `full_verification`.
    levels
        One `Level` for each small model.
    columns
        One entry for each small model and position, by name: ``model``, ``alpha``, ``sentence``, ``position``, ``label``,
        ``tuned``, ``small``, the half gaps, and whether a rule certifies it at a tau (``theorem_empirical``, ...).
    made_from
        Fingerprints of scan, text and patches.
    original_half_gap_range, original_full
        The same for the gaps of the original model, which the rules ``algorithm1`` and ``both`` go by.
    worst
        Certified positions that a small model answers differently, the largest half gap first; see `audit.worst`.
    guarantees
        Finite-sample guarantees, by model, which hold whatever the model is; see `guarantee`.
    choice
        The ticket set that Learn then Test chose, where that was asked for; see `choice`.
    """

    small: str
    tau: str
    positions: int
    sentences: int
    counted: Mapping[str, int | str | None]
    original_accuracy: float
    tuned_accuracy: float
    half_gap_range: tuple[float, float]
    full: Mapping[str, Mapping[str, float | int | None]]
    original_half_gap_range: tuple[float, float]
    original_full: Mapping[str, Mapping[str, float | int | None]]
    levels: tuple[Level, ...]
    columns: Mapping[str, npt.NDArray[Any]]
    made_from: Mapping[str, Any]
    worst: Sequence[Mapping[str, Any]] = ()
    guarantees: Sequence[Mapping[str, Any]] = ()
    choice: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        what = f"{self.small}: {len(self.levels)} small models, tau {self.tau}"
        return f"Certificate({what}, {self.positions:,} positions of {self.sentences:,} sentences)"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the sums and of every position."""
        return digest_content(self.as_dict(), self.columns)

    def sections(self, rule: str = "theorem", examples: int = 5) -> list[Section]:
        """Return bound, audit and guarantees.

        Parameters
        ----------
        rule
            Rule that is shown: ``theorem``, ``algorithm1`` or ``both``.
        examples
            Number of worst examples.
        """
        return certificate_sections(self.as_dict(), f"Certificate of {self.small}", rule=rule, examples=examples)

    def plot(self, rule: str = "theorem") -> Chart | LayerChart:
        """Return accuracies, agreement and tau by alpha (figures 4 and 7), under a `rule`, as a chart of altair."""
        return to_altair(alpha_figure(self.as_dict(), rule).spec)

    def to_pandas(self, *, positions: bool = False) -> DataFrame:
        """Return one row a small model, tau and rule; see `lines`.

        Parameters
        ----------
        positions
            Return one row a small model and position instead; see ``columns``.

        Raises
        ------
        UserError
            When pandas is not installed.
        """
        return data_frame(self.columns if positions else self.lines())

    def as_dict(self) -> dict[str, Any]:
        """Return the certificate in sum, without its positions."""
        return {
            "meaning": MEANING,
            **{name: getattr(self, name) for name in _SUMS},
            "levels": [asdict(level) for level in self.levels],
            "worst": list(self.worst),
            "guarantees": list(self.guarantees),
            "choice": None if self.choice is None else dict(self.choice),
        }

    def lines(self) -> dict[str, list[Any]]:
        """Return the sums as a flat table, a line for each small model, tau and rule: tables 5 and 7, figures 4 and 7."""
        lines: list[dict[str, Any]] = [
            {
                "model": level.name, "alpha": level.alpha, "tickets": level.tickets, "kind": kind, "tau": bound.tau,
                "verified": audit.verified, "rule": rule, "original_accuracy": self.original_accuracy,
                "tuned_accuracy": self.tuned_accuracy, "certified_accuracy": audit.accuracy,
                "prediction_accuracy": level.prediction_accuracy, "agreement": level.agreement,
                "certified_positions": audit.positions, "violations": audit.violations, "violation_rate": audit.rate,
                "violation_low": audit.violation_interval[0], "violation_high": audit.violation_interval[1],
            }
            for level in self.levels for kind, bound in level.bounds.items() for rule, audit in bound.rules.items()
        ]  # fmt: skip
        return {name: [line[name] for line in lines] for name in lines[0]}

    @staticmethod
    def files(folder: str | Path, name: str = "certificate") -> list[Path]:
        """Return what `save` writes into `folder` under `name`: the sums, the positions, and the sums as a table."""
        return [Path(folder).expanduser() / f"{name}{ending}" for ending in (".json", ".parquet", "-levels.parquet")]

    def save(self, folder: str | Path, name: str = "certificate") -> Path:
        """Write the sums as JSON and, a line for each model, tau and rule, as Parquet; and the positions as Parquet.

        Parameters
        ----------
        folder
            Where to write.
        name
            Beginning of the names of the files.

        Returns
        -------
        Path
            The JSON file, from which `open` reads the certificate.
        """
        about = manifest("certificate", made_from=self.made_from, settings={"tau": self.tau, "small": self.small})
        files = self.files(folder, name)
        write_json(files[0], {**about, **self.as_dict()})
        write_table(files[1], self.columns, about)
        write_table(files[2], self.lines(), {**about, "kind": "certificate-levels"})
        return files[0]

    @classmethod
    def open(cls, path: str | Path) -> Certificate:
        """Read what `save` wrote.

        Parameters
        ----------
        path
            The JSON file, or the folder that it is in where it is called ``certificate.json``.

        Raises
        ------
        UserError
            When a file is missing or damaged, does not contain a certificate, or was written by a newer version.
        """
        path = Path(path).expanduser()
        files = cls.files(path) if path.is_dir() else cls.files(path.parent, path.stem)
        about = read_json(files[0], "certificate")
        check_content(files[0], about)
        columns, _ = read_table(files[1], "certificate")
        columns = checked_columns(files[1], columns, about)
        sums: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in about.items() if name in _SUMS
        }
        return cls(
            **sums,
            levels=tuple(_level(level) for level in about["levels"]),
            columns=columns,
            made_from=about["made_from"],
            worst=about["worst"],
            guarantees=about["guarantees"],
            choice=about["choice"],
        )


def _level(content: Mapping[str, Any]) -> Level:
    bounds = {
        kind: Bound(bound["tau"], {rule: _audit(audit) for rule, audit in bound["rules"].items()})
        for kind, bound in content["bounds"].items()
    }
    rest: dict[str, Any] = {name: value for name, value in content.items() if name != "bounds"}
    return Level(**rest, bounds=bounds)


def _audit(content: Mapping[str, Any]) -> Audit:
    low, high = content["violation_interval"]
    rest: dict[str, Any] = {name: value for name, value in content.items() if name != "violation_interval"}
    return Audit(**rest, violation_interval=(low, high))
