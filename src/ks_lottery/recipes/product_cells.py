"""Cells of the recipe `where` by product, each compared with the original model over seeds and sentences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.evaluation.where import EVERYWHERE, NOWHERE
from ks_lottery.recipes.system_comparison import compare_systems, kept_gain, same_positions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell

Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a product changes against the original model, over all seeds.

    Parameters
    ----------
    accuracy, loss
        Differences to the original.
    share, share_interval
        Share of the gain of another product, and its interval; None where that gain's own interval contains 0.
    """

    accuracy: CrossedDifference
    loss: CrossedDifference
    share: float | None = None
    share_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class ProductCells:
    """One product over all seeds, measured in one prompt.

    Parameters
    ----------
    name
        What the tables call it.
    rows
        Rows that it changes, with the first seed; None for the original model.
    trained_in, measured_in
        Prompts.
    way
        ``embed``, ``partial``, ``transfer`` or ``token-prompt``; None for the original model.
    system
        Rule or method.
    cells
        One a seed, with ``accuracy``, ``loss`` and ``sentences``.
    spans
        The same for each combination of spans, by its name; empty where it was not measured.
    located
        The cells of `where`, one a seed; empty where it was not measured.
    """

    name: str
    rows: int | None
    trained_in: str | None
    measured_in: str
    way: str | None
    system: str
    cells: Sequence[FinishedCell]
    spans: Mapping[str, Sequence[FinishedCell]]
    located: Sequence[FinishedCell]


def products_of(cells: Sequence[FinishedCell]) -> list[ProductCells]:
    """Return the products of one model and pair, in the order of their cells; seeds in ascending order."""
    groups: dict[tuple[Any, ...], list[FinishedCell]] = {}
    names = ("system", "size", "way", "trained_in", "measured_in")
    for cell in cells:
        if cell.about["figure"] != "origin":
            groups.setdefault(tuple(cell.about[name] for name in names), []).append(cell)
    return [_product(sorted(group, key=lambda cell: cell.about["seed"] or 0)) for group in groups.values()]


def _product(cells: Sequence[FinishedCell]) -> ProductCells:
    about = cells[0].about
    is_located = about["figure"] == "where"
    spans = {}
    if is_located:
        spans = {e["name"]: [_active_in(cell, e["name"]) for cell in cells] for e in cells[0].figures["spans"]}
    rows = None if about["way"] is None else cells[0].figures["rows"]
    return ProductCells(
        name=name_of(about), rows=rows, trained_in=about["trained_in"], measured_in=about["measured_in"],
        way=about["way"], system=about["system"], cells=spans[EVERYWHERE] if is_located else cells, spans=spans,
        located=cells if is_located else (),
    )  # fmt: skip


def _active_in(cell: FinishedCell, name: str) -> FinishedCell:
    """Return the figures of one combination of spans as those of a cell of their own."""
    effect = next(e for e in cell.figures["spans"] if e["name"] == name)
    figures = {part: effect[part] for part in ("rows", "accuracy", "loss")}
    return replace(cell, figures={**figures, "sentences": cell.figures["by_sentence"][name]})


def own_prompt(products: Sequence[ProductCells]) -> str | None:
    """Return the prompt that everything but the mixes is trained in; None where nothing was located."""
    return next((p.trained_in for p in products if p.spans), None)


def name_of(about: Mapping[str, Any]) -> str:
    """Return what tables call a product."""
    system, size = about["system"], about["size"]
    return {
        None: "the original model",
        "embed": "embed tuning",
        "partial": f"{size} rows by {system}",
        "transfer": f"{system} of embed tuning",
        "token-prompt": "token prompt in every place" if size is None else f"token prompt of {size} tokens",
        "rows": f"{size} rows by {system}",
    }[about["way"]]


def original_of(product: ProductCells, products: Sequence[ProductCells]) -> Sequence[FinishedCell]:
    """Return the one cell of the original model that a product is compared with, measured in the same way and prompt."""
    if product.spans:
        return product.spans[NOWHERE][:1]
    return next(p.cells for p in products if p.way is None and p.measured_in == product.measured_in)


def change_of(
    cells: Sequence[FinishedCell],
    original: Sequence[FinishedCell],
    *,
    whole: Sequence[FinishedCell] | None = None,
    resamples: int,
) -> Change | None:
    """Compare a product with the original; None where a prompt of another kind cuts the target sentences in other tokens.

    Parameters
    ----------
    whole
        Cells of the product whose gain the share is of; None for no share.
    """
    if not same_positions([*cells, *original]):
        return None
    accuracy, loss = (compare_systems(cells, original, name, resamples=resamples) for name in ("accuracy", "loss"))
    kept = None
    if whole is not None and len(whole) == len(cells) and same_positions([*whole, *original]):
        kept = kept_gain(cells, whole, original, resamples=resamples)
    share, interval = (None, None) if kept is None or kept[1] is None else kept
    return Change(accuracy=accuracy, loss=loss, share=share, share_interval=interval)


def excludes_zero(difference: CrossedDifference) -> bool:
    """Say whether the interval of a difference excludes 0."""
    return difference.low > 0.0 or difference.high < 0.0
