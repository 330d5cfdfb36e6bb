"""Check dist/: the metadata of wheel and sdist, and the wheel alone in a new environment, with the README's own lines.

python .ci/check_dist.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))


def metadata_of(file: Path) -> Metadata:
    """Read and validate the metadata of a wheel or an sdist."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return Metadata.from_email(archive.read(name), validate=True)
    with tarfile.open(file) as archive:
        member = archive.extractfile(f"{file.name.removesuffix('.tar.gz')}/PKG-INFO")
        if member is None:
            raise SystemExit(f"{file}: no PKG-INFO")
        return Metadata.from_email(member.read(), validate=True)


def main() -> None:
    """Check, and say what was checked."""
    (wheel,), (sdist,) = (sorted((ROOT / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    wheel_metadata, sdist_metadata = metadata_of(wheel), metadata_of(sdist)
    for field in ("name", "version", "summary", "requires_dist", "license_expression", "description"):
        if getattr(wheel_metadata, field) != getattr(sdist_metadata, field):
            raise SystemExit(f"{field} differs between {wheel.name} and {sdist.name}")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if wheel_metadata.description != readme or wheel_metadata.description_content_type != "text/markdown":
        raise SystemExit("the description is not the README")

    from conftest import make_model, sentence_pairs

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
        subprocess.run([python, *install, str(wheel)], check=True)
        make_model(folder / "my-model", spread=0.02)
        lines = [f"{source}\t{target}\n" for source, target in sentence_pairs(120)]
        (folder / "pairs.tsv").write_text("".join(lines), encoding="utf-8")
        (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
        subprocess.run([python, "-c", code], check=True, cwd=folder)
        if not (folder / "adapter" / "adapter_config.json").is_file():
            raise SystemExit("the README's Python wrote no adapter")
        for call in (["ks-lottery", "--help"], ["ks-lottery", "--version"]):
            subprocess.run([python.parent / call[0], *call[1:]], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    print(f"{wheel.name} and {sdist.name}: metadata valid; the wheel alone runs the README's Python and its command")


if __name__ == "__main__":
    main()
