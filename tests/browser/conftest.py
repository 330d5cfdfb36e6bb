"""Debian's chromium, driven by playwright; a run on the tiny model, and scans that were made up."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from running import command

from ks_lottery.cli.main import main
from ks_lottery.recipes.page import write_report
from ks_lottery.tickets.distributions import Quantiles, quantiles_of_rows
from ks_lottery.tickets.scan import Part, Scan

HOSTILE = [
    "</script><script>window.hacked = 1</script>", "<img src=x onerror=window.hacked=1>", "a\u202eb", "\u200bzero", "nul\x00",
    "half \ud83d", "{{ 7 * 7 }}", "javascript:alert(1)", "\u05d0\u05d1", "\u2028line",
]  # fmt: skip


@pytest.fixture(scope="session")
def hostile_tokens():
    return HOSTILE


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("no chromium is installed: apt-get install chromium, or name one by CHROMIUM")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page, with what it said and what it asked for."""

    def __init__(self, browser, address, **context):
        self.context = browser.new_context(accept_downloads=True, **context)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def rows(self):
        self.page.wait_for_selector(".rows[data-ready]", timeout=60_000)
        return self.page.locator(".rows").first

    def scroll_through(self):
        """Bring each figure into view and wait for its drawing, as the page grows while figures are drawn."""
        figures = self.page.locator("figure.chart")
        for place in range(figures.count()):
            figures.nth(place).scroll_into_view_if_needed()
            self.until(f"document.querySelectorAll('figure.chart')[{place}].querySelector('.plot svg')")

    def until(self, expression, seconds=60):
        """Wait until an expression is true; `wait_for_function` would be stopped by the policy of the page."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, (expression, self.said)
            self.page.wait_for_timeout(100)


@pytest.fixture
def open_page(browser):
    opened = []

    def open_one(file, **context) -> Opened:
        address = Path(file).resolve().as_uri() if not str(file).startswith("http") else str(file)
        opened.append(Opened(browser, address, **context))
        return opened[-1]

    yield open_one
    for one in opened:
        one.context.close()


@pytest.fixture(scope="session")
def run_folder(narrow_model, text_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("browser") / "run"
    assert main(command(narrow_model, text_file, out)) == 0
    return out


def made_up_scan(tokens, moved, width=64, seed=0):
    """Return a scan of one embedding whose first rows moved, with the quantiles of the first 200 of them."""
    from ks_lottery.stats.ks import ks_counts

    rng = np.random.default_rng(seed)
    count = len(tokens)
    before = rng.normal(size=(min(moved, 300), width))
    after = (
        before
        + rng.normal(size=before.shape) * rng.uniform(0.2, 3, (len(before), 1))
        + rng.normal(size=(len(before), 1))
    )
    counts = np.zeros(count, dtype=np.int64)
    counts[: len(before)] = ks_counts(before, after)
    counts[len(before) : moved] = rng.integers(1, 12, moved - len(before))
    spread, cos = np.zeros(count), np.zeros(count)
    spread[:moved], cos[:moved] = rng.lognormal(-1, 1, moved), rng.lognormal(-3, 2, moved)
    part = Part(tensor="embed.weight", start=0, count=count, width=width, compared_as="float32")
    made = Scan(
        parts=(part,), counts=counts, moved=np.where(np.arange(count) < moved, width, 0), zeros=np.zeros(count, dtype=np.int64),
        distance=spread * 3, largest=spread * 2, spread=spread, cos=cos, absolute=spread / 9, absolute_signed=spread / 20,
        relative=1 + spread, kl=cos / 5, made_from={"base": {"name": "base"}}, settings={"vocabulary": ["embed.weight"]},
    )  # fmt: skip
    order = made.by_pvalue()
    units = np.sort(order[order < len(before)][:200])
    known = Quantiles(units=units, before=quantiles_of_rows(before[units]), after=quantiles_of_rows(after[units]))
    return made, known


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory):
    """Return a page on a scan with hostile tokens, and the scan."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("hostile")
    tokens = [*HOSTILE, *(f"' word{i}'" for i in range(3000 - len(HOSTILE)))]
    scan, quantiles = made_up_scan(tokens, 400)
    scan = replace(scan, quantiles=quantiles)
    writable = [token.encode("utf-8", "backslashreplace").decode() for token in tokens]  # Parquet has no half pairs
    scan.save(folder / "scan.parquet", writable)
    return write_report([folder / "scan.parquet"], folder / "page.html"), scan, folder / "scan.parquet"


@pytest.fixture(scope="session")
def large_page(tmp_path_factory):
    """Return a page on a vocabulary of 262,144 rows, of which most moved."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(1)
    letters = [
        np.array(list(text))
        for text in ("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмн", "漢字仮名交文日本語中国", "0123456789")
    ]
    words = [repr(" " * (i % 2) + "".join(rng.choice(letters[i % 4], 3 + i % 6))) for i in range(262_144)]
    scan, _ = made_up_scan(words, 200_000)
    scan.save(folder / "scan.parquet", words)
    return write_report([folder / "scan.parquet"], folder / "page.html"), scan
