"""What the benchmarks share: each side in a fresh process, several runs; medians, peak memory, and the machine written down.

Must never measure two things in one process: what one leaves in caches and memory would count for the other.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

RUNS = 5


def fresh(call: list[str], *, runs: int = RUNS, python: Path | None = None) -> dict[str, Any]:
    """Run a side `runs` times, each in a new process; its last line is a JSON object. Return the run of median ``seconds``.

    Parameters
    ----------
    call
        Script and arguments.
    python
        Interpreter, of another environment for a peer that cannot live in this one.
    """
    results: list[dict[str, Any]] = []
    for _ in range(runs):
        done = subprocess.run([str(python or sys.executable), *call], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(call)} failed:\n{done.stderr[-2000:]}")
        results.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = [result["seconds"] for result in results]
    middle = results[seconds.index(statistics.median_low(seconds))]
    return {**middle, "runs": seconds, "peak_mb": round(statistics.median(r["peak_mb"] for r in results), 1)}


def peak_mb() -> float:
    """Return the largest resident memory that this process has had, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent had before it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)


def memory_from_here(lm: Any) -> float:
    """Let the peak of this process count from now on, and return what is in memory now, in MB.

    The parameters are copied first: pages of a mapped file would count when they are first touched.
    """
    for parameter in lm.parameters():
        parameter.data = parameter.data.clone()
    lm.tie_weights()
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def machine() -> dict[str, Any]:
    """Describe the machine and the versions."""
    from ks_lottery.store.manifest import versions

    about = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in about.read_text().splitlines() if line.startswith("model name")] \
        if about.is_file() else [platform.processor()]  # fmt: skip
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def save(file: Path, content: dict[str, Any]) -> None:
    """Write the results, whole or not at all."""
    from ks_lottery.store.files import write_json

    write_json(file, {"machine": machine(), **content})
    print(f"results in {file}")
