"""The scan against a SciPy loop, alibi-detect and TorchDrift, against its floors, and cold from disk.

    python benchmarks/scan.py [--rows 32000] [--width 4096] [--gigabytes 2] [--out benchmarks/results/scan.json]

Matrices have the shape of LLaMA-7B's embedding; every row changed. SciPy and the peers work on the first --sample rows and
are scaled up; their D is held against SciPy's. alibi-detect needs numpy < 2 and TorchDrift is not a dependency: both are
installed through pip into a cache folder of their own. "Cold" is after the files were dropped from the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from measuring import fresh, peak_mb, save

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve()
DTYPES = ("bfloat16", "float16", "float32")
SETTINGS = {
    "scipy": "ks_2samp(a, b) a row, defaults: two-sided, method auto, which is exact up to 10,000",
    "alibi": "KSDrift(x_ref, correction='bonferroni').feature_score(x_ref, x): a loop over ks_2samp(mode='asymp')",
    "torchdrift": "detectors.ks_two_sample_multi_dim(x, y), float32, one call for all rows of the sample; D alone, no p",
    "ks-lottery": "ks_counts of all rows and one table of exact p, compiled loops loaded beforehand",
}


def arrays(folder: Path, dtype: str) -> tuple[Any, Any]:
    """Load both matrices into memory, 16-bit floats as torch tensors."""
    a, b = (np.load(folder / f"{dtype}.{side}.npy") for side in ("before", "after"))
    if dtype == "float32":
        return a, b
    import torch

    kind = getattr(torch, dtype)
    return tuple(torch.from_numpy(x.view(np.int16)).view(kind) for x in (a, b))


def sample(folder: Path, dtype: str) -> tuple[Any, Any]:
    """Load the first rows as float32, in which 16-bit floats are exact."""
    return tuple(np.load(folder / f"{dtype}.sample.{side}.npy") for side in ("before", "after"))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and what came out."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def halves(work: Callable[[Any], Any], *matrices: Any) -> None:
    """Do `work` on both halves of each matrix, a thread a half."""
    parts = [part for m in matrices for part in np.array_split(m, 2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, parts))


def side_scipy(folder: Path, dtype: str) -> tuple[float, int, Any]:
    """Loop over the rows of the sample."""
    from scipy.stats import ks_2samp

    a, b = sample(folder, dtype)
    ks_2samp(a[0], b[0])
    seconds, found = timed(lambda: [ks_2samp(x, y) for x, y in zip(a, b, strict=True)])
    return seconds, len(a), [f.statistic for f in found]


def side_alibi(folder: Path, dtype: str) -> tuple[float, int, Any]:
    """Test rows as features."""
    from alibi_detect.cd import KSDrift

    a, b = (np.ascontiguousarray(x.T) for x in sample(folder, dtype))
    detector = KSDrift(a, correction="bonferroni")
    seconds, (_, distance) = timed(lambda: detector.feature_score(a, b))
    return seconds, a.shape[1], distance


def side_torchdrift(folder: Path, dtype: str) -> tuple[float, int, Any]:
    """Test rows as features."""
    import torch
    from torchdrift.detectors import ks_two_sample_multi_dim

    a, b = (torch.from_numpy(np.ascontiguousarray(x.T)) for x in sample(folder, dtype))
    ks_two_sample_multi_dim(a[:, :2], b[:, :2])
    seconds, distance = timed(lambda: ks_two_sample_multi_dim(a, b))
    return seconds, a.shape[1], distance.numpy()


def side_ours(folder: Path, dtype: str) -> tuple[float, int, Any]:
    """Count all rows."""
    from ks_lottery.stats.ks import ks_counts
    from ks_lottery.stats.null import log_pvalues

    a, b = arrays(folder, dtype)
    ks_counts(a[:64], b[:64])
    seconds, (counts, _) = timed(lambda: ((k := ks_counts(a, b)), log_pvalues(a.shape[1])[k]))
    return seconds, len(a), counts / a.shape[1]


def side_cuda(folder: Path, dtype: str) -> tuple[float, int, Any]:
    """Count all rows on a GPU, with the matrices there already."""
    import torch

    from ks_lottery.stats.ks import ks_counts

    a, b = (torch.as_tensor(x).cuda() for x in arrays(folder, dtype))
    ks_counts(a, b)
    torch.cuda.synchronize()
    seconds, counts = timed(lambda: ks_counts(a, b))
    return seconds, len(a), counts / a.shape[1]


def side_read(folder: Path, dtype: str) -> tuple[float, int, Any]:
    """Read both matrices once from memory: the largest of their 64-bit words."""
    a, b = (np.load(folder / f"{dtype}.{side}.npy").view(np.uint64) for side in ("before", "after"))
    seconds, _ = timed(lambda: halves(np.max, a, b))
    return seconds, len(a), None


def side_sort(folder: Path, dtype: str) -> tuple[float, int, Any]:
    """Sort each row of both matrices once; bfloat16 as its bits, which numpy sorts as fast."""
    a, b = (np.load(folder / f"{dtype}.{side}.npy") for side in ("before", "after"))
    if dtype == "float16":
        a, b = a.view(np.float16), b.view(np.float16)
    seconds, _ = timed(lambda: halves(lambda m: np.sort(m, axis=1), a, b))
    return seconds, len(a), None


SIDES = {
    "scipy": side_scipy, "alibi": side_alibi, "torchdrift": side_torchdrift, "ks-lottery": side_ours,
    "cuda": side_cuda, "read": side_read, "sort": side_sort,
}  # fmt: skip


def run_side(name: str, folder: Path, dtype: str) -> None:
    """Measure one side in this process, leave its D, and print what a fresh process is asked for."""
    seconds, rows, distance = SIDES[name](folder, dtype)
    if distance is not None:
        np.save(folder / f"{dtype}.{name}.D.npy", np.asarray(distance, dtype=np.float64))
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak_mb()}))


def make_matrices(folder: Path, rows: int, width: int, few: int) -> None:
    """Write normal rows before and after, in each type, and the first rows as float32."""
    import torch

    generator = torch.Generator().manual_seed(0)
    before = torch.randn(rows, width, generator=generator) * 0.02
    after = before + torch.randn(rows, width, generator=generator) * 0.002
    for dtype in DTYPES:
        for side, matrix in (("before", before), ("after", after)):
            stored = matrix.to(getattr(torch, dtype))
            whole = stored.numpy() if dtype == "float32" else stored.view(torch.int16).numpy().view(np.uint16)
            np.save(folder / f"{dtype}.{side}.npy", whole)
            np.save(folder / f"{dtype}.sample.{side}.npy", stored[:few].float().numpy())


def peers() -> tuple[Path, Path]:
    """Return an interpreter with alibi-detect and a folder with TorchDrift, installed on the first call."""
    from ks_lottery.store.assets import cache_folder

    home = cache_folder() / "benchmarks"
    python, drift = home / "alibi" / "bin" / "python", home / "torchdrift"
    quiet = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if not (home / "alibi" / "done").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(home / "alibi")], check=True)
        subprocess.run([str(python), *quiet, "alibi-detect==0.13.0", "numpy<2"], check=True)
        (home / "alibi" / "done").touch()
    if not drift.is_dir():
        subprocess.run(
            [sys.executable, *quiet, "--no-deps", "--target", str(drift), "torchdrift==0.1.0.post1"], check=True
        )
    return python, drift


def against_peers(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure rows a second of every side, and count the rows whose D differs from SciPy's."""
    alibi, drift = peers()
    make_matrices(folder, given.rows, given.width, given.sample)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(drift), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    results: dict[str, Any] = {}
    names = [n for n in SIDES if n != "cuda" or given.cuda]
    for dtype in DTYPES:
        table: dict[str, Any] = {}
        for name in names:
            call = [str(HERE), "--side", name, "--folder", str(folder), "--dtype", dtype]
            table[name] = fresh(call, runs=given.runs, python=alibi if name == "alibi" else None)
            table[name]["rows_per_second"] = table[name]["rows"] / table[name]["seconds"]
        truth = np.rint(np.load(folder / f"{dtype}.scipy.D.npy") * given.width)
        for name in names:
            file = folder / f"{dtype}.{name}.D.npy"
            if name != "scipy" and file.is_file():
                found = np.load(file)[: len(truth)] * given.width
                table[name]["rows_with_another_D"] = int((np.abs(found - truth) > 0.25).sum())
                table[name]["of_rows"] = len(truth)
        results[dtype] = table
        print(f"\n{given.rows:,} x {given.width:,} {dtype}, every row changed")
        print(f"{'':12}{'rows/s':>12}{'x scipy':>10}{'seconds':>10}{'peak MB':>10}  rows with another D than SciPy's")
        for name, row in table.items():
            ratio = row["rows_per_second"] / table["scipy"]["rows_per_second"]
            whole = given.rows / row["rows_per_second"]
            other = f"{row['rows_with_another_D']} of {row['of_rows']}" if "of_rows" in row else ""
            print(f"{name:12}{row['rows_per_second']:12,.0f}{ratio:10.1f}{whole:10.2f}{row['peak_mb']:10,.0f}  {other}")
    return results


def checkpoint(folder: Path, gigabytes: float, width: int) -> tuple[Path, Path]:
    """Write two checkpoints of one bfloat16 embedding each."""
    import torch
    from safetensors.torch import save_file

    rows = int(gigabytes * 2**30 / (2 * width))
    generator = torch.Generator().manual_seed(0)
    before = torch.empty(rows, width, dtype=torch.bfloat16)
    after = torch.empty_like(before)
    for start in range(0, rows, 8192):
        block = torch.randn(min(8192, rows - start), width, generator=generator) * 0.02
        before[start : start + 8192] = block
        after[start : start + 8192] = block + torch.randn(block.shape, generator=generator) * 0.002
    files = (folder / "before.safetensors", folder / "after.safetensors")
    for file, matrix in zip(files, (before, after), strict=True):
        save_file({"model.embed_tokens.weight": matrix}, file)
    return files


def drop(*files: Path) -> None:
    """Drop files from the page cache."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def run_kernel(one: Path, other: Path) -> None:
    """Measure counts and moves of two checkpoints that lie in memory, block by block, a thread a core."""
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.stats.kernels import threads
    from ks_lottery.stats.ks import INFINITY_BITS, bits, count_block
    from ks_lottery.stats.moves import MOVES, row_moves_16

    sides = [Checkpoint.open(file) for file in (one, other)]
    rows = sides[0].vocabulary
    a, b = (bits(side.block(side.embedding, 0, rows)) for side in sides)
    infinity, step = INFINITY_BITS["bfloat16"], 256

    def work(start: int) -> None:
        part = slice(start, start + step)
        count_block(a[part], b[part], infinity)
        row_moves_16(a[part], b[part], infinity, np.empty((len(a[part]), len(MOVES))))

    work(0)
    with ThreadPoolExecutor(threads()) as pool:
        seconds, _ = timed(lambda: list(pool.map(work, range(0, rows, step))))
    print(json.dumps({"seconds": seconds, "peak_mb": 0}))


def run_read(one: Path, other: Path) -> None:
    """Measure one cold read of both files."""
    drop(one, other)
    buffer = bytearray(4 << 20)

    def work() -> None:
        for file in (one, other):
            with file.open("rb", buffering=0) as handle:
                while handle.readinto(buffer):
                    pass

    print(json.dumps({"seconds": timed(work)[0], "peak_mb": 0}))


def run_scan(one: Path, other: Path) -> None:
    """Measure the command, cold, start of the interpreter included, and its peak memory."""
    import resource

    drop(one, other)
    call = [sys.executable, "-m", "ks_lottery", "scan", str(one), str(other), "--top", "3"]
    seconds, _ = timed(lambda: subprocess.run(call, check=True, stdout=subprocess.DEVNULL))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "peak_mb": round(peak, 1)}))


def run_idle(_one: Path, _other: Path) -> None:
    """Measure an interpreter that imports what the command does, and nothing else."""
    seconds, _ = timed(lambda: (__import__("ks_lottery.cli.scan"), __import__("ks_lottery.stats.moves")))
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}))


COLD = {"kernel": run_kernel, "read": run_read, "scan": run_scan, "idle": run_idle}


def cold(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the cold command against its kernel and one cold read."""
    one, other = checkpoint(folder, given.gigabytes, given.width)
    found = {name: fresh([str(HERE), "--cold", name, "--folder", str(folder)], runs=given.runs) for name in COLD}
    seconds = {name: row["seconds"] for name, row in found.items()}
    ratio = seconds["scan"] / (seconds["kernel"] + seconds["read"])
    above = found["scan"]["peak_mb"] - found["idle"]["peak_mb"]
    print(f"\ncold scan of two files of {one.stat().st_size / 1e9:.2f} GB: {seconds['scan']:.2f} s")
    print(
        f"kernel {seconds['kernel']:.2f} s, one cold read of both {seconds['read']:.2f} s, imports {seconds['idle']:.2f} s"
    )
    print(
        f"ratio to kernel and read {ratio:.2f}; {above:.0f} MB above the {found['idle']['peak_mb']:.0f} MB of the imports alone"
    )
    return {**found, "bytes": [file.stat().st_size for file in (one, other)], "ratio": ratio, "mb_above_idle": above}


def main() -> None:
    """Measure, print and write; or be one of the fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32_000)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--sample", type=int, default=500, help="rows that SciPy and the peers work on")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of each file of the cold scan")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=("peers", "cold"), help="one of the two halves")
    parser.add_argument("--cuda", action="store_true", help="measure a GPU too")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "scan.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--cold", choices=COLD, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=DTYPES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run_side(given.side, given.folder, given.dtype)
        return
    if given.cold:
        COLD[given.cold](given.folder / "before.safetensors", given.folder / "after.safetensors")
        return
    found: dict[str, Any] = {}
    for name, work in (("peers", against_peers), ("cold", cold)):
        if given.only in {None, name}:
            with tempfile.TemporaryDirectory() as scratch:
                found[name] = work(given, Path(scratch))
    shape = {"rows": given.rows, "width": given.width, "sample": given.sample, "runs": given.runs}
    save(given.out, {"settings": {**shape, **SETTINGS}, **found})


if __name__ == "__main__":
    main()
