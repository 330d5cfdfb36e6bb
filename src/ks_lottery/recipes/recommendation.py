"""Which method of a run to ship: chosen from paired differences in accuracy, and said with its reason and its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.evaluation.draws import mean_difference
from ks_lottery.report.forms import interval as shown_interval
from ks_lottery.report.forms import rounded_up, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.evaluation.predictions import Predictions

SENTENCE = "Your session has expired."
"""What the commands translate."""


def recommend(
    predictions: Mapping[str, Predictions],
    sizes: Mapping[str, int],
    *,
    chosen: str,
    original: str,
    larger: Sequence[str] = (),
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Choose the method to ship: the smallest of those that are not shown to be worse than the most accurate one.

    A method is worse where the interval of the paired difference excludes 0. Of methods of one size the more accurate one is
    shipped. None is, where no method is shown to be better than the original model.

    Parameters
    ----------
    predictions
        Of each method on one text, those of `original` and of `larger` included.
    sizes
        Number of values that each method changes; methods that change none are left out.
    chosen
        The method that the job is about, with which the shipped one is compared.
    original
        The model that nothing was changed of.
    larger
        Methods that are compared with the shipped one, but not shipped.
    bootstrap
        ``confidence``, ``resamples`` and ``seed`` of the intervals.

    Returns
    -------
    dict
        ``method``, or None; ``best``, the most accurate one; ``chosen``; and ``differences``, the accuracy of the method (or,
        without one, of the best) less that of each other one, with its interval. Only ``method``, None, and ``missing``, the
        reason, where there is nothing to choose from, or the predictions cannot be compared.
    """
    candidates = [name for name in predictions if name not in (original, *larger) and sizes[name]]
    if not candidates:
        return {"method": None, "missing": "no method has changed a row"}

    def difference(one: str, other: str) -> dict[str, Any]:
        value, interval = mean_difference([predictions[one]], predictions[other], **bootstrap)
        return {"difference": value, "interval": interval}

    best = max(candidates, key=lambda name: (float(predictions[name].accuracy), -sizes[name]))
    try:
        equal = [name for name in candidates if name == best or difference(best, name)["interval"][0] <= 0]
        shipped = min(equal, key=lambda name: (sizes[name], -float(predictions[name].accuracy)))
        found = {
            name: difference(shipped, name)
            for name in predictions
            if name != shipped and (sizes[name] or name == original)
        }
    except UserError as error:
        return {"method": None, "missing": str(error)}
    better = found[original]["interval"][0] > 0
    return {
        "method": shipped if better else None, "shown": shipped, "best": best, "chosen": chosen, "original": original,
        "larger": [name for name in larger if sizes.get(name)], "differences": found,
    }  # fmt: skip


def ship_sentences(
    ship: Mapping[str, Any], titles: Mapping[str, str], bytes_of: Mapping[str, int], folder: str
) -> list[str]:
    """Say which method to ship, and why.

    Parameters
    ----------
    ship
        What `recommend` returned.
    titles, bytes_of
        What each method is called, and the size of its file.
    folder
        Where the run is.
    """
    if "missing" in ship:
        return [f"Nothing to ship: {ship['missing']}.{_advice(ship.get('advice'))}"]
    shipped, differences = ship["shown"], ship["differences"]
    named = titles[shipped]
    if ship["method"] is None:
        return [
            f"Ship none of them: not even {named}, the first by accuracy and size, is shown to be better than the original "
            f"model: {_figures(differences[ship['original']])}."
        ]
    sentences = [f"Ship this one: {named} ({folder}/{shipped}, {size(bytes_of[shipped])}). {_reason(ship, titles)}"]
    for name in ship["larger"]:
        low, high = differences[name]["interval"]
        kind = "No difference shown from" if low <= 0 <= high else "Better than" if low > 0 else "Less accurate than"
        sentences.append(f"{kind} {titles[name]} ({size(bytes_of[name])}): {_figures(differences[name])}.")
    return sentences


def _reason(ship: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    shipped, best, chosen, differences = ship["shown"], ship["best"], ship["chosen"], ship["differences"]
    others = [name for name in differences if name not in (ship["original"], *ship["larger"])]
    if shipped != best:
        return (
            f"It is smaller than {titles[best]}, which is not shown to be better: the difference is "
            f"{_figures(differences[best])}."
        )
    if shipped != chosen and chosen in differences:
        low = differences[chosen]["interval"][0]
        if low > 0:
            return f"It is more accurate than {titles[chosen]}: {_figures(differences[chosen])}."
        return (
            f"No difference shown from {titles[chosen]}, {_figures(differences[chosen])}: of the methods of its size it is "
            "the first by accuracy."
        )
    unclear = [titles[name] for name in others if differences[name]["interval"][0] <= 0]
    if not unclear:
        return (
            f"It is more accurate than {', '.join(titles[name] for name in others)}."
            if others
            else "No other was trained."
        )
    return f"No other method is shown to be better; no difference shown from {', '.join(unclear)}."


def _advice(advice: Mapping[str, Any] | None) -> str:
    """Say at which learning rate rows would become tickets."""
    if advice is None:
        return ""
    if advice["factor"] is None:
        return f" Run again in another folder with a --train.learning-rate above {advice['rate']:g}, or more epochs."
    return (
        f" Run again in another folder with --train.learning-rate {rounded_up(advice['rate'] * advice['factor'], 2)} instead "
        f"of {advice['rate']:g}: moves {rounded_up(advice['factor'], 2)} times as large would make a ticket (measured)."
    )


def _figures(system: Mapping[str, Any]) -> str:
    return f"{system['difference']:+.3f} ({shown_interval(system['interval'], '+.3f')})"


def next_commands(
    ship: Mapping[str, Any] | None, folder: str, usual: str, others: Sequence[str] = (), *, translates: bool = True
) -> list[str]:
    """Say where everything is, and which commands translate with the shipped method and export it.

    Parameters
    ----------
    ship
        What `recommend` returned; None for a run of an earlier version.
    usual
        Method that `translate` takes unless it is told another one; also what is shown where none is to be shipped.
    others
        Further methods to translate with.
    translates
        Whether the job is about translating.
    """
    method = usual if ship is None else ship["method"] or ship.get("shown")
    lines = [f"All results are in {folder}."]
    if method is None:
        return lines
    named = "" if method == usual else f" --method {method}"
    ships = ship is None or ship["method"] is not None
    if not (translates or ships):
        return lines
    lines = [f"{lines[0]} Try next:"]
    if translates:
        lines.append(f'  ks-lottery translate {folder} "{SENTENCE}" --compare{named}')
        lines += [f'  ks-lottery translate {folder} "{SENTENCE}" --method {name}' for name in others if name != method]
    if ships:
        lines += [f"  ks-lottery export {folder}/{method} --to peft --out adapter"]
        lines += [f"  ks-lottery export {folder}/{method} --to merged --out model"]
    return lines
