"""What follows from the cells of the recipe `where`, in sentences; more or less only where a paired interval excludes 0."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ks_lottery.config.choices import SPANS
from ks_lottery.evaluation.where import NOWHERE
from ks_lottery.recipes.product_cells import change_of, excludes_zero, original_of, own_prompt
from ks_lottery.recipes.system_comparison import LEAST_SEEDS, compare_systems, how_paired, same_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.recipes.product_cells import Change, ProductCells
    from ks_lottery.stats.crossed import CrossedDifference
    from ks_lottery.store.cells import FinishedCell


def findings(products: Sequence[ProductCells], *, resamples: int) -> list[str]:
    """Return what follows for one model and pair.

    Parameters
    ----------
    products
        All its products.
    resamples
        Resamples of seeds and sentences behind each interval.
    """
    own = own_prompt(products)
    located = [p for p in products if p.spans]
    embed = next((p for p in located if p.way == "embed"), None)
    said = [sentence for product in located for sentence in _spans(product, resamples)]
    if embed is not None:
        here = [p for p in products if p.measured_in == embed.measured_in and p.trained_in == own]
        halves = [p for p in here if p.way == "transfer"]
        limited = [p for p in here if p.system.endswith("outside the template")]
        free = [p for p in here if limited and limited[0].system.startswith(f"{p.system} ")]
        for pair in (halves, [*free, *limited]):
            if len(pair) == 2:
                said += _two_parts(pair[0], pair[1], embed, products, resamples)
    return [*said, *_mixes(products, own, resamples), *_cost(located)]


def paired(one: Sequence[FinishedCell], other: Sequence[FinishedCell], resamples: int) -> CrossedDifference | None:
    """Return the accuracy of a product less that of another; None where their targets have other tokens."""
    if len(one) != len(other) or not same_positions([*one, *other]):
        return None
    return compare_systems(one, other, "accuracy", resamples=resamples)


def compared(one: str, other: str, difference: CrossedDifference | None) -> str:
    """Say whether accuracy is higher with one of two, as far as the paired interval shows it.

    >>> from ks_lottery.stats.crossed import CrossedDifference
    >>> shown = CrossedDifference(estimate=-0.02, low=-0.03, high=-0.01, pvalue=0.001, seeds=5, sentences=100)
    >>> compared("template rows", "all other rows", shown)
    'Accuracy is lower with template rows than with all other rows: -0.0200 (-0.0300 to -0.0100).'
    """
    if difference is None:
        return f"{_begin(one)} and {other} answer other tokens, so that they are not compared."
    figures = _figures(difference)
    if not excludes_zero(difference):
        return f"No difference in accuracy is shown between {one} and {other}: {figures}."
    word = "higher" if difference.estimate > 0 else "lower"
    return f"Accuracy is {word} with {one} than with {other}: {figures}."


def how_compared(finished: Sequence[FinishedCell]) -> list[str]:
    """Say how the intervals were made, and what they do not allow to say."""
    seeds = len({cell.about["seed"] for cell in finished} - {None})
    sentences = [f"{how_paired(finished)} No comparison was fixed beforehand: all are descriptive."]
    if seeds < LEAST_SEEDS:
        sentences.append(f"{seeds} seed{'s' if seeds > 1 else ''}: a claim needs {LEAST_SEEDS}.")
    return sentences


def _spans(product: ProductCells, resamples: int) -> list[str]:
    """Say what of a product remains in each span alone, and which spans differ."""
    original = product.spans[NOWHERE][:1]
    whole = change_of(product.cells, original, whole=product.cells, resamples=resamples)
    assert whole is not None  # noqa: S101 (one cell has both)
    alone = {span: product.spans[span] for span in SPANS}
    kept = {span: change_of(cells, original, whole=product.cells, resamples=resamples) for span, cells in alone.items()}
    if whole.share_interval is None:
        changes = ", ".join(
            f"{_figures(change.accuracy)} in the {span} alone" for span, change in kept.items() if change
        )
        said = [
            f"{_begin(product.name)} changes accuracy by {_figures(whole.accuracy)}: too near 0 for shares of it. With its "
            f"rows in one span it changes by {changes}."
        ]
    else:
        what = "gain" if whole.accuracy.estimate > 0 else "loss"
        shares = ", ".join(f"{_share(change)} in the {span} alone" for span, change in kept.items())
        said = [
            f"Of the {what} in accuracy of {product.name}, {_figures(whole.accuracy)}, this share remains: {shares}."
        ]
    shown: list[str] = []
    equal: list[str] = []
    for one, other in itertools.combinations(SPANS, 2):
        difference = paired(alone[one], alone[other], resamples)
        if difference is not None and excludes_zero(difference):
            word = "higher" if difference.estimate > 0 else "lower"
            shown.append(f"{word} in the {one} alone than in the {other} alone: {_figures(difference)}")
        elif difference is not None:
            equal.append(f"between the {one} alone and the {other} alone: {_figures(difference)}")
    said += [f"With its rows there, accuracy is {'; it is '.join(shown)}."] if shown else []
    return [*said, *([f"No difference is shown {'; nor '.join(equal)}."] if equal else [])]


def _two_parts(
    one: ProductCells, other: ProductCells, embed: ProductCells, products: Sequence[ProductCells], resamples: int
) -> list[str]:
    """Say what two products keep of embed tuning's gain, and whether they differ."""
    changes = [
        change_of(p.cells, original_of(p, products), whole=embed.cells, resamples=resamples) for p in (one, other)
    ]
    shares = [
        f"{p.name}{f' ({p.rows:,.0f} rows)' if p.way == 'transfer' and p.rows else ''} {_kept(change)}"
        for p, change in zip((one, other), changes, strict=True)
    ]
    said = f"{_begin(shares[0])}; {shares[1]}."
    return [said, compared(one.name, other.name, paired(one.cells, other.cells, resamples))]


def _kept(change: Change | None) -> str:
    if change is None:
        return "answer other tokens"
    if change.share_interval is None:
        return f"change accuracy by {_figures(change.accuracy)}"
    return f"keep {_share(change)} of embed tuning's gain"


def _mixes(products: Sequence[ProductCells], own: str | None, resamples: int) -> list[str]:
    """Say what a training in a mix of prompts changes in a prompt that no training saw."""
    said: list[str] = []
    for mix in [p for p in products if p.way is not None and p.trained_in != own]:
        single = next(p for p in products if (p.name, p.trained_in, p.measured_in) == (mix.name, own, mix.measured_in))
        changes = [change_of(p.cells, original_of(p, products), resamples=resamples) for p in (single, mix)]
        figures = [
            f"{_figures(change.accuracy)} when trained in {p.trained_in}"
            for p, change in zip((single, mix), changes, strict=True)
            if change is not None
        ]
        said.append(
            f"Measured in {mix.measured_in}, the accuracy of {mix.name} less that of the original is {' and '.join(figures)}. "
            + compared(
                f"training in {mix.trained_in}", f"training in {own}", paired(mix.cells, single.cells, resamples)
            )
        )
    return said


def _cost(located: Sequence[ProductCells]) -> list[str]:
    ratios = [c.figures["tokens"]["spans"] / c.figures["tokens"]["pass"] for p in located for c in p.located]
    if not ratios:
        return []
    return [
        f"The eight combinations computed at most {max(ratios):.2f} times the tokens of one pass that shares its prefix."
    ]


def _figures(difference: CrossedDifference) -> str:
    return f"{difference.estimate:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"


def _share(change: Change | None) -> str:
    if change is None or change.share is None or change.share_interval is None:
        return "a share that is not known"
    low, high = change.share_interval
    return f"{change.share:.2f} ({low:.2f} to {high:.2f})"


def _begin(text: str) -> str:
    return text[:1].upper() + text[1:]
