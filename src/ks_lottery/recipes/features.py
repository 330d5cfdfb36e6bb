"""What is optional: the extras of the package, what each is for, and what works without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Feature:
    """An extra of the package.

    Parameters
    ----------
    package
        Package that it needs.
    gives
        What it is for.
    without
        What works without it.
    """

    package: str
    gives: str
    without: str


FEATURES = {
    "figures": Feature(
        package="matplotlib",
        gives="figures of a recipe as SVG, PDF and PNG",
        without="tables, and the HTML report with its charts",
    ),
    "language": Feature(
        package="py3langid",
        gives="which language a text or a translation is in",
        without="everything else; the languages of a text are not checked",
    ),
    "xliff": Feature(
        package="translate-toolkit",
        gives="text from XLIFF files",
        without="every other format of text",
    ),
    "llama": Feature(
        package="xllamacpp",
        gives="export --check of gguf and gguf-lora, in llama.cpp",
        without="both exports are written, and not checked",
    ),
    "qlora": Feature(
        package="bitsandbytes",
        gives="tune --method qlora, and --quantize nf4",
        without="every other method, LoRA too",
    ),
    "cluster": Feature(
        package="ray",
        gives="reproduce --workers: several processes and machines",
        without="one process",
    ),
}
"""Extra to what it is; the extra ``dev`` is for work on the package itself."""
