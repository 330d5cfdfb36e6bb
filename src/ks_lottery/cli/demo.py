"""The command `demo`: the main job on the embedded model and text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.config.choices import BUDGETS

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("--target", default="ca", help="language to translate to (default: ca)")
    sizes = "; ".join(f"{name}: {time}" for name, time in BUDGETS.items())
    parser.add_argument("--budget", default="default", choices=tuple(BUDGETS), help=sizes)
    parser.add_argument("--out", default="runs/demo", help="folder of the run (default: runs/demo)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from ks_lottery.cli.run import run_config
    from ks_lottery.recipes.demo import demo_config

    return run_config(demo_config(arguments.target, arguments.budget, arguments.seed), Path(arguments.out))
