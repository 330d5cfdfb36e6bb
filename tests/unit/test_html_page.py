"""The HTML of a page: nothing in its content becomes markup or a script, and its policy allows its own scripts alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from ks_lottery.errors import UserError
from ks_lottery.report import html_page
from ks_lottery.report.html_page import as_script, to_page
from ks_lottery.report.page_parts import (
    Article,
    Figure,
    Page,
    PagePart,
    Passages,
    RowTable,
    SideBySide,
    Table,
    Tile,
    Tiles,
)
from ks_lottery.report.section import Column, Section
from ks_lottery.report.vega import intervals

EVIL = "</script></style></title>--><script>alert(1)</script>\"'&{{ 7*7 }}\u202e\x00\ud800<!--"


class Collector(HTMLParser):
    """What a browser would see: tags with their attributes, and the content of scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.scripts:
            self.scripts[-1] += data


def page(text, *, refreshes=False):
    section = Section(
        title=text, columns=[Column(title=text), Column(title="n", form=".2f")], rows=[[text, 1.0]], sentences=[text]
    )
    items = [
        Tiles(tiles=[Tile(label=text, value=text, note=text)]),
        Table(section=section, name=text),
        Figure(name=text, title=text, spec=intervals([(text, 1.0, 0.5, 2.0)], text), numbers=section),
        Passages(names=(text,), passages=[(text, [(text, text), (text, "")])]),
        SideBySide(titles=(text, text), lines=[[[(text, False)], [(text, True)]]]),
        RowTable(name=text, payload={"note": text}),
    ]
    part = PagePart(title=text, sentence=text, items=items)
    return Page(
        title=text,
        articles=[Article(title=text, about=text, parts=[part] * 3)],
        refreshes=refreshes,
        versions={text: text},
    )


def seen(html):
    collector = Collector()
    collector.feed(html)
    collector.close()
    return collector


def test_hostile_text_is_text_everywhere():
    plain, evil = seen(to_page(page("plain"))), seen(to_page(page(EVIL)))
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert not any(name.startswith("on") for _, attributes in evil.tags for name in attributes)
    html = to_page(page(EVIL))
    assert not re.search("[\x00\u202e\ud800]", html)
    html.encode()
    assert "49" not in re.findall(r"<h2[^>]*>(.*?)</h2>", html)[0]


def test_the_data_is_what_was_given():
    content = json.loads(seen(to_page(page(EVIL))).scripts[0])
    item = content[0]["0-1"]
    assert item["name"] == EVIL
    assert json.loads(as_script({"a": EVIL})) == {"a": EVIL}


@pytest.mark.parametrize("refreshes", [False, True])
def test_the_policy_allows_the_scripts_of_the_page_alone(refreshes):
    html = to_page(page("plain", refreshes=refreshes))
    policy = next(a["content"] for tag, a in seen(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(scripts) == 3
    assert re.search(r"script-src ([^;]*);", policy)[1].split() == [f"'sha256-{digest}'" for digest in digests]
    assert "default-src 'none'" in policy
    assert re.search(r"connect-src ([^;]*);", policy)[1] == ("'self'" if refreshes else "'none'")
    assert "unsafe-eval" not in policy
    assert not re.search(
        r"""(?:src|href)=["']?(?:https?:)?//""", html.replace("\n", " ").split("<script", maxsplit=1)[0]
    )


def test_without_the_script_of_the_charts_one_sentence_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(html_page, "BUNDLE", "missing.js")
    html_page._bundle.cache_clear()
    try:
        with pytest.raises(UserError, match=r"made when the package is built.*hatch_build"):
            to_page(page("plain"))
    finally:
        html_page._bundle.cache_clear()
