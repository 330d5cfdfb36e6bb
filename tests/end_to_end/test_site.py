"""The site that `make docs` builds: complete, without anything from another host, and with its equations rendered."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from pages import PAGES, ROOT

import ks_lottery

API = sorted((ROOT / "docs" / "api").glob("*.md"))


class Parsed(HTMLParser):
    """Ids, links, what a browser would fetch by itself, and elements of MathML of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.fetched, self.equations = set(), [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.add(given.get("id"))
        self.equations += tag == "math"
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.fetched += [given[name] for name in ("src", "href") if given.get(name) and tag != "a"]


def test_every_public_name_is_in_the_reference_once():
    listed = [
        name for page in API for name in re.findall(r"^::: ks_lottery\.(\w+)$", page.read_text(), flags=re.MULTILINE)
    ]
    assert sorted(listed) == sorted(set(ks_lottery.__all__) - {"__version__"})


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(
        build, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return {file.relative_to(out).as_posix(): Parsed(file.read_text(encoding="utf-8")) for file in out.rglob("*.html")}


@pytest.mark.slow
def test_each_page_is_there_and_each_link_and_anchor(site):
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if "docs" in page.parts]
    assert {f"{page.removesuffix('.md')}.html" for page in pages} <= set(site)
    for name, page in site.items():
        folder = name.rpartition("/")[0]
        for link in page.links:
            target, _, anchor = link.partition("#")
            if target.startswith(("http", "mailto")) or name == "404.html":
                continue
            path = os.path.normpath(os.path.join(folder, target)) if target else name  # noqa: PTH118 (of a site)
            if path.endswith(".html"):
                assert path in site, (name, link)
                assert not anchor or anchor in site[path].ids, (name, link)


@pytest.mark.slow
def test_nothing_comes_from_another_host_and_equations_are_rendered(site):
    for name, page in site.items():
        assert not [address for address in page.fetched if address.startswith(("http", "//"))], name
    assert site["method.html"].equations > 30
    pictures = [address for address in site["results.html"].fetched if address.startswith("data:image/png;base64,")]
    assert len(pictures) == 2
    inside = [a for page in site.values() for a in page.fetched if a.endswith(".png") and ".." in a and "results" in a]
    assert inside == []


@pytest.mark.slow
def test_every_public_name_has_an_anchor(site):
    ids = set().union(*(page.ids for name, page in site.items() if name.startswith("api/")))
    assert {f"ks_lottery.{name}" for name in ks_lottery.__all__ if name != "__version__"} <= ids
