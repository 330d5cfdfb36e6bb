"""How far rows moved, against plain definitions in NumPy and SciPy, and against exact arithmetic where those cancel."""

from __future__ import annotations

import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.special import rel_entr, softmax

from ks_lottery.stats.ks import INFINITY_BITS, bits
from ks_lottery.stats.moves import MOVES, row_moves, row_moves_16


def moves(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    out = np.zeros((len(a), len(MOVES)))
    row_moves(a, b, out)
    return dict(zip(MOVES, out.T, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 5, 33, 576])
def test_definitions(d: int, dtype: type) -> None:
    generator = np.random.default_rng(d)
    a = generator.normal(size=(6, d)).astype(dtype)
    b = (a + generator.normal(size=(6, d))).astype(dtype)
    a[0, : d // 2] = 0
    b[1, : d // 2] = a[1, : d // 2]
    found = moves(a, b)
    x, y = a.astype(np.float64), b.astype(np.float64)
    nonzero = x != 0
    wanted = {
        "moved": (x != y).sum(axis=1),
        "squares": ((y - x) ** 2).sum(axis=1),
        "total": np.abs(y - x).sum(axis=1),
        "net": (y - x).sum(axis=1),
        "largest": np.abs(y - x).max(axis=1),
        "variance": x.var(axis=1),
        "cosine": [cosine(u, v) for u, v in zip(x, y, strict=True)],
        "relative": np.where(nonzero, y / np.where(nonzero, x, 1), 0).sum(axis=1),
        "nonzero": nonzero.sum(axis=1),
        "kl": rel_entr(softmax(y, axis=1), softmax(x, axis=1)).sum(axis=1),
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-15, err_msg=name)


def test_small_moves_do_not_cancel() -> None:
    """Where the usual formulas in float64 lose every digit."""
    generator = np.random.default_rng(0)
    a = generator.normal(size=(3, 40))
    b = a + 1e-9 * generator.normal(size=a.shape)
    found = moves(a, b)
    mpmath.mp.dps = 60
    for row in range(3):
        x, y = ([mpmath.mpf(float(v)) for v in s[row]] for s in (a, b))
        dot = mpmath.fsum(u * v for u, v in zip(x, y, strict=True))
        norm = mpmath.sqrt(mpmath.fsum(u * u for u in x)) * mpmath.sqrt(mpmath.fsum(v * v for v in y))
        assert found["cosine"][row] == pytest.approx(float(1 - dot / norm), rel=1e-6)
        before, after = (mpmath.fsum(mpmath.exp(u) for u in s) for s in (x, y))
        kl = mpmath.fsum(
            mpmath.exp(v) / after * (v - u - mpmath.log(after) + mpmath.log(before)) for u, v in zip(x, y, strict=True)
        )
        assert found["kl"][row] == pytest.approx(float(kl), rel=1e-6)


def test_extremes() -> None:
    a = np.array([[0.0, 0.0, 0.0], [1000.0, -1000.0, 0.0], [1.0, 2.0, 3.0]])
    b = np.array([[1.0, 0.0, 0.0], [-1000.0, 1000.0, 0.0], [1.0, 2.0, 3.0]])
    found = moves(a, b)
    assert np.isnan(found["cosine"][0])  # a zero vector has no direction
    assert found["nonzero"].tolist() == [0, 2, 3]
    assert found["cosine"][1] == pytest.approx(2)
    assert found["moved"].tolist() == [1, 2, 0]
    for name in ("squares", "total", "net", "largest", "cosine", "kl"):
        assert found[name][2] == 0, name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_16_bit_value_is_widened_exactly(dtype: str) -> None:
    """Each value there is, subnormal ones and infinity included, against torch's own float32."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(getattr(torch, dtype))
    a = every[~every.isnan()].reshape(-1, 2)  # short rows: a sum over one of them tells its values apart
    b = a.flip(1).contiguous()
    found, wanted = np.zeros((2, len(a), len(MOVES)))
    row_moves_16(bits(a), bits(b), INFINITY_BITS[dtype], found)
    row_moves(a.float().numpy(), b.float().numpy(), wanted)
    np.testing.assert_array_equal(found, wanted)


def test_what_is_compiled_anew_gives_the_bits_of_what_was_kept(tmp_path) -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from ks_lottery.stats.moves import row_moves, row_moves_16\n"
        "draw = np.random.default_rng(0)\n"
        "a, out = draw.normal(size=(50, 99)).astype(np.float32), np.empty((2, 50, 10))\n"
        "b = a + draw.normal(size=a.shape).astype(np.float32)\n"
        "row_moves(a, b, out[0])\n"
        "row_moves_16(*((x.view(np.uint32) >> 16).astype(np.uint16) for x in (a, b)), 0x7F80, out[1])\n"
        "print(hashlib.sha256(out.tobytes()).hexdigest())\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(seen) == 1
    assert list(tmp_path.rglob("*.nbc"))
