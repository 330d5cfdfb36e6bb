"""An evaluation on the terminal: scores with signatures, next-token accuracy and loss, language, comparisons.

Must never compute a figure that is not in the evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.scores_table import language_line, print_comparison, print_scores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console


def print_evaluation(console: Console, content: Mapping[str, Any]) -> None:
    """Print an evaluation."""
    if content["overlong"]:
        console.print(f"{content['overlong']:,} sentences left out as longer than --max-tokens", markup=False)
    if content["scores"] is not None:
        console.print()
        print_scores(console, content["scores"])
    if content["next_token"] is not None:
        console.print()
        for line in next_token_lines(content["next_token"]):
            console.print(line, markup=False)
    if content["language"] is not None:
        console.print()
        console.print(f"outputs in {language_line(content['language'])}", markup=False)
        console.print(f"references in {language_line(content['references_language'])}", markup=False)
    if content["comparison"] is not None:
        console.print()
        print_comparison(console, {**content["comparison"], "missing": {}})  # said above


def next_token_lines(found: Mapping[str, Any]) -> list[str]:
    """Return accuracy and loss with their intervals, and what they count."""
    low, high = found["accuracy_interval"]
    least, most = found["loss_interval"]
    first = "all" if found["first"] is None else f"the first {found['first']}"
    return [
        f"next-token accuracy {found['accuracy']:.4f} ({low:.4f}-{high:.4f}), loss {found['loss']:.4f} nats a token "
        f"({least:.4f}-{most:.4f})",
        f"under teacher forcing, {first} target positions of each sentence, {found['positions']:,} in all; "
        f"{found['confidence']:.0%} intervals from {found['resamples']:,} resamples of sentences",
    ]
