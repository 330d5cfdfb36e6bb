"""Time and size of the page of a large scan: ``ks-lottery report`` on made-up scores of a whole vocabulary.

    python benchmarks/report_page.py [--rows 262144] [--runs 5] [--out benchmarks/results/report_page.json]

Four fifths of the rows moved, and their tokens are of four scripts and digits. The command runs in a fresh process each time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ks_lottery.tickets.scan import Part, Scan
from measuring import save

HERE = Path(__file__).resolve()
WIDTH = 640
LETTERS = ("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрст", "漢字仮名交文日本語中国", "ابتثجحخد", "0123456789")


def made_up(rows: int) -> tuple[Scan, list[str]]:
    """Return a scan of one embedding, and its tokens."""
    rng = np.random.default_rng(0)
    counts = np.where(rng.random(rows) < 0.8, rng.geometric(0.02, rows).clip(1, 400), 0)

    def scores(scale: float) -> np.ndarray:
        return np.where(counts > 0, rng.lognormal(-3, 1, rows) * scale, 0.0)

    name = "model.embed_tokens.weight"
    scan = Scan(
        parts=(Part(tensor=name, start=0, count=rows, width=WIDTH, compared_as="bfloat16"),), counts=counts.astype(np.int64),
        moved=np.where(counts > 0, WIDTH, 0), zeros=np.zeros(rows, dtype=np.int64), distance=scores(10), largest=scores(1),
        spread=scores(1), cos=scores(0.1), absolute=scores(0.01), absolute_signed=scores(0.001) * rng.choice([-1, 1], rows),
        kl=scores(0.001), relative=np.where(counts > 0, 1 + rng.normal(0, 1, rows), 1.0), made_from={"base": {"name": "made"}},
        settings={"vocabulary": [name]},
    )  # fmt: skip
    tokens = [
        repr(" " * (row % 2) + "".join(rng.choice(list(LETTERS[row % len(LETTERS)]), 2 + row % 6)))
        for row in range(rows)
    ]
    return scan, tokens


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=262_144)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "report_page.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scan, tokens = made_up(given.rows)
        file, page = Path(scratch) / "scan.parquet", Path(scratch) / "page.html"
        scan.save(file, tokens)
        seconds: list[float] = []
        for _ in range(given.runs):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "ks_lottery", "report", str(file), "--out", str(page)],
                           check=True, capture_output=True)  # fmt: skip
            seconds.append(round(time.perf_counter() - start, 2))
        result = {
            "rows": given.rows, "moved": int((scan.moved > 0).sum()), "parquet_mb": round(file.stat().st_size / 1e6, 1),
            "page_mb": round(page.stat().st_size / 1e6, 1), "seconds": seconds, "median": statistics.median(seconds),
        }  # fmt: skip
    print(result)
    save(given.out, {"report": result})


if __name__ == "__main__":
    main()
