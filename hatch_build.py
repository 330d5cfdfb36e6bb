"""Makes the charts' script, Vega with Vega-Lite and vega-embed in one file, when the package is built: it is package data.

python hatch_build.py makes it in a checkout whose package was installed elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # started by hand
    BuildHookInterface = object

BUNDLE = Path(__file__).parent / "src" / "ks_lottery" / "report" / "templates" / "vega.js"

VEGA_LITE = "6.4"
"""Version of Vega-Lite, that of the range of altair in pyproject.toml."""


def make_bundle(file: Path = BUNDLE) -> Path:
    """Write the script, unless it is there."""
    if not file.is_file():
        import vl_convert

        script = vl_convert.javascript_bundle(None, vl_version=VEGA_LITE)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(script, encoding="utf-8")
        temporary.replace(file)
    return file


class BundleHook(BuildHookInterface):
    """What hatchling calls before it collects the files of wheel or sdist, and for an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
        """Make the script, and add it to the files although git ignores it."""
        build_data["artifacts"].append(make_bundle().relative_to(self.root).as_posix())


if __name__ == "__main__":
    make_bundle()
