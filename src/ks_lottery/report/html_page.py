"""A page as one self-contained HTML file: escaped, without requests, under a policy that the browser enforces."""

from __future__ import annotations

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.report.delimited import to_csv
from ks_lottery.report.forms import printable, show

if TYPE_CHECKING:
    from jinja2 import Environment

    from ks_lottery.report.page_parts import Page

TEMPLATES = Path(__file__).parent / "templates"

BUNDLE = "vega.js"
"""Vega, Vega-Lite and vega-embed, made when the package is built."""

SCRIPTS = ("page.js", "rows.js")

BUILD = "python hatch_build.py"


def to_page(page: Page) -> str:
    """Return a page as HTML.

    Every text is escaped, and characters that are not printable are shown by their escapes. The numbers that scripts read are
    JSON, in which nothing can end a script. The policy of the page allows its own scripts by their digests and no request;
    only a page that refreshes may ask its own server.

    Raises
    ------
    UserError
        When the package was built without the script of the charts.
    """
    scripts = [_bundle(), *(_own(name) for name in SCRIPTS)]
    content = _content(page)
    digests = " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts)
    server = "'self'" if page.refreshes else "'none'"
    policy = (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; connect-src {server}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html.j2")
        .render(page=page, policy=policy, style=_own("page.css"), scripts=scripts, content=as_script(content))
    )


def as_script(content: object) -> str:
    r"""Return JSON that can be written into a script element: no character in it means anything to HTML.

    >>> print(as_script({"token": "</script>"}))
    {"token":"\u003c/script\u003e"}
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))  # ASCII, also for half of a surrogate pair
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _content(page: Page) -> list[dict[str, Any]]:
    """Return by article what the scripts read: specifications, tables as CSV, and rows."""
    return [
        {
            f"{number}-{place}": _read_by_scripts(item)
            for number, part in enumerate(article.parts)
            for place, item in enumerate(part.items)
            if item.kind in {"figure", "table", "rows"}
        }
        for article in page.articles
    ]


def _read_by_scripts(item: Any) -> dict[str, Any]:
    if item.kind == "figure":
        return {"name": item.name, "spec": item.spec, "csv": to_csv(item.numbers), "link": item.link}
    if item.kind == "table":
        return {"name": item.name, "csv": to_csv(item.section)}
    return {"name": item.name, **item.payload}


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    environment.filters["visible"] = visible
    own: dict[str, Any] = {"show": show, "sort_key": sort_key}
    environment.globals.update(own)
    return environment


def visible(text: object) -> str:
    r"""Return text in which line breaks stay and other characters that are not printable are escaped.

    >>> print(visible("a\u202eb"))
    a\u202eb
    """
    return "\n".join(printable(line) for line in str(text).split("\n"))


def sort_key(value: Any) -> str:
    """Return what a column is sorted by in the page: numbers as such, of an interval the middle, and texts as they are.

    >>> sort_key(0.5), sort_key((0.0, 1.0)), sort_key(None), sort_key("a")
    ('0.5', '0.5', '', 'a')
    """
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return repr(sum(value) / len(value)) if all(isinstance(one, int | float) for one in value) else show(value)
    return printable(value) if isinstance(value, str) else repr(value)


@cache
def _own(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _bundle() -> str:
    """Return the script of the charts, in a scope of its own.

    Raises
    ------
    UserError
        When it is not there.
    """
    try:
        return f"(()=>{{{_own(BUNDLE)}}})();"
    except FileNotFoundError as error:
        raise UserError(
            f"{TEMPLATES / BUNDLE} does not exist: it is made when the package is built. Install the package again, or, in a "
            f"checkout of its source, give `{BUILD}`"
        ) from error
