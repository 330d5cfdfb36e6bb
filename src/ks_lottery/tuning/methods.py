"""What each tuning method trains: the rows that its selector chooses, and its default rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.presets import tune_preset
from ks_lottery.config.settings import TrainConfig
from ks_lottery.models.rows import trainable_rows
from ks_lottery.tickets.selectors import Basis, select_rows
from ks_lottery.tuning.tune_spec import TuneSpec, method_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tickets.tickets import Tickets


def default_rates(name: str) -> dict[str, float]:
    """Return learning rate and epochs of a method in the paper, which it has unless the user gives others.

    For `Method.fits_rows`, a rate that fits the model can take the place of this one (`ks_lottery.tuning.scale.fitted_config`).
    """
    method = method_named(name)
    return {"learning_rate": method.learning_rate, "epochs": method.epochs}


def defaults(
    preset: str | None, method: str, given: Mapping[str, Any], *, seed: int | None = None, max_tokens: int | None = None
) -> dict[str, Any]:
    """Return ``seed``, ``max_tokens`` and ``settings`` of a `TuneSpec`: what is given, else the preset's, else our defaults.

    Parameters
    ----------
    preset
        One of `ks_lottery.config.choices.PRESETS`, or None.
    given
        Fields of `TrainConfig` that the user gave.

    Raises
    ------
    UserError
        When the preset or method is not known, or does not fit what is given.
    """
    method_named(method)
    chosen: dict[str, Any] = {"seed": TuneSpec.seed, "max_tokens": TuneSpec.max_tokens, "settings": dict(given)}
    if preset is not None:
        own = {name: value for name, value in given.items() if value != getattr(TrainConfig, name)}
        chosen = tune_preset(preset, method, own)
        seed = None if seed == TuneSpec.seed else seed
        max_tokens = None if max_tokens == TuneSpec.max_tokens else max_tokens
    explicit = {"seed": seed, "max_tokens": max_tokens}
    return {**chosen, **{name: value for name, value in explicit.items() if value is not None}}


def method_rows(
    spec: TuneSpec,
    loaded: LoadedModel,
    examples: Sequence[Example],
    gradients: Callable[[], Attribution] | None = None,
) -> Tickets | None:
    """Return the rows that a method trains; None for a method that trains something else.

    All embedding methods are one idea, "train these rows and freeze the rest", with different rows.

    Parameters
    ----------
    gradients
        Measures the gradients of the original model, for a rule that needs them.

    Raises
    ------
    UserError
        When the tickets name a row that the model does not have, or something that the rule needs is missing.
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
        gradients=gradients,
        examples=lambda: examples,
        reachable=lambda: trainable_rows([e.sequence for e in examples], loaded.lm, spec.side),
    )
    return select_rows(spec.by or method_named(spec.method).selector, basis)
