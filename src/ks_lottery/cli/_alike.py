"""The command `alike`: two patches of one base, row by row, as in table 6 of the paper.

Must never read a model's weights, nor fetch one for the sake of token strings.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.errors import UserError
from ks_lottery.models.vocabulary import tokens_here
from ks_lottery.report.alike_report import print_alike
from ks_lottery.report.screen import Screen
from ks_lottery.stats.null import critical_count
from ks_lottery.store.files import manifest, to_json, write_json
from ks_lottery.tickets.agreement import compare_tunings
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ks_lottery.tickets.agreement import ComparedTunings


def run_alike(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    if arguments.top < 0:
        raise UserError(f"--top is {arguments.top}, but must be 0 or more")
    embed, partial = (RowPatch.open(Path(name)) for name in (arguments.embed, arguments.partial))
    file = None if arguments.tickets is None else Path(arguments.tickets)
    tickets = None if file is None else Tickets.open(file)
    found = compare_tunings(embed, partial, tickets, alphas=arguments.alpha, side=arguments.side)
    tokens = {} if file is None else Tickets.tokens(file)
    if not tokens:
        tokens = dict(enumerate(tokens_here(str(embed.base.get("name", ""))) or ()))
    content = _content(found, tokens)
    if arguments.out:
        settings = {"alphas": list(found.alphas), "side": found.side, "tickets": arguments.tickets}
        about = manifest("compared-tunings", made_from=found.made_from, settings=settings)
        write_json(Path(arguments.out), {**about, **content})
    if arguments.json:
        sys.stdout.write(to_json(content))
        return 0
    screen = Screen(total=1)
    print_alike(screen.console, content, arguments.top)
    if arguments.out:
        screen.say(f"Every row lies in {arguments.out}.")
    return 0


def _content(found: ComparedTunings, tokens: Mapping[int, str]) -> dict[str, Any]:
    """Return everything in plain values, the rows that differ most first."""
    statistics, log_p = found.statistics, found.log_pvalues
    return {
        "side": found.side,
        "width": found.width,
        "compared": len(found),
        "not_compared": {
            "only_embed": found.only_embed, "only_partial": found.only_partial, "in_neither": found.in_neither
        },
        "levels": [
            {
                "alpha": alpha,
                "critical_statistic": critical_count(found.width, alpha) / found.width,
                "compared": len(found),
                "changed": found.changed(alpha),
                "unchanged": ratio,
            }
            for alpha, ratio in found.ratios.items()
        ],
        "rows": [
            {
                "row": int(found.rows[i]),
                **({"token": tokens.get(int(found.rows[i]), "''")} if tokens else {}),
                "count": int(found.counts[i]),
                "statistic": float(statistics[i]),
                "pvalue": float(np.exp(log_p[i])),
                "log_pvalue": float(log_p[i]),
            }
            for i in np.argsort(-found.counts, kind="stable").tolist()
        ],
    }  # fmt: skip
