"""What each method trains, and the paper's settings for it: learning rate, epochs, and the shape of each adapter.

Must never import torch: the help of `tune` is written from this file.
"""

from __future__ import annotations

from dataclasses import dataclass

from ks_lottery.errors import UserError

DEMO_MODEL = "asset:smollm2-135m-instruct"
"""The embedded model, at whose width the paper's learning rate of embed tuning moves nothing that the test sees."""

DEMO_RATE = 1e-2
"""Learning rate there for every method that trains rows (docs/method.md, Scale)."""


@dataclass(frozen=True)
class Preset:
    """A method: what it trains, and its defaults in the paper.

    Parameters
    ----------
    kind
        ``rows`` of the embedding, ``full`` (the model's own parameters), or ``adapter`` (PEFT).
    trains
        What is trained, for people.
    learning_rate, epochs
        Section 4 of the paper: 2e-5 for 3 epochs (full, LoRA, embed tuning), 1e-2 for 5 (partial, prefix, random tuning).
    """

    kind: str
    trains: str
    learning_rate: float
    epochs: float


PRESETS: dict[str, Preset] = {
    "embed": Preset("rows", "every row that the text reaches", 2e-5, 3),
    "partial": Preset("rows", "the tickets alone", 1e-2, 5),
    "frequency": Preset("rows", "the tokens most frequent in --corpus", 1e-2, 5),
    "occurrence": Preset("rows", "the tokens most frequent in the rendered examples", 1e-2, 5),
    "random": Preset("rows", "rows drawn from the whole vocabulary", 1e-2, 5),
    "random-reachable": Preset("rows", "rows drawn from those that the text reaches", 1e-2, 5),
    "frozen": Preset("rows", "every row that the text reaches but the first tickets", 2e-5, 3),
    "full": Preset("full", "every parameter, or those of --layers", 2e-5, 3),
    "lora": Preset("adapter", "LoRA of rank 8 on the query and value projections", 2e-5, 3),
    "qlora": Preset("adapter", "LoRA of rank 16 on query, key, value and output projections, over 4 bits", 2e-5, 3),
    "prefix": Preset("adapter", "10 virtual keys and values in every layer", 1e-2, 5),
    "prompt": Preset("adapter", "10 virtual tokens in the input layer", 1e-2, 5),
}
"""Name of a method to what it is. What the paper does not name: QLoRA is set as LoRA, frozen as embed, prompt as prefix."""

VIRTUAL_TOKENS = 10
"""Of prefix and prompt tuning: 10 x 4,096 is the 0.04M of table 2."""

LORA_RANK = {"lora": 8, "qlora": 16}
"""Ranks at which table 2 comes out; the paper names none."""

LORA_ALPHA = 16
"""Scale of the LoRA update (as QLoRA and Alpaca-LoRA); the paper names none."""


def preset(method: str) -> Preset:
    """Return what a method is.

    Raises
    ------
    UserError
        When there is no such method.
    """
    if method not in PRESETS:
        raise UserError(f"method {method} is not known; the methods are {', '.join(PRESETS)}")
    return PRESETS[method]


def default_rates(method: str, model: str) -> dict[str, float]:
    """Return learning rate and epochs that a method has unless the user gives others.

    Parameters
    ----------
    model
        What the user called the model: with the embedded one, rows are trained at the demo's learning rate.
    """
    of = preset(method)
    rate = DEMO_RATE if of.kind == "rows" and model == DEMO_MODEL else of.learning_rate
    return {"learning_rate": rate, "epochs": of.epochs}
