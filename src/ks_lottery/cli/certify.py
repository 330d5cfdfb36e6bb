"""The command `certify`: when a small model answers like the tuned one."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.options import add_data, add_model, second_source, text_source
from ks_lottery.config.choices import BOUNDS, LOSSES, RULES, TAUS
from ks_lottery.config.settings import ALPHA_GRID
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    import argparse

    from ks_lottery.corpus.corpus import Corpus


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.epilog = (
        "The certificate is the paper's bound, which holds under the assumptions of theorem 2 and is audited; with calibration "
        "text comes a guarantee, which assumes nothing of the models. Both are written to --out, with every position."
    )
    parser.add_argument("model", nargs="?", help="the base that the patches were made on")
    parser.add_argument("--tuned", metavar="PATCH", help="folder of embed tuning")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--small", nargs="+", metavar="PATCH",
        help="folders of patches, such as partial tuning leaves; each with the rows that it changes and its own alpha",
    )  # fmt: skip
    which.add_argument(
        "--transfer", action="store_true", help="partial transfer: of --tickets, or of the rows of each of --alphas"
    )
    which.add_argument(
        "--recheck", metavar="DIR",
        help="recompute the guarantees and the choice of a run, or of what certify wrote, from its files alone; exit code 1 "
        "where one differs",
    )  # fmt: skip
    parser.add_argument("--tickets", metavar="FILE", help="JSON file that select wrote")
    parser.add_argument("--scan", metavar="FILE", help="Parquet file of scan, base against tuned (default: scan now)")
    parser.add_argument("--out", metavar="DIR", help="folder to write; new or empty (default: nothing is written)")
    parser.add_argument(
        "--alphas", type=float, nargs="+", default=list(ALPHA_GRID), metavar="P", help="grid (default: 0 .. 1)"
    )
    parser.add_argument(
        "--tau", default="empirical", choices=TAUS,
        help="which bound is shown; all three are written (default: empirical)",
    )  # fmt: skip
    parser.add_argument(
        "--rule", default="theorem", choices=RULES,
        help="which rule is shown; all three are written (default: theorem)",
    )  # fmt: skip
    parser.add_argument(
        "--positions",
        type=int,
        default=20,
        metavar="N",
        help="first target positions that count for the bound and its audit (default: 20)",
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
    group.add_argument(
        "--calibration-positions", type=int, metavar="N",
        help="first target positions that count for a guarantee (default: whole sentences)",
    )  # fmt: skip
    group.add_argument("--split-seed", type=int, default=0, help="seed of the draw of --calibration (default: 0)")
    group.add_argument(
        "--bound", default="finite", choices=tuple(BOUNDS),
        help=f"how guarantees are computed; {'; '.join(f'{name}: {said}' for name, said in BOUNDS.items())}",
    )  # fmt: skip
    group.add_argument("--delta", type=float, default=0.05, help="probability that a guarantee fails (default: 0.05)")
    group.add_argument(
        "--choose", type=float, nargs=2, metavar=("EPSILON", "DELTA"),
        help="choose the smallest ticket set that loses at most EPSILON of the agreement, with probability 1 - DELTA",
    )  # fmt: skip
    group.add_argument(
        "--loss", default="share", choices=LOSSES,
        help="of --choose: share of positions answered differently (default), or sentences with any such position",
    )  # fmt: skip
    group.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of first --tickets to choose among")
    add_data(parser, required=False)
    add_model(parser, seed=None)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if arguments.recheck is not None:
        return _recheck(arguments)
    _check_given(arguments)
    from ks_lottery.certification.certificate_sections import certificate_sections
    from ks_lottery.certification.certify import certify_with
    from ks_lottery.certification.inputs import open_patches, scan_of_patch
    from ks_lottery.certification.spec import CertifySpec
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.config.settings import CertifyConfig
    from ks_lottery.corpus.source import read_text
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.report.screen import Screen
    from ks_lottery.report.terminal import print_sections
    from ks_lottery.store.files import check_new_folder, new_folder, to_json
    from ks_lottery.tickets.tickets import Tickets

    screen, silent = Screen(total=3), bool(arguments.json)
    out = None if arguments.out is None else Path(arguments.out)
    if out is not None:
        check_new_folder(out)
    epsilon, delta = (None, arguments.delta) if arguments.choose is None else arguments.choose
    with screen.stage("open model, patches and text", silent=silent):
        spec = CertifySpec(
            small=open_patches(arguments.small or ()),
            transfer=arguments.transfer,
            tickets=None if arguments.tickets is None else Tickets.open(Path(arguments.tickets)),
            config=CertifyConfig(
                alphas=tuple(dict.fromkeys(arguments.alphas)), tau=arguments.tau, positions=arguments.positions,
                calibration_positions=arguments.calibration_positions, delta=delta, bound=arguments.bound,
            ),
            calibration=_calibration(arguments),
            same_pool=arguments.same_pool,
            epsilon=epsilon,
            loss=arguments.loss,
            sizes=tuple(arguments.sizes or ()),
            template=arguments.template,
            max_tokens=arguments.max_tokens,
            batch_size=arguments.batch_size,
            share_prefix=arguments.share_prefix,
            split_seed=arguments.split_seed,
        )  # fmt: skip
        corpus = read_text(text_source(arguments, arguments.data))
        checkpoint = open_checkpoint(arguments.model)
        tuned = RowPatch.open(Path(arguments.tuned))
        tuned.check_base(checkpoint)
        scan = scan_of_patch(checkpoint, tuned, arguments.scan)
    with screen.stage("load model", silent=silent):
        loaded = load_model(
            checkpoint, dtype=arguments.dtype, device=arguments.device, trust_remote_code=arguments.trust_remote_code
        )
    with screen.stage("predictions of every model", silent=silent) as tick:
        certified = certify_with(spec, loaded, tuned, scan, corpus, tick=tick)
    if out is not None:
        with new_folder(out) as folder:
            certified.save(folder)
    content = certified.certificate.as_dict()
    if silent:
        sys.stdout.write(to_json(content))
        return 0
    if certified.overlong:
        screen.say(f"        {certified.overlong:,} sentences left out as longer than {arguments.max_tokens} tokens")
    screen.say(
        f"        {certified.computed:,} of {certified.passes:,} tokens computed, the rest shared between models"
    )
    title = "Certificate of partial transfers" if arguments.transfer else "Certificate of small models"
    print_sections(
        screen.console, certificate_sections(content, title, rule=arguments.rule, examples=arguments.examples)
    )
    if out is not None:
        screen.say(f"\nEverything lies in {out}.")
    return 0


def _check_given(arguments: argparse.Namespace) -> None:
    """Refuse a call without what all but --recheck need."""
    needed = {"model": arguments.model, "--tuned": arguments.tuned, "--data": arguments.data}
    missing = [name for name, value in needed.items() if value is None]
    if not arguments.small and not arguments.transfer:
        missing.append("--small or --transfer")
    if missing:
        raise UserError(f"the following arguments are required: {', '.join(missing)} (see ks-lottery certify --help)")


def _recheck(arguments: argparse.Namespace) -> int:
    """Recompute what a folder guarantees, print old and new, and return 1 where one differs."""
    from ks_lottery.certification.recheck import recheck, recheck_section
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    given = [name for name in ("model", "tuned", "data", "out", "tickets", "calibration") if getattr(arguments, name)]
    if given:
        raise UserError(f"--recheck reads the files of a folder alone: leave {given[0]} out")
    results = recheck(arguments.recheck)
    if arguments.json:
        sys.stdout.write(
            to_json(
                {
                    "rechecked": [
                        {"certificate": r.certificate, "model": r.model, "claim": r.claim, "same": r.same,
                         "differing": r.differing, "saved": dict(r.saved), "computed": dict(r.computed)}
                        for r in results
                    ]
                }
            )
        )  # fmt: skip
    else:
        Screen().show([recheck_section(results)])
    return 0 if all(one.same for one in results) else 1


def _calibration(arguments: argparse.Namespace) -> Corpus | float | None:
    """Return the share or number of sentences to draw, or the text to calibrate on."""
    from ks_lottery.corpus.source import read_text

    if arguments.calibration is None:
        return None
    for kind in (int, float):
        try:
            number = kind(arguments.calibration)
        except ValueError:
            continue
        if math.isfinite(number):
            if arguments.calibration_target is not None:
                raise UserError(
                    "--calibration-target belongs to a calibration text, and --calibration is a number here"
                )
            return number
    return read_text(second_source(arguments, arguments.calibration, arguments.calibration_target))
