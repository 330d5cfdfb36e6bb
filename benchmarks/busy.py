"""How two OpenMP threads wait for each other: steps and products a second, idle and beside busy processes.

    python benchmarks/busy.py        # 5 minutes; nothing else should run

Three policies, each in a process of its own that has loaded torch and waits for its turn: the default of libgomp (spin, then
sleep), passive (sleep at once), and a short spin. They take turns, several times, alone and beside 2, 4 and 8 processes that
this script starts and ends. Two workloads: training steps of the demo's shapes (SmolLM2-135M, 2 of 30 layers, bfloat16,
256 tokens), and matrix products of one layer. Medians; the rates of each turn are in the results, and the shortest time of one
step or batch of products, which on a machine that others use too is nearest to what an idle one would give.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import save

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

POLICIES = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    "spin 3,000": {"GOMP_SPINCOUNT": "3000"},
}
"""Policy to what it sets before torch is loaded."""

BUSY = "import os\nstarter = os.getppid()\nwhile os.getppid() == starter: pass"
"""A busy process; it ends with the one that started it."""

LOADS = (0, 2, 4, 8)
WORKLOADS = ("steps", "products")
WIDTH, INNER, HEADS, KEYS, LAYERS, TOKENS, VOCABULARY = 576, 1536, 9, 3, 2, 256, 8192


def workloads() -> dict[str, Callable[[], None]]:
    """Return one training step, and one batch of products, of the demo's shapes."""
    import torch
    from torch.nn import functional

    draw = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=draw) / shape[-1] ** 0.5).bfloat16()

    size = WIDTH // HEADS
    layers = [
        {
            "q": weight(WIDTH, WIDTH), "k": weight(KEYS * size, WIDTH), "v": weight(KEYS * size, WIDTH),
            "o": weight(WIDTH, WIDTH), "gate": weight(INNER, WIDTH), "up": weight(INNER, WIDTH), "down": weight(WIDTH, INNER),
        }
        for _ in range(LAYERS)
    ]  # fmt: skip
    head = weight(VOCABULARY, WIDTH)
    rows = torch.randn(TOKENS, WIDTH, generator=draw).requires_grad_()
    labels = torch.randint(0, VOCABULARY, (TOKENS,), generator=draw)
    mask = torch.full((TOKENS, TOKENS), -1e9).triu(1).bfloat16()
    optimizer = torch.optim.Adam([rows], lr=1e-3)

    def heads(x: torch.Tensor, count: int) -> torch.Tensor:
        return x.view(TOKENS, count, size).transpose(0, 1).repeat_interleave(HEADS // count, dim=0)

    def step() -> None:
        x = rows.bfloat16()
        for layer in layers:
            y = functional.rms_norm(x, (WIDTH,))
            q, k, v = heads(y @ layer["q"].T, HEADS), heads(y @ layer["k"].T, KEYS), heads(y @ layer["v"].T, KEYS)
            attention = torch.softmax((q @ k.transpose(1, 2)) / size**0.5 + mask, dim=-1) @ v
            x = x + attention.transpose(0, 1).reshape(TOKENS, WIDTH) @ layer["o"].T
            y = functional.rms_norm(x, (WIDTH,))
            x = x + (functional.silu(y @ layer["gate"].T) * (y @ layer["up"].T)) @ layer["down"].T
        functional.cross_entropy((x @ head.T).float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    left = weight(TOKENS, WIDTH)

    def products() -> None:
        with torch.no_grad():
            for _ in range(20):
                (left @ layers[0]["gate"].T) @ layers[0]["down"].T

    return {"steps": step, "products": products}


def serve() -> None:
    """Do what a line of standard input asks for, a workload for so many seconds; print its rate and its shortest time."""
    does = workloads()
    for work in does.values():
        work()
    print("ready", flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        times: list[float] = []
        while sum(times) < float(seconds):
            start = time.perf_counter()
            does[name]()
            times.append(time.perf_counter() - start)
        print(len(times) / sum(times), min(times), flush=True)


class Served:
    """A process with one policy, which works when it is asked to."""

    def __init__(self, policy: str) -> None:
        unset = {name: value for name, value in os.environ.items() if name not in {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], env={**unset, **POLICIES[policy]},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._read()

    def work(self, workload: str, seconds: float) -> tuple[float, float]:
        """Return how often a workload was done in a second, and the shortest time of one."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{workload} {seconds}\n")
        self.process.stdin.flush()
        rate, fastest = self._read().split()
        return float(rate), float(fastest)

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process that measures ended early")
        return line

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` processes busy inside a block."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def others() -> int:
    """Return how many threads of the machine run or wait for a processor now, this one apart."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1


def measure(repeats: int, seconds: dict[str, float], loads: Sequence[int]) -> dict[str, Any]:
    """Return the rates by load, workload and policy."""
    served = {policy: Served(policy) for policy in POLICIES}
    found: dict[str, Any] = {}
    try:
        for load in loads:
            cells = {name: {policy: list[float]() for policy in POLICIES} for name in WORKLOADS}
            fastest = {name: dict.fromkeys(POLICIES, float("inf")) for name in WORKLOADS}
            seen: list[int] = []
            with busy(load):
                for turn in range(repeats):
                    names = list(POLICIES)
                    for policy in names[turn % len(names) :] + names[: turn % len(names)]:
                        seen.append(others() - load)
                        for name in WORKLOADS:
                            rate, shortest = served[policy].work(name, seconds[name])
                            cells[name][policy].append(round(rate, 3))
                            fastest[name][policy] = min(fastest[name][policy], round(shortest, 5))
            medians = {name: {p: statistics.median(rates) for p, rates in cell.items()} for name, cell in cells.items()}
            ratios = {
                name: {p: round(rate / cell["default"], 3) for p, rate in cell.items()}
                for name, cell in medians.items()
            }
            found[str(load)] = {
                "medians": medians, "of_default": ratios, "rates": cells,
                "fastest_seconds": fastest, "others_running": seen, "load_average": os.getloadavg()[0],
            }  # fmt: skip
            for name in WORKLOADS:
                shown = "  ".join(f"{p} {medians[name][p]:.2f} ({ratios[name][p]:.2f})" for p in POLICIES)
                print(f"{load} busy, {name} a second: {shown}; others running {statistics.median(seen):g}", flush=True)
    finally:
        for process in served.values():
            process.close()
    return found


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="measure when asked by standard input")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each policy")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=[3, 2], help="length of a turn of steps and of products"
    )
    parser.add_argument("--loads", type=int, nargs="+", default=LOADS, help="numbers of busy processes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/busy.json"))
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    start, before = time.perf_counter(), os.getloadavg()
    found = measure(given.repeats, dict(zip(WORKLOADS, given.seconds, strict=True)), given.loads)
    settings = {"repeats": given.repeats, "seconds": given.seconds, "policies": POLICIES}
    about = {"load_average_before": before, "wall_seconds": round(time.perf_counter() - start, 1)}
    save(given.out, {"settings": settings, **about, "busy_processes": found})


if __name__ == "__main__":
    main()
