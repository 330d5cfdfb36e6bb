"""Tickets: an ordered set of rows, and the rule that chose it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ks_lottery.config.choices import ATTRIBUTIONS, SCORES
from ks_lottery.errors import UserError
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.report.vega import to_altair
from ks_lottery.store.content import ByContent, array_form, data_frame, digest_content
from ks_lottery.store.files import read_json, write_json
from ks_lottery.store.manifest import manifest
from ks_lottery.store.schema import MAKE_AGAIN, is_number, is_whole, mapping, short, sources
from ks_lottery.store.schema import field as field_of
from ks_lottery.tickets.ticket_figures import scores_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from altair import Chart, LayerChart
    from pandas import DataFrame
    from peft import TrainableTokensConfig


class _Base(Protocol):
    """What of a checkpoint tickets are compared with."""

    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False, repr=False)
class Tickets(ByContent, Shown):
    """An ordered set of rows, and the rule that chose it.

    Two are equal when rows, order, rule and scores are; to compare the rows alone, compare ``ids``.

    Parameters
    ----------
    rows
        Rows, the most important first, shape (K,).
    rule
        Selector and its settings.
    scores
        What the selector knew of each row, one mapping a row.
    made_from
        Fingerprints.
    """

    rows: npt.NDArray[np.int64]
    rule: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]] = ()
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number K of rows."""
        return len(self.rows)

    def __repr__(self) -> str:
        rule = ", ".join(f"{name} {value}" for name, value in self.rule.items() if name != "of")
        return f"Tickets(rows={array_form(self.rows)}, {rule})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of rows, rule and scores."""
        scores = [dict(score) for score in self.scores] if any(self.scores) else []
        return digest_content([dict(self.rule), scores], {"rows": self.rows})

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The rows in ascending order, as patches and row modules take them."""
        return np.sort(self.rows)

    def __and__(self, other: Tickets) -> Tickets:
        """Return the rows in both, in this one's order."""
        return self._keep(np.isin(self.rows, other.rows), "and", other)

    def __sub__(self, other: Tickets) -> Tickets:
        """Return the rows in this one alone, in its order."""
        return self._keep(~np.isin(self.rows, other.rows), "minus", other)

    def __or__(self, other: Tickets) -> Tickets:
        """Return the rows in either: this one's, then those that the other adds."""
        more = ~np.isin(other.rows, self.rows)
        scores = (*self.scores, *(s for s, m in zip(other.scores, more, strict=True) if m))
        known = scores if len(self.scores) == len(self) and len(other.scores) == len(other) else ()
        rows = np.concatenate([self.rows, other.rows[more]])
        return replace(self, rows=rows, rule=self._combined("or", other), scores=known)

    def head(self, count: int) -> Tickets:
        """Return the first `count` rows."""
        return replace(self, rows=self.rows[:count], scores=self.scores[:count], rule={**self.rule, "head": count})

    def _keep(self, keep: npt.NDArray[np.bool_], operation: str, other: Tickets) -> Tickets:
        scores = [s for s, k in zip(self.scores, keep, strict=True) if k] if self.scores else ()
        return replace(self, rows=self.rows[keep], rule=self._combined(operation, other), scores=scores)

    def _combined(self, operation: str, other: Tickets) -> dict[str, Any]:
        return {"selector": operation, "of": [dict(self.rule), dict(other.rule)]}

    def to_peft_config(self, **settings: Any) -> TrainableTokensConfig:
        """Return a `peft.TrainableTokensConfig` that trains these rows, for people who train elsewhere.

        On a model with tied embeddings PEFT changes the output side too, which this project's own training does not.

        Parameters
        ----------
        settings
            More fields of the config, such as ``target_modules``; by default PEFT takes ``embed_tokens``.
        """
        from peft import TrainableTokensConfig

        return TrainableTokensConfig(token_indices=self.ids.tolist(), **settings)

    def sections(self, tokens: Mapping[int, str] | None = None, most: int | None = None) -> list[Section]:
        """Return the tickets as a table: their rows, tokens, and what the selector knew of each.

        Parameters
        ----------
        tokens
            Token strings by row.
        most
            Show only the first `most`; by default all.
        """
        known = [name for name in _SHOWN if self.scores and name in self.scores[0]]
        columns = [
            Column(title="row", form="d"),
            *([Column(title="token", cut="end")] if tokens else []),
            *(_SHOWN[name] for name in known),
        ]
        rows = [
            [row, *([tokens.get(row, "''")] if tokens else []), *(self.scores[place][name] for name in known)]
            for place, row in enumerate(self.rows[:most].tolist())
        ]
        return [Section(columns=columns, rows=rows, keys=2 if tokens else 1)]

    def plot(self, tokens: Mapping[int, str] | None = None, most: int = 40) -> Chart | LayerChart:
        """Return D, or the first other score, of the first `most` tickets (40) as a chart of altair, named by row and token.

        Parameters
        ----------
        tokens
            Token strings by row; None for rows alone.
        most
            Tickets that are shown, from the first.
        """
        return to_altair(scores_spec(self.rows[:most].tolist(), self.scores, _SHOWN, tokens))

    def to_pandas(self, tokens: Mapping[int, str] | None = None) -> DataFrame:
        """Return one row a ticket, in their order: row, token where it is given, and what the selector knew of it.

        Parameters
        ----------
        tokens
            Token strings by row, for a column ``token``; None for none.

        Raises
        ------
        UserError
            When pandas is not installed.
        """
        rows = self.rows.tolist()
        names = list(dict.fromkeys(name for score in self.scores for name in score))
        token = {} if tokens is None else {"token": [tokens.get(row, "''") for row in rows]}
        return data_frame({"row": self.rows, **token, **{n: [score.get(n) for score in self.scores] for n in names}})

    def save(self, path: str | Path, tokens: Sequence[str] | None = None) -> Path:
        """Write the rows with their scores as JSON, and return the path.

        Parameters
        ----------
        path
            File to write.
        tokens
            Token string of every row of the vocabulary, to write beside the rows; None for none.
        """
        path = Path(path).expanduser()
        listed: list[dict[str, Any]] = []
        for position, row in enumerate(self.rows.tolist()):
            token = {} if tokens is None else {"token": tokens[row]}
            listed.append({"row": row, **token, **(self.scores[position] if self.scores else {})})
        write_json(path, {**manifest("tickets", made_from=self.made_from, settings=self.rule), "rows": listed})
        return path

    @classmethod
    def open(cls, path: str | Path) -> Tickets:
        """Read what `save` wrote to `path`.

        Raises
        ------
        UserError
            When the file is missing, damaged, or not of tickets.
        """
        path = Path(path).expanduser()
        about = read_json(path, "tickets")
        listed = _listed(path, about)
        scores = [{k: v for k, v in row.items() if k not in {"row", "token"}} for row in listed]
        rows = np.array([row["row"] for row in listed], dtype=np.int64)
        made_from = sources(path, {"made_from": {}, **about})
        return cls(
            rows=rows, rule=mapping(path, {"settings": {}, **about}, "settings"), scores=scores, made_from=made_from
        )

    @staticmethod
    def tokens(path: str | Path) -> dict[int, str]:
        """Return the token strings by row that `save` wrote to `path`; empty where it was given none."""
        path = Path(path).expanduser()
        return {row["row"]: row["token"] for row in _listed(path, read_json(path, "tickets")) if "token" in row}

    def check_base(self, base: _Base, *, force: bool = False) -> None:
        """Refuse another base than the one that the tickets were selected on, as far as they say which that was.

        Parameters
        ----------
        base
            The base, an opened `Checkpoint`: its number of rows and its fingerprint are compared.
        force
            Let other weights pass, as long as they have the rows.

        Raises
        ------
        UserError
            When the weights differ, or a ticket is no row of the base.
        """
        known = None if force else fingerprint(self.made_from, "base")
        if known is not None and base.fingerprint != known:
            raise UserError(
                f"the tickets were selected on another base ({str(known)[:12]}) than {base.name} ({base.fingerprint[:12]}): "
                "give tickets that were selected on this one"
            )
        if len(self) and int(self.rows.max()) >= base.vocabulary:
            raise UserError(
                f"the tickets contain row {int(self.rows.max())}, but the embedding of {base.name} has {base.vocabulary:,} "
                "rows: give the tickets of this model"
            )


def fingerprint(made_from: Mapping[str, Any], what: str) -> str | None:
    """Return the fingerprint of what a manifest names; None where it does not say."""
    value = made_from.get(what)
    return value.get("fingerprint") if isinstance(value, dict) else value


def _listed(path: Path, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of a file of tickets, each with a row of its own and values that are plain.

    Raises
    ------
    UserError
        Naming the first entry that is something else.
    """
    listed: list[Any] = field_of(path, about, "rows", lambda value: isinstance(value, list), "a list of tickets")
    seen: set[int] = set()
    for place, entry in enumerate(listed, start=1):
        row: Any = entry.get("row") if isinstance(entry, dict) else None
        if not is_whole(row):
            raise UserError(
                f"{path}: ticket {place} is {short(entry)}, but must have a row, a whole number from 0: {MAKE_AGAIN}"
            )
        if row in seen:
            raise UserError(f"{path}: row {row} is there twice, the second time as ticket {place}: {MAKE_AGAIN}")
        seen.add(row)
        for name, value in entry.items():
            text = name == "token"
            if not (isinstance(value, str) if text else name == "row" or value is None or is_number(value)):
                wanted = "a text" if text else "a number"
                raise UserError(
                    f"{path}: {name} of ticket {place} is {short(value)}, but must be {wanted}: {MAKE_AGAIN}"
                )
    return listed


_SHOWN = {
    "statistic": Column(title="D", form=".4f"),
    "log_pvalue": Column(title="p", form="pvalue"),
    "frequency": Column(title="frequency", form="integer"),
    "occurrences": Column(title="occurrences", form="integer"),
    **{name: Column(title=name, form=".3g") for name in (*SCORES, *ATTRIBUTIONS) if name != "ks"},
}
"""What a table of tickets shows of what a selector knew."""
