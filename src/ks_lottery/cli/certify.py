"""The command `certify`: when a small model answers like the tuned one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_data, add_model
from ks_lottery.config.settings import ALPHA_GRID

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.epilog = (
        "The certificate is the paper's bound, which holds under the assumptions of theorem 2 and is audited; with calibration "
        "text comes a guarantee, which assumes nothing of the models. Both are written to --out, with every position."
    )
    parser.add_argument("model", help="the base that the patches were made on")
    parser.add_argument("--tuned", required=True, metavar="PATCH", help="folder of embed tuning")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--small", nargs="+", metavar="PATCH", help="folders of patches, such as partial tuning leaves")
    which.add_argument(
        "--transfer", action="store_true", help="partial transfer: of --tickets, or of the rows of each of --alphas"
    )
    parser.add_argument("--tickets", metavar="FILE", help="JSON file that select wrote")
    parser.add_argument("--scan", metavar="FILE", help="Parquet file of scan, base against tuned (default: scan now)")
    parser.add_argument("--out", metavar="DIR", help="folder to write; new or empty (default: nothing is written)")
    parser.add_argument(
        "--alphas", type=float, nargs="+", default=list(ALPHA_GRID), metavar="P", help="grid (default: 0.05 .. 1)"
    )
    parser.add_argument(
        "--tau", default="empirical", choices=("empirical", "exact", "table"),
        help="which bound is shown; all three are written (default: empirical)",
    )  # fmt: skip
    parser.add_argument(
        "--rule", default="theorem", choices=("theorem", "algorithm1", "both"),
        help="which rule is shown; all three are written (default: theorem)",
    )  # fmt: skip
    parser.add_argument(
        "--positions", type=int, default=20, metavar="N", help="first target positions that count (default: 20)"
    )
    parser.add_argument("--examples", type=int, default=5, metavar="N", help="worst examples to show (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    group = parser.add_argument_group("guarantee")
    group.add_argument(
        "--calibration", metavar="TEXT|N|P",
        help="N sentences or a share P of --data, drawn at random; or another text, which must be of the same pool",
    )  # fmt: skip
    group.add_argument("--calibration-target", metavar="FILE", help="the other of two line-aligned calibration files")
    group.add_argument(
        "--same-pool", action="store_true", help="say that --calibration and --data are one text, split at random"
    )
    group.add_argument("--delta", type=float, default=0.05, help="probability that a guarantee fails (default: 0.05)")
    group.add_argument(
        "--choose", type=float, nargs=2, metavar=("EPSILON", "DELTA"),
        help="choose the smallest ticket set that loses at most EPSILON of the agreement, with probability 1 - DELTA",
    )  # fmt: skip
    group.add_argument(
        "--loss", default="share", choices=("share", "any"),
        help="of --choose: share of positions answered differently (default), or sentences with any such position",
    )  # fmt: skip
    group.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of first --tickets to choose among")
    add_data(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli._certify import run_certify

    return run_certify(arguments)
