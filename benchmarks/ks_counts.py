"""The KS test of every row of an embedding: a loop over `scipy.stats.ks_2samp` against `ks_counts` and the exact table.

    python benchmarks/ks_counts.py [--rows 49152] [--width 576] [--peer-rows 500]

The peer runs on the first rows alone and is scaled up; counts and p are compared on those.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.stats import ks_2samp

from ks_lottery.stats.ks import ks_counts
from ks_lottery.stats.null import log_pvalues


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=49_152)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--peer-rows", type=int, default=500)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    before = generator.normal(0, 0.12, (given.rows, given.width)).astype(np.float32)
    after = before + generator.normal(0, 0.03, before.shape).astype(np.float32)

    start = time.perf_counter()
    table = log_pvalues(given.width)
    counts = ks_counts(before, after)
    pvalues = np.exp(table[counts])
    ours = time.perf_counter() - start

    start = time.perf_counter()
    peer = [ks_2samp(before[row], after[row]) for row in range(given.peer_rows)]
    theirs = (time.perf_counter() - start) * given.rows / given.peer_rows
    same = all(round(p.statistic * given.width) == k for p, k in zip(peer, counts, strict=False))
    error = max(abs(p.pvalue - q) / p.pvalue for p, q in zip(peer, pvalues, strict=False))
    print(f"{given.rows:,} rows of {given.width} float32, every one changed")
    print(f"scipy loop  {theirs:9.2f} s (measured on {given.peer_rows} rows)")
    print(f"ks_counts   {ours:9.2f} s, {2 * before.nbytes / ours / 1e9:.2f} GB/s of input")
    print(f"ratio       {theirs / ours:9.0f}; counts equal: {same}; largest relative error of p: {error:.1e}")


if __name__ == "__main__":
    main()
