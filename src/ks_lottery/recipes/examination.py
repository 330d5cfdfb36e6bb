"""What is installed, what this machine can do, and what is missing for which feature; no network is used."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.features import FEATURES
from ks_lottery.recipes.machine import Machine
from ks_lottery.report.section import Column, Section
from ks_lottery.store.assets import CATALOG_WHEELS, cache_folder
from ks_lottery.store.embedded_models import EMBEDDED_MODELS
from ks_lottery.store.installed import Installed, own_version, requirements
from ks_lottery.store.objects import store_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_MODELS = 10
"""Models in the hub's cache that are listed, the largest first."""


@dataclass(frozen=True, kw_only=True)
class Ability:
    """An optional feature, and whether it is there.

    Parameters
    ----------
    name
        What it is called.
    gives
        What it is for.
    present
        Whether it is there.
    detail
        Version, place or state.
    without
        What works without it.
    remedy
        Exact command or step that gives it; empty where it is there.
    """

    name: str
    gives: str
    present: bool
    detail: str
    without: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A model or a text that is on this disk already.

    Parameters
    ----------
    name, place
        What it is called, and its folder.
    bytes
        What it takes.
    """

    name: str
    place: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What `examine` found.

    Parameters
    ----------
    version, python
        Versions of this package and of Python.
    packages
        Every package that is required.
    machine
        Processor, memory, disk and devices.
    abilities
        Every optional feature.
    kept
        Models and texts on this disk.
    """

    version: str
    python: str
    packages: tuple[Installed, ...]
    machine: Machine
    abilities: tuple[Ability, ...]
    kept: tuple[Kept, ...]

    @property
    def passed(self) -> bool:
        """Whether all that is required is there, in its range, and torch can be imported."""
        return not self.machine.fault and all(package.state == "ok" for package in self.packages)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as values of JSON."""
        return {
            "passed": self.passed,
            "version": self.version,
            "python": self.python,
            "packages": [{**asdict(package), "remedy": package.remedy} for package in self.packages],
            "machine": asdict(self.machine),
            "features": [asdict(ability) for ability in self.abilities],
            "kept": [asdict(item) for item in self.kept],
        }

    def sections(self) -> list[Section]:
        """Return packages, machine, features and what is on the disk, as tables, and what to do as sentences."""
        wrong = [package for package in self.packages if package.state != "ok"]
        remedies = [f"{package.name} is {package.state}: {package.remedy}" for package in wrong]
        packages = Section(
            title=f"ks-lottery {self.version}, Python {self.python}",
            columns=[Column(title="package"), Column(title="installed"), Column(title="range"), Column(title="state")],
            rows=[[p.name, p.version, p.wanted or "any", p.state] for p in self.packages],
            sentences=remedies or (["Everything that is required is there."] if self.passed else []),
        )
        columns = [
            Column(title="feature"), Column(title="state"), Column(title="for", drop=1), Column(title="without it", drop=2),
        ]  # fmt: skip
        features = Section(
            title="Optional features",
            columns=columns,
            rows=[[a.name, a.detail if a.present else f"no ({a.detail})", a.gives, a.without] for a in self.abilities],
            sentences=[
                f"{a.name}, for {a.gives}: {a.remedy}. Without it: {a.without}." for a in self.abilities if a.remedy
            ],
        )
        columns = [
            Column(title="on this disk"), Column(title="size", form="bytes"), Column(title="place", cut="begin", drop=1),
        ]  # fmt: skip
        kept = Section(title="Models and texts", columns=columns, rows=[[k.name, k.bytes, k.place] for k in self.kept])
        nothing = Section(title="Models and texts", sentences=["None is on this disk yet."])
        return [packages, self.machine.section(), features, kept if self.kept else nothing]


def examine() -> Examination:
    """Look at the installation and at this machine; nothing is fetched, and no model is opened.

    Returns
    -------
    Examination
        What there is, and what is missing.

    Raises
    ------
    UserError
        When this package is not installed.
    """
    every = requirements()
    required = [package for package in every if not package.extra]
    machine = Machine.here(cache_folder(), store_folder())
    return Examination(
        version=own_version(),
        python=platform.python_version(),
        packages=tuple(required),
        machine=machine,
        abilities=(*_extras(every), _gpu(machine), *_report(), *_spbleu(), *_hub()),
        kept=tuple(_kept()),
    )


def _extras(every: list[Installed]) -> Iterator[Ability]:
    from importlib import metadata

    ranged = {package.extra: package for package in every if package.extra in FEATURES}
    for name, feature in FEATURES.items():
        package = ranged.get(name)
        try:
            version = metadata.version(feature.package)
        except metadata.PackageNotFoundError:
            version = None
        present = version is not None and (package is None or package.state == "ok")
        state = "is missing" if version is None else f"{version}" if present else f"{version} is out of its range"
        yield Ability(
            name=name, gives=feature.gives, present=present, detail=f"{feature.package} {state}", without=feature.without,
            remedy="" if present else f'pip install "ks-lottery[{name}]"',
        )  # fmt: skip


def _gpu(machine: Machine) -> Ability:
    remedy = ""
    if not machine.gpus and machine.driver:
        remedy = "torch sees no GPU, but a driver of NVIDIA is here: install the CUDA build of torch (pytorch.org/get-started)"
    return Ability(
        name="gpu", gives="large models, and fast training", present=bool(machine.gpus),
        detail=", ".join(machine.gpus) or "torch sees none", without="everything, on the processor", remedy=remedy,
    )  # fmt: skip


def _report() -> Iterator[Ability]:
    if find_spec("jinja2") is None:  # a required package, which is named as missing already
        return
    from ks_lottery.report.html_page import BUILD, BUNDLE, TEMPLATES

    present = (TEMPLATES / BUNDLE).is_file()
    yield Ability(
        name="report", gives="one HTML page of a result: report, watch, run and demo", present=present,
        detail="the script of its charts is here" if present else "the script of its charts is not here",
        without="tables on the screen", remedy="" if present else f"install the package again; in a checkout, {BUILD}",
    )  # fmt: skip


def _spbleu() -> Iterator[Ability]:
    if find_spec("sacrebleu") is None:  # a required package, which is named as missing already
        return
    from ks_lottery.evaluation.spm import TOKENIZERS, expected_file

    for tokenizer in TOKENIZERS:
        file = expected_file(tokenizer)
        present = file.is_file() and file.stat().st_size > 0
        yield Ability(
            name=f"spbleu-{tokenizer}", gives="spBLEU in evaluate", present=present,
            detail=str(file) if present else "its SentencePiece model is not here", without="BLEU, chrF++ and accuracy",
            remedy="" if present else f"evaluate fetches it once where there is a network; or put the file at {file}",
        )  # fmt: skip


def _hub() -> Iterator[Ability]:
    """Say whether the hub may be asked and who asks it; a token is never read into anything that is shown."""
    if find_spec("huggingface_hub") is None:
        return
    from huggingface_hub import constants, get_token

    offline, logged_in = bool(constants.HF_HUB_OFFLINE), get_token() is not None
    yield Ability(
        name="hub", gives="models and texts by their hub id", present=not offline,
        detail="HF_HUB_OFFLINE is set" if offline else "allowed (not tried)", without="what is on this disk",
        remedy="unset HF_HUB_OFFLINE" if offline else "",
    )  # fmt: skip
    yield Ability(
        name="hub login", gives="push, and gated or private models", present=logged_in,
        detail="logged in" if logged_in else "not logged in", without="public models",
        remedy="" if logged_in else "hf auth login",
    )  # fmt: skip


def _kept() -> Iterator[Kept]:
    for name, model in EMBEDDED_MODELS.items():
        if model.folder.is_dir():
            yield Kept(name=name, place=str(model.folder), bytes=_size(model.folder))
    for wheel in CATALOG_WHEELS:
        folder = cache_folder() / "assets" / wheel.folder
        if folder.is_dir():
            yield Kept(name=f"catalogs of {wheel.name}", place=str(folder), bytes=_size(folder))
    converted = cache_folder() / "models"
    if converted.is_dir() and any(converted.iterdir()):
        yield Kept(name="floats of GGUF files", place=str(converted), bytes=_size(converted))
    yield from _of_hub()


def _of_hub() -> Iterator[Kept]:
    if find_spec("huggingface_hub") is None:
        return
    from huggingface_hub import constants, scan_cache_dir

    if not Path(constants.HF_HUB_CACHE).is_dir():
        return
    models = [repo for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    models.sort(key=lambda repo: -repo.size_on_disk)
    for repo in models[:MOST_MODELS]:
        yield Kept(name=repo.repo_id, place=str(repo.repo_path), bytes=repo.size_on_disk)
    rest = models[MOST_MODELS:]
    if rest:
        bytes_of_rest = sum(repo.size_on_disk for repo in rest)
        yield Kept(name=f"{len(rest)} more of the hub", place=str(constants.HF_HUB_CACHE), bytes=bytes_of_rest)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
