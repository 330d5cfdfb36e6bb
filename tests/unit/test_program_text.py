"""Placeholders and markup against Python's and HTML's own definitions, and prices, percentages and names that are neither."""

from __future__ import annotations

from html.entities import html5

import pytest

from ks_lottery.corpus.program_text import has_markup, has_placeholder


@pytest.mark.parametrize(
    "text",
    [
        "%d files", "%s", "%i of %i", "%u", "%x", "%c", "%f %%", "%5d", "%05d", "%-5s", "%.2f", "%5.1f", "%ld",
        "%lu", "%zu", "%lld",
        "%(name)s", "%(count)d files", "%(ratio).2f", "%1$s", "%2$d", "%1$@", "%@", "%dx%d", "%dpx", "%s's",
        "(%s)", "a%sb", "{}", "{0}",
        "{name}", "{count, plural, other {#}}", "%{name}", "$name", "${name}", "$(name)", "at $HOME now",
    ],
)  # fmt: skip
def test_placeholders(text):
    assert has_placeholder(text)
    assert has_placeholder(f"Hello {text} world")


@pytest.mark.parametrize(
    "text",
    [
        "$12", "$100,000", "US$3 billion", "A$5", "$5m", "$1.5bn", "NZ$", "100%", "21% for most", "100 %",
        "100%ige Lösung", "%50eko", "%20si",
        "100 %ige", "5%-os", "el 50 %de la gente", "99%a", "100%s", "A$AP", "Ke$ha", "$US 5", "$US5",
        "$CA\u00a012", "5 %a", "25\u202f%i",
        "€100,000", "£5", "5 %", "5 %-Punkte", "%-Punkte", "R&D", "AT&T;", "%3,5", "R&D;", "x = 5 % 3", "50%",
        "%", "$", "% of",
    ],
)  # fmt: skip
def test_prices_and_percentages_are_text(text):
    assert not has_placeholder(text)
    assert not has_placeholder(f"Hello {text}, world")
    assert not has_markup(text)


@pytest.mark.parametrize("conversion", "diouxXeEfFgGcrsa")
def test_every_conversion_of_python_by_name(conversion):
    value = "x" if conversion in "crsa" else 5
    assert f"%(name){conversion}" % {"name": value}  # Python takes it
    assert has_placeholder(f"A %(name){conversion} here")
    assert has_placeholder(f"A %{conversion} here")


@pytest.mark.parametrize(
    "text", ["<b>", "</b>", "a <br/> b", '<a href="x">y</a>', "&#160;", "&#xA0;", "http://a.b", "www.a.b"]
)
def test_markup(text):
    assert has_markup(text)


def test_the_entities_of_html_are_markup_and_no_other():
    assert all(has_markup(f"a &{name} b") for name in html5 if name.endswith(";"))
    assert not any(
        has_markup(text) for text in ("R&D; and", "AT&T; or", "Q&A; more", "a < b > c", "1 <2> 3", "&nosuchname;")
    )
