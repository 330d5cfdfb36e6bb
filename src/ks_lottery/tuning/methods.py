"""What each tuning method trains: the rows that its selector chooses, and its default rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.config.choices import DEFAULT_MODEL, DEMO_RATE
from ks_lottery.models.rows import trainable_rows
from ks_lottery.tickets.selectors import Basis, select_rows
from ks_lottery.tuning.tune_spec import method_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.tune_spec import TuneSpec


def default_rates(name: str, model: str) -> dict[str, float]:
    """Return learning rate and epochs that a method has unless the user gives others.

    Parameters
    ----------
    model
        What the user called the model: with the embedded one, rows are trained at the demo's learning rate.
    """
    method = method_named(name)
    rate = DEMO_RATE if method.kind == "rows" and model == DEFAULT_MODEL else method.learning_rate
    return {"learning_rate": rate, "epochs": method.epochs}


def method_rows(spec: TuneSpec, loaded: LoadedModel, examples: Sequence[Example]) -> Tickets | None:
    """Return the rows that a method trains; None for a method that trains something else.

    All embedding methods are one idea, "train these rows and freeze the rest", with different rows.

    Raises
    ------
    UserError
        When the tickets name a row that the model does not have.
    """
    if spec.kind != "rows":
        return None
    tickets = spec.tickets
    basis = Basis(
        vocabulary=loaded.checkpoint.vocabulary,
        size=len(tickets) if spec.size is None and tickets is not None else spec.size,
        seed=spec.seed,
        tickets=tickets,
        frequencies=spec.frequencies or None,
        examples=lambda: examples,
        reachable=lambda: trainable_rows([e.sequence for e in examples], loaded.lm, spec.side),
    )
    return select_rows(method_named(spec.method).selector, basis)
