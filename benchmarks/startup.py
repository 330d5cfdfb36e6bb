"""How long a command takes to say what it can do: `--help` of the program and of each command, as a whole process.

    python benchmarks/startup.py [--runs 7]

Beside each: the same interpreter that imports nothing, which is what no program can go below.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(call: list[str], runs: int) -> float:
    """Return the median time of a call."""
    times: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    from ks_lottery.cli.main import COMMANDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="calls of each command")
    runs = parser.parse_args().runs
    bare = seconds([sys.executable, "-c", ""], runs)
    print(f"{'python alone':<14}{bare:6.2f} s")
    slowest = 0.0
    for command in ("", *COMMANDS):
        took = seconds([sys.executable, "-m", "ks_lottery", *command.split(), "--help"], runs)
        slowest = max(slowest, took)
        print(f"{command or 'ks-lottery':<14}{took:6.2f} s")
    print(f"slowest {slowest:.2f} s, {slowest / bare:.1f} times the bare interpreter")


if __name__ == "__main__":
    main()
