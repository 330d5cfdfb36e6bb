"""What a run shows in sentences: each follows from a figure, also where the figures speak against the method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import RANDOM_DRAWS
from ks_lottery.recipes.method_names import RANDOM
from ks_lottery.report.forms import interval as shown_interval
from ks_lottery.tickets.scan_sections import no_power

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TITLES = {
    "original": "original model",
    "embed": "embed tuning",
    "partial": "partial tuning",
    "transfer": "partial transfer",
    "gradient-sum": "one-pass rows",
    "occurrence": "most frequent rows",
    "random": f"random rows, {RANDOM_DRAWS} draws",
    "lca": "loss-change rows",
    "gradient": "gradient rows",
}
"""What each method is called."""

RIVALS = {
    "gradient-sum": "the rows that one pass at the original model chose (gradient-sum)",
    "occurrence": "the rows that occur most",
    "random": f"as many random rows (mean of {RANDOM_DRAWS} draws)",
    "lca": "the rows that lowered the loss most while embed tuning (lca)",
    "gradient": "the rows of largest summed gradient while embed tuning",
}
"""As many rows as there are tickets, chosen otherwise: what a sentence that compares them calls them."""

TOLD = ("embed", "partial")
"""Methods that a sentence compares with the original model."""


def findings(summary: Mapping[str, Any]) -> list[str]:
    """Say in sentences what the figures say, also where they speak against the method."""
    power = summary["scan"]
    if power["rows_passing"] == 0:
        return [
            f"No ticket: the largest D is {power['largest_statistic']:.4f}, and p < {power['alpha']:g} needs "
            f"{power['critical_statistic']:.4f}. The row that moved most moved {power['largest_spread']:.2f} of its own "
            f"spread{no_power(power)}."
        ]
    first = (
        f"{power['rows_passing']} of {power['rows_moved']:,} moved rows pass at p < {power['alpha']:g} "
        f"(D of at least {power['critical_statistic']:.4f}; the largest is {power['largest_statistic']:.4f})."
    )
    systems = summary.get("comparisons", {}).get("systems", {})
    if not systems:  # a run of an earlier version
        return [first]
    return [
        first,
        *(compared(RIVALS[name], **system) for name, system in systems.items()),
        *_gained(summary),
        f"Each is the paired difference in accuracy, with its {summary['confidence']:.0%} interval over sentences. One seed of "
        "training: the intervals do not cover what another seed would change.",
        *_spread(summary),
        *_forgot(summary),
        *_located(summary),
    ]


def _gained(summary: Mapping[str, Any]) -> list[str]:
    """Say what embed tuning and partial tuning change against the original model."""
    gains = summary.get("gains", {}).get("methods", {})
    return [gained(TITLES[name], gains[name]["all"], gains[name]["without_end"]) for name in TOLD if name in gains]


def gained(title: str, every: Mapping[str, Any], without_end: Mapping[str, Any] | None) -> str:
    """Compare a method with the original model, in accuracy; "raises" is said only where the interval excludes 0.

    Parameters
    ----------
    every, without_end
        ``difference`` and ``interval``, of all target positions, and of all but the end-of-sentence ones.

    Examples
    --------
    >>> gained("partial tuning", {"difference": 0.15, "interval": (0.12, 0.17)}, None)
    "Partial tuning raises the original model's accuracy: +0.150 (+0.120 to +0.170)."
    """
    low, high = every["interval"]
    figures = _figures(every["difference"], every["interval"])
    if without_end is not None:
        rest = _figures(without_end["difference"], without_end["interval"])
        figures = f"{figures}, and without the end-of-sentence positions {rest}"
    if low <= 0 <= high:
        return f"No difference in accuracy shown between {title} and the original model: {figures}."
    return f"{_capital(title)} {'raises' if low > 0 else 'lowers'} the original model's accuracy: {figures}."


def _figures(difference: float, interval: Sequence[float], form: str = "+.3f") -> str:
    return f"{difference:{form}} ({shown_interval(interval, form)})"


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _forgot(summary: Mapping[str, Any]) -> list[str]:
    """Say what embed tuning and partial tuning changed on general text."""
    methods = summary.get("methods", {})
    known = {name: methods[name].get("forgetting") for name in TOLD if name in methods}
    return [forgot(TITLES[name], forgetting) for name, forgetting in known.items() if forgetting is not None]


def forgot(title: str, forgetting: Mapping[str, Any]) -> str:
    """Say what a method changed on general text; "raises" is said only where the interval excludes 0.

    Parameters
    ----------
    forgetting
        Content of a `Forgetting`.

    Examples
    --------
    >>> measured = {"loss_difference": 0.2, "loss_interval": (0.1, 0.3), "identical": 2, "sentences": 40}
    >>> forgot("partial tuning", measured)
    'Partial tuning raises the loss on general text, in nats a token: +0.2000 (+0.1000 to +0.3000).'
    """
    if forgetting["identical"] == forgetting["sentences"]:
        return f"{_capital(title)} answers the general text as the original model does, bit by bit."
    low, high = forgetting["loss_interval"]
    figures = _figures(forgetting["loss_difference"], forgetting["loss_interval"], "+.4f")
    if low <= 0 <= high:
        return f"No change in the loss on general text shown for {title}, in nats a token: {figures}."
    verb = "raises" if low > 0 else "lowers"
    return f"{_capital(title)} {verb} the loss on general text, in nats a token: {figures}."


def _located(summary: Mapping[str, Any]) -> list[str]:
    """Say where the tickets act, or why that was not measured."""
    where = summary.get("where")
    if where is None:
        return []
    if where["sentence"] is None:
        return [f"Where the tickets act was not measured: {where['missing']}."]
    return [
        f"Where the tickets act ({TITLES[where['method']]}, the first {where['sentences']} test sentences): {where['sentence']}"
    ]


def _spread(summary: Mapping[str, Any]) -> list[str]:
    """Say how far the draws of random rows differ."""
    drawn = summary.get("methods", {}).get(RANDOM, {})
    if "range" not in drawn:
        return []
    low, high = drawn["range"]
    return [f"The accuracy of the {len(drawn['draws'])} draws of random rows is from {low:.3f} to {high:.3f}."]


def compared(rival: str, difference: float, interval: Sequence[float]) -> str:
    """Compare rows that were chosen otherwise with the tickets; "better" is said where the interval excludes 0 alone.

    Parameters
    ----------
    difference, interval
        Accuracy of the rival less that of the tickets.

    Examples
    --------
    >>> compared("as many random rows", -0.2, (-0.3, -0.1))
    'The tickets are better than as many random rows: +0.200 (+0.100 to +0.300).'
    >>> compared("as many random rows", 0.01, (-0.02, 0.04))
    'No difference shown between the tickets and as many random rows: -0.010 (-0.040 to +0.020).'
    """
    low, high = interval
    if low > 0:
        return f"{_capital(rival)} are better than the tickets: {difference:+.3f} ({low:+.3f} to {high:+.3f})."
    figures = f"{-difference:+.3f} ({-high:+.3f} to {-low:+.3f})."
    if high < 0:
        return f"The tickets are better than {rival}: {figures}"
    return f"No difference shown between the tickets and {rival}: {figures}"
