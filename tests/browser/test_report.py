"""The report in a real browser: what it shows, what it asks for, and what hostile content can do in it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ks_lottery.recipes.live_page import live_page
from ks_lottery.recipes.page import write_report
from ks_lottery.tickets.compare import compare
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.span_counts import SpanCounts

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]


def cells(rows, column):
    """Return what a column of the rows' table shows, by its head."""
    heads = rows.locator("thead th").all_inner_texts()
    return [line.locator("td").nth(heads.index(column)).inner_text() for line in rows.locator("tbody tr").all()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_a_run_draws_everything_without_a_request_or_an_error(run_folder, open_page, scheme, width):
    opened = open_page(run_folder / "report.html", viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.rows()
    opened.scroll_through()
    assert opened.said == []
    assert {url.split(":")[0] for url in opened.asked} <= {"file", "data", "blob"}
    assert opened.page.locator("figure.chart").count() >= 8
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    titles = opened.page.locator("h3").all_inner_texts()
    assert titles[:2] == ["Verdict", "Methods side by side"]
    assert (
        titles.index("Where the rows act") < titles.index("The tickets, and every other row") < titles.index("Training")
    )


def test_rows_are_sorted_filtered_and_picked(hostile_page, open_page):
    file, scan, _ = hostile_page
    opened = open_page(file)
    rows = opened.rows()
    first = scan.by_pvalue()[:20]
    assert cells(rows, "row") == [str(row) for row in first]
    assert list(map(float, cells(rows, "D"))) == pytest.approx(scan.statistics[first], abs=6e-5)
    rows.locator("thead button", has_text="move").click()
    largest = np.argsort(-scan.spread, kind="stable")[:20]
    assert cells(rows, "row") == [str(row) for row in largest]
    rows.locator("select").first.select_option("tickets")
    assert rows.locator(".bar .count").inner_text() == f"{len(scan.passing(0.05)):,} of 3,000 rows"
    rows.locator("select").first.select_option("")
    rows.locator("input[type=search]").fill("word1234")
    assert cells(rows, "token") == ["' word1234'"]
    rows.locator("input[type=search]").fill(str(first[0]))
    rows.locator("tbody button").first.click()
    panel = opened.page.locator(".picked")
    panel.locator("svg").wait_for()
    (shown,) = re.findall(r"D = (\d\.\d{4})", panel.locator("svg").text_content())
    assert float(shown) == pytest.approx(scan.statistics[first[0]], abs=6e-5)
    rows.locator("input[type=search]").fill("2999")
    rows.locator("tbody button").first.click()
    assert "did not move" in panel.inner_text()
    assert opened.said == []


def test_ranks_are_those_of_the_scan(hostile_page, open_page):
    """Values travel in 16 bits: a rank is off by no more than the rows within half a thousandth of the value."""
    file, scan, _ = hostile_page
    rows = open_page(file).rows()
    rows.locator("thead button", has_text="rank by cos").click()
    place = {row: rank for rank, row in enumerate(np.argsort(-scan.cos, kind="stable"), start=1)}
    for row, rank in zip(cells(rows, "row"), cells(rows, "rank by cos"), strict=True):
        near = np.abs(scan.cos - scan.cos[int(row)]) <= 1e-3 * scan.cos[int(row)]
        assert abs(int(rank.replace(",", "")) - place[int(row)]) <= near.sum() - 1


def test_frequency_ranks_are_those_of_the_training_text(run_folder, open_page):
    counts = SpanCounts.open(run_folder / "embed")
    total = dict(zip(counts.ids.tolist(), sum(counts.counts.values()).tolist(), strict=True))
    rows = open_page(run_folder / "report.html").rows()
    rows.locator("thead button", has_text="frequency rank").click()
    shown = dict(zip(map(int, cells(rows, "row")), cells(rows, "frequency rank"), strict=True))
    assert len(shown) == 20
    for row, rank in shown.items():
        assert int(rank) == 1 + sum(one > total[row] for one in total.values())


def test_hostile_tokens_are_shown_as_what_they_are(hostile_page, hostile_tokens, open_page):
    file, _, _ = hostile_page
    opened = open_page(file)
    rows = opened.rows()
    rows.locator("thead button", has_text="row").first.click()
    shown = cells(rows, "token")[: len(hostile_tokens)]
    wanted = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in token) for token in hostile_tokens]
    assert shown == wanted
    opened.scroll_through()
    for button in rows.locator("tbody button").all()[: len(hostile_tokens)]:
        button.click()
    assert opened.page.evaluate("window.hacked") is None
    assert opened.said == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.asked)


def test_the_keyboard_is_enough(hostile_page, open_page):
    opened = open_page(hostile_page[0])
    rows = opened.rows()
    head = rows.locator("thead button").filter(has_text=re.compile("^D$"))
    head.focus()
    opened.page.keyboard.press("Enter")
    assert rows.locator("th[aria-sort=descending]").inner_text() == "D"
    opened.page.keyboard.press("Space")
    assert rows.locator("th[aria-sort=ascending]").inner_text() == "D"
    head.focus()
    opened.page.keyboard.press("Enter")
    for _ in range(40):
        opened.page.keyboard.press("Tab")
        if opened.page.evaluate("document.activeElement.closest('tbody') !== null"):
            break
    opened.page.keyboard.press("Enter")
    opened.page.locator(".picked svg").wait_for()
    assert opened.page.evaluate("document.activeElement.closest('tr').getAttribute('aria-selected')") == "true"


def test_light_and_dark_change_page_and_charts(hostile_page, open_page):
    opened = open_page(hostile_page[0], color_scheme="light")
    opened.rows()
    opened.scroll_through()

    def colours():
        return opened.page.evaluate(
            """[getComputedStyle(document.body).backgroundColor,
            document.querySelector('figure.chart svg text').getAttribute('fill')]"""
        )

    light = colours()
    opened.page.locator("#theme").click()
    opened.page.wait_for_timeout(800)
    dark = colours()
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    opened.page.locator("#theme").click()
    opened.page.wait_for_timeout(800)
    assert colours() == light
    assert (
        open_page(hostile_page[0], color_scheme="dark").page.evaluate("getComputedStyle(document.body).backgroundColor")
        == dark[0]
    )


def test_a_screen_reader_finds_names(run_folder, open_page):
    opened = open_page(run_folder / "report.html")
    opened.rows()
    opened.scroll_through()
    nameless = opened.page.evaluate(
        """[...document.querySelectorAll('button, input, select, [role=img], [role=region]')].filter((element) =>
        !(element.getAttribute('aria-label') || element.textContent.trim() ||
          document.getElementById(element.getAttribute('aria-labelledby'))?.textContent.trim())).length"""
    )
    assert nameless == 0
    assert opened.page.locator("html").get_attribute("lang") == "en"
    levels = [
        int(name[1])
        for name in opened.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => h.tagName)")
    ]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def saved(opened, button) -> bytes:
    with opened.page.expect_download() as download:
        button.click()
    return Path(download.value.path()).read_bytes()


def test_figures_and_their_numbers_can_be_saved(run_folder, open_page):
    opened = open_page(run_folder / "report.html")
    opened.scroll_through()
    figure = opened.page.locator("figure.chart").first
    assert ET.fromstring(saved(opened, figure.get_by_text("SVG"))).tag.endswith("svg")
    assert saved(opened, figure.get_by_text("PNG")).startswith(b"\x89PNG")
    head, *lines = csv.reader(io.StringIO(saved(opened, figure.get_by_text("CSV")).decode()))
    assert head == ["name", "accuracy", "from", "to"]
    assert len(lines) == len(json.loads((run_folder / "summary.json").read_text())["methods"])
    assert all(float(low) <= float(value) <= float(high) for _, value, low, high in lines)


def test_a_vocabulary_of_262_144_rows(large_page, open_page):
    file, scan = large_page
    assert file.stat().st_size < 6_000_000
    painted = []
    for _ in range(3):
        opened = open_page(file)
        rows = opened.rows()
        painted.append(opened.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        assert opened.said == []
    assert min(painted) < 2000
    assert rows.locator(".bar .count").inner_text() == "262,144 of 262,144 rows"
    rows.locator("select").first.select_option("moved")
    assert rows.locator(".bar .count").inner_text() == "200,000 of 262,144 rows"
    assert "first 20,000" in opened.page.locator(".rows").inner_text()
    assert cells(rows, "row") == [str(row) for row in scan.by_pvalue()[:20]]


def test_several_results_are_side_by_side(run_folder, hostile_page, open_page, tmp_path):
    file = write_report([run_folder, hostile_page[2]], tmp_path / "two.html")
    opened = open_page(file, viewport={"width": 1400, "height": 900})
    boxes = [article.bounding_box() for article in opened.page.locator("article").all()]
    assert len(boxes) == 2
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert opened.said == []


def test_a_scan_of_an_earlier_version_still_opens(hostile_page, open_page, tmp_path):
    """Neither distributions nor kinds of token: the page says how to get the former."""
    from dataclasses import replace

    old = replace(Scan.open(hostile_page[2]), quantiles=None)
    old.save(tmp_path / "old.parquet", [f"'t{i}'" for i in range(3000)])
    opened = open_page(write_report([tmp_path / "old.parquet"], tmp_path / "page.html"))
    rows = opened.rows()
    rows.locator("tbody button").first.click()
    assert "--quantile-rows" in opened.page.locator(".picked").inner_text()
    assert opened.said == []


def test_a_click_on_a_cell_of_the_whole_model_shows_the_units_of_its_tensor(narrow_model, open_page, tmp_path):
    tuned = tmp_path / "tuned"
    shutil.copytree(narrow_model, tuned)
    tensors = load_file(tuned / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    moved = {name: one + 0.05 * torch.randn(one.shape, generator=generator) for name, one in tensors.items()}
    save_file(moved, tuned / "model.safetensors", metadata={"format": "pt"})
    compare(str(narrow_model), str(tuned), units="all").scan.save(tmp_path / "scan.parquet")
    opened = open_page(write_report([tmp_path / "scan.parquet"], tmp_path / "page.html"))
    opened.scroll_through()
    part = opened.page.locator("section", has=opened.page.locator("h3", has_text="The whole model"))
    cells = part.locator("figure.chart svg .mark-rect.role-mark path")
    tensors_of_rows = "rows => rows.filter(row => !row.hidden).map(row => row.cells[0].textContent)"
    shown = set()
    for place in (0, cells.count() - 1):
        cells.nth(place).click()
        name = part.locator("input[type=search]").input_value()
        assert name in moved
        rows = part.locator(".sheet tbody tr").evaluate_all(tensors_of_rows)
        assert rows
        assert set(rows) == {name}
        shown.add(name)
    assert len(shown) == 2
    assert opened.said == []


def test_watch_serves_this_machine_and_refreshes(run_folder, open_page, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    summary = (folder / "summary.json").read_bytes()
    (folder / "summary.json").unlink()
    with live_page(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        opened = open_page(server.address)
        assert "in progress" in opened.page.locator("h2").inner_text()
        opened.page.wait_for_timeout(2500)
        (folder / "summary.json").write_bytes(summary)
        opened.page.wait_for_timeout(6000)
        opened.until(
            "document.querySelector('h2') && !document.querySelector('h2').textContent.includes('in progress')"
        )
        opened.rows()
        assert {url.split("/")[2] for url in opened.asked if url.startswith("http")} == {
            f"127.0.0.1:{server.server_port}"
        }
        assert [line for line in opened.said if "favicon" not in line] == []
        server.shutdown()
        thread.join()
