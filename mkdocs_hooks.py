"""What the site does to the pages: MathML for equations, names for links to files outside docs/, the cells of the notebook."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

PICTURE_OUT = re.compile(r"!\[([^\]]*)\]\((?:\.\./)+([^)]+\.png)\)")
"""A picture outside docs/. The site has it inside the page."""

LINK_OUT = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")
"""A link that leads out of docs/. It works in the repository; the site has no such page."""

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', flags=re.DOTALL)


NOTEBOOK = "notebook.md"
"""The page that shows the notebook beside it."""


def cells_of(notebook: Path) -> str:
    """Return the cells of a notebook with their kept outputs as Markdown: HTML, else a picture, else text."""
    parts: list[str] = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"^# ", "## ", source))
            continue
        parts.append(f"```python\n{source}\n```")
        for data in (output["data"] for output in cell["outputs"] if "data" in output):
            text = html.escape("".join(data["text/plain"]))
            if "text/html" in data:
                parts.append("".join(data["text/html"]))
            elif "image/png" in data:
                picture = "".join(data["image/png"]).replace("\n", "")
                parts.append(f'<p><img alt="chart: {text}" src="data:image/png;base64,{picture}"></p>')
            else:
                parts.append(f"<pre><code>{text}</code></pre>")
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files outside docs/ by text that names the file, and pictures by their bytes; show the notebook."""
    if page.file.src_uri == NOTEBOOK:
        markdown += "\n\n" + cells_of(Path(config["docs_dir"], NOTEBOOK).with_suffix(".ipynb"))

    def named(link: re.Match[str]) -> str:
        text, file = link.groups()
        return text if file.rstrip("/") in text.rstrip("/") else f"{text} (`{file}`)"

    def shown(picture: re.Match[str]) -> str:
        text, file = picture.groups()
        content = base64.b64encode(Path(config["docs_dir"]).parent.joinpath(file).read_bytes()).decode()
        return f'<p><img alt="{html.escape(text)}" src="data:image/png;base64,{content}"></p>'

    return LINK_OUT.sub(named, PICTURE_OUT.sub(shown, markdown))


def on_page_content(content: str, **_: Any) -> str:
    """Replace the TeX of each equation by MathML, which browsers show without a script."""

    def equation(found: re.Match[str]) -> str:
        kind, tex = found.groups()
        if "\\sqrt" in tex:
            raise PluginError(f"{tex}: browsers without a mathematical font draw no root. Write (...)^{{1/2}}.")
        return convert(html.unescape(tex).strip(), display="block" if kind == "div" else "inline")

    return EQUATION.sub(equation, content)
