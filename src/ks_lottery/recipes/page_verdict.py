"""The verdict of a run: the few numbers that a reader looks for first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.page_nouns import guaranteed
from ks_lottery.report.forms import interval, size
from ks_lottery.report.page_parts import Tile, Tiles

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALL = "partial"
"""The method that the verdict is on."""


def verdict(summary: Mapping[str, Any], vocabulary: int) -> Tiles:
    """Return rows, bytes, how much of embed tuning's gain is kept, what is guaranteed, what ended, and what was forgotten.

    Parameters
    ----------
    summary
        Content of a main job's ``summary.json``.
    vocabulary
        Rows of the embedding.
    """
    method, original = summary["methods"][SMALL], summary["methods"]["original"]
    tiles = [
        Tile(
            label="Rows trained", value=f"{len(summary['tickets']):,}",
            note=f"of {vocabulary:,}; {summary['scan']['rows_moved']:,} moved in embed tuning",
        ),
        Tile(label="What ships", value=size(method["bytes"]), note=f"{method['trained_parameters']:,} parameters"),
        *_gain(summary),
        *guaranteed(summary["certificate"]["transfer"]),
    ]  # fmt: skip
    if method.get("ended") and original.get("ended"):
        tiles.append(
            Tile(
                label="Translations that end", value=f"{method['ended']['count']} of {method['ended']['outputs']}",
                note=f"the original model: {original['ended']['count']} of {original['ended']['outputs']}",
            )
        )  # fmt: skip
    if (forgotten := method.get("forgetting")) is not None:
        bounds = forgotten["loss_interval"]
        tiles.append(
            Tile(
                label="Forgotten", value=f"{forgotten['loss_difference']:+.3f}",
                note="nats a token on general text" + ("" if bounds is None else f" ({interval(bounds, '+.3f')})"),
            )
        )  # fmt: skip
    return Tiles(tiles=tiles)


def _gain(summary: Mapping[str, Any]) -> list[Tile]:
    """Return the share of embed tuning's gain in accuracy; the gains themselves where the share says nothing."""
    gains = summary.get("gains", {}).get("methods", {})
    if SMALL not in gains or "embed" not in gains:
        return []
    small, embed = gains[SMALL]["all"], gains["embed"]["all"]
    note = f"{small['difference']:+.3f} of {embed['difference']:+.3f} in accuracy"
    if embed["interval"][0] <= 0:
        return [
            Tile(
                label="Gain in accuracy",
                value=f"{small['difference']:+.3f}",
                note=f"{note}; embed tuning's own gain may be 0",
            )
        ]
    return [
        Tile(label="Gain of embed tuning kept", value=f"{small['difference'] / embed['difference']:.0%}", note=note)
    ]
