"""The command `scan`: opens, compares, saves, prints; one process of several writes and prints for all.

Must never print anything but the one object under ``--json``, nor anything at all under ``--quiet``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.errors import UserError
from ks_lottery.report.scan_report import print_scan
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import to_json
from ks_lottery.tickets.compare import compare

if TYPE_CHECKING:
    import argparse


def run_scan(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code: 1 when a unit is above ``--fail-above``."""
    if not 0 <= arguments.alpha <= 1:
        raise UserError(f"--alpha is {arguments.alpha}, but must be from 0 to 1")
    screen = Screen(total=1)
    silent = arguments.quiet or arguments.json or os.environ.get("RANK", "0") != "0"
    with screen.stage("scan", silent=silent) as tick:
        result = compare(
            arguments.base,
            arguments.tuned,
            units=arguments.units,
            tensors=arguments.tensors,
            ignore_tokenizer=arguments.ignore_tokenizer,
            tick=tick,
        )
    found = result.scan
    exceeded = arguments.fail_above is not None and bool((found.statistics > arguments.fail_above).any())
    if os.environ.get("RANK", "0") == "0":
        if arguments.out:
            found.save(Path(arguments.out), result.tokens)
        summary, rows = found.summary(arguments.alpha, arguments.correction), found.top(arguments.top, result.tokens)
        if arguments.json:
            alone = {f"only_in_{side}": [{"row": r, "token": t} for r, t in more] for side, more in result.only.items()}
            sys.stdout.write(to_json({"summary": summary, "top": rows, "rows": alone}))
        elif not arguments.quiet:
            print_scan(screen.console, summary, rows, result.only)
            if arguments.out:
                screen.say(f"Every unit lies in {arguments.out}.")
    return 1 if exceeded else 0
