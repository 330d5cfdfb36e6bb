"""A stage: one unit of work with declared inputs and settings; a recipe: stages in their order, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ks_lottery.store.files import write_json
from ks_lottery.store.manifest import digest_json, versions

if TYPE_CHECKING:
    from pathlib import Path

    from ks_lottery.report.chart import Chart
    from ks_lottery.report.section import Section
    from ks_lottery.store.cells import FinishedCell

Tick = Callable[[int, int], None]
"""Takes what is done and what there is to do."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where a stage works; called as its tick.

    Parameters
    ----------
    folder
        Folder that the stage writes to.
    tick
        Takes what is done and what there is to do.
    inputs
        Folder of each input by its role; empty in the folder of a run, whose stages find their inputs by name.
    unfinished
        Folder in which a stage that takes long saves what lets it resume; None where it starts anew.
    trained
        Folder of what several processes trained for this stage (`Stage.train`); None where it trains by itself.
    """

    folder: Path
    tick: Tick
    inputs: Mapping[str, Path] = field(default_factory=dict[str, "Path"])
    unfinished: Path | None = None
    trained: Path | None = None

    def __call__(self, done: int, total: int) -> None:
        """Say what is done and what there is to do."""
        self.tick(done, total)


@dataclass(frozen=True, kw_only=True)
class Made:
    """The result of a stage.

    Parameters
    ----------
    files
        Files that the stage wrote.
    log
        Lines for the log; without times, since the log has the same bytes in each run.
    shown
        Whether the screen shows these lines too.
    """

    files: Sequence[Path]
    log: Sequence[str] = ()
    shown: bool = False


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage costs, as far as it is known before.

    Parameters
    ----------
    pace
        Kind of computing, by which its speed is measured: ``train``, ``gradient`` or ``predict``; empty without a model.
    tokens
        Input tokens that pass through the model; a token with its backward pass counts once.
    memory, disk
        Bytes in memory, without what a batch keeps for its backward pass, and bytes of the files.
    """

    pace: str = ""
    tokens: int = 0
    memory: int = 0
    disk: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class Stage:
    """One unit of work.

    Parameters
    ----------
    name, title
        Name in markers and logs; what the screen calls it.
    make
        Does the work and says which files it wrote.
    inputs
        Names of the stages, and of the inputs of the whole recipe, that the work reads; or by the role that each has in the
        work.
    settings
        Every setting that the result depends on.
    kind
        Kind of work, which the key names in place of `name`, so that recipes share results; by default the name.
    code
        Version of the code of this kind of work: raised by hand whenever the same inputs and settings give other numbers.
    cost
        Returns what the stage costs; None where nobody asks.
    prepare
        Called before the clock starts, such as to load the model, which the time of the stage must not have; None for nothing.
    train
        The part of the work that several processes can do together, each of which calls it: trains, and returns what saves the
        result into a folder. None for a stage that does not train.
    """

    name: str
    title: str
    make: Callable[[Work], Made]
    inputs: Sequence[str] | Mapping[str, str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kind: str = ""
    code: int = 1
    cost: Callable[[], Cost] | None = None
    prepare: Callable[[], object] | None = None
    train: Callable[[Work], Callable[[Path], object]] | None = None

    def __repr__(self) -> str:
        return f"Stage({self.name}, from {', '.join(self.roles.values()) or 'nothing'})"

    @property
    def roles(self) -> Mapping[str, str]:
        """Names of the inputs by their role; the role is the name itself where none was given."""
        return self.inputs if isinstance(self.inputs, Mapping) else {name: name for name in self.inputs}

    def under(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of some conditions that decide the numbers of this stage: processes only where it trains."""
        return {name: value for name, value in conditions.items() if name != "processes" or self.train is not None}

    def key(self, digests: Mapping[str, str], conditions: Mapping[str, Any] | None = None) -> str:
        """Return the digest of kind, code version, settings, inputs and conditions.

        A result with the same key need not be made again.

        Parameters
        ----------
        digests
            Digest of each input by its name.
        conditions
            What else decides the numbers, such as threads, type and device; by default the versions of the packages.
        """
        inputs = {role: digests[name] for role, name in self.roles.items()}
        under = versions() if conditions is None else self.under(conditions)
        return digest_json([self.kind or self.name, self.code, dict(self.settings), inputs, under])


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of a recipe's table, or several that belong together: one system, one seed, one pair, one model.

    Parameters
    ----------
    stage
        Name of the stage that measures it; its file `FIGURES_FILE` is the content of the cell.
    about
        What is measured: model, pair, system, size, seed.
    needs
        What this machine lacks to measure it, and how to get it; empty for nothing. Such a cell is left out unless it was
        finished elsewhere.
    """

    stage: str
    about: Mapping[str, Any]
    needs: str = ""


FIGURES_FILE = "figures.json"


def made_figures(figures: Mapping[str, Any], work: Work) -> Made:
    """Write the figures of a cell into the folder of the stage that measured them; every file there was made."""
    write_json(work.folder / FIGURES_FILE, dict(figures))
    work(1, 1)
    return Made(files=sorted(file for file in work.folder.rglob("*") if file.is_file()))


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """Stages in an order in which each comes after its inputs.

    Parameters
    ----------
    inputs
        Digest of each input of the whole recipe, such as the model and the text, by its name.
    name
        Name of the recipe.
    cells
        What is measured. Only stages that a missing cell needs are made.
    report
        Makes tables and sentences from the finished cells, which are in the order of `cells`.
    charts
        Makes what the figures show from them; None where the recipe has no figure.
    """

    stages: tuple[Stage, ...]
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    name: str = "run"
    cells: tuple[Cell, ...] = ()
    report: Callable[[Sequence[FinishedCell]], Sequence[Section]] | None = None
    charts: Callable[[Sequence[FinishedCell]], Sequence[Chart]] | None = None

    def __repr__(self) -> str:
        return f"Recipe({len(self.stages)} stages: {', '.join(stage.name for stage in self.stages)})"

    def __post_init__(self) -> None:
        """Check that each input is there before the stage that reads it."""
        known = set(self.inputs)
        for stage in self.stages:
            missing = [name for name in stage.roles.values() if name not in known]
            if missing or stage.name in known:
                raise ValueError(f"stage {stage.name} reads {missing} before it is made, or its name is taken")
            known.add(stage.name)
        names = {stage.name for stage in self.stages}
        unknown = [cell.stage for cell in self.cells if cell.stage not in names]
        if unknown:
            raise ValueError(f"cells are measured by {unknown}, which are no stages")

    def stage(self, name: str) -> Stage:
        """Return the stage of a name."""
        return next(stage for stage in self.stages if stage.name == name)

    def sources(self, name: str) -> list[str]:
        """Return the names of the stages that a stage reads, without the inputs of the whole recipe."""
        return [source for source in self.stage(name).roles.values() if source not in self.inputs]

    def needed(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the stages that some stages need, themselves included: each name, in order, to those that it reads."""
        wanted = set(names)
        for stage in reversed(self.stages):
            if stage.name in wanted:
                wanted.update(self.sources(stage.name))
        return {stage.name: self.sources(stage.name) for stage in self.stages if stage.name in wanted}

    def planned_keys(self, conditions: Mapping[str, Any]) -> dict[str, str]:
        """Return by the name of each stage the digest of all that it is made from, computed without making anything.

        In place of the content of an input that a stage makes, it has the key of that stage. So it is known before, and names
        the cells; two ways to the same content have two of them.
        """
        keys = dict(self.inputs)
        for stage in self.stages:
            keys[stage.name] = stage.key(keys, conditions)
        return keys
