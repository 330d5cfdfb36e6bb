"""Settings of the commands around recipes: reproduce and store."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 (types of fields are read at run time)
from dataclasses import dataclass

from ks_lottery.config.choices import CATALOGS, RECIPES, SCALES, STORE_ACTIONS
from ks_lottery.config.fields import setting
from ks_lottery.config.groups import ModelOptions, OutputOptions, PromptOptions
from ks_lottery.config.ranges import COUNT, FACTOR, STRENGTH, Range
from ks_lottery.config.values import require

WORKERS = re.compile(r"auto|local(:([1-9]\d{0,2}|1000))?|(?!local:)[^\s:/]+:\d{1,5}")
"""Where workers can be: on this machine, in a cluster at an address, or in the one that this machine belongs to."""


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(ModelOptions, PromptOptions):
    """What the command `reproduce` and the calls `reproduce` and `plan_recipe` have in common."""

    recipe: str = setting(positional=True, choices=RECIPES, metavar="RECIPE", first=True)
    """Recipe to make."""
    scale: str = setting("small", choices=SCALES, first=True)
    """Size of the recipe."""
    model: tuple[str, ...] = setting((), metavar="MODEL", first=True)
    """Models: folders, GGUF files, hub ids, asset:smollm2-135m-instruct, or asset:gemma3-270m; SmolLM2, or the paper's for its
    tables at its scale, unless given."""
    seeds: int | None = setting(None, metavar="N", first=True, within=Range(kind=int, low=1, high=1000))
    """Number of seeds of training, from 0; that of the scale unless given."""
    sizes: tuple[int, ...] = setting((), metavar="N", first=True, within=COUNT)
    """Numbers of rows; those of the scale unless given."""
    learning_rate: float | None = setting(None, metavar="RATE", first=True, within=FACTOR)
    """Learning rate of every method that trains rows; that of the scale unless given."""
    pairs: tuple[str, ...] = setting((), metavar="PAIR", group="text", first=True)
    """Pairs of languages, each as SOURCE-TARGET; en-ca, or the paper's for its tables at its scale, unless given."""
    train: str = setting(CATALOGS, metavar="TEXT", group="text", first=True)
    """File or Hugging Face dataset to train on; {source} and {target} in its name stand for the languages of a pair."""
    data: str | None = setting(None, metavar="TEXT", group="text", first=True)
    """Text to measure on, named in the same way; a fifth of the training text, by hash, unless given."""
    spm: Mapping[str, str] = setting({}, metavar="NAME=FILE", group="text")
    """SentencePiece models of flores101 or flores200, to score translations by spBLEU too."""
    store: str | None = setting(None, metavar="DIR", group="results")
    """Folder of finished stages; KS_LOTTERY_STORE, or store in the cache folder, unless given."""
    cells: str | None = setting(None, metavar="DIR", group="results")
    """Folder of finished cells, small files to commit; results/cells where that exists, unless given."""
    finished: bool = setting(False, group="results")  # noqa: FBT003
    """Make the tables of the cells that are finished, and compute nothing."""
    workers: str | None = setting(None, metavar="WHERE", group="how it runs")
    """Processes of Ray that make the stages (extra cluster): local, local:N, HOST:PORT of a cluster, or auto for the cluster of
    this machine; each has OMP_NUM_THREADS threads, 1 unless set. Without it, this process makes them."""
    processes: int = setting(1, metavar="N", group="how it runs", within=Range(kind=int, low=1, high=1000))
    """Processes that train each stage together, for a model that is too large for one GPU: each has one, and the model is
    sharded over them. To be measured it is spread over these GPUs."""

    def __post_init__(self) -> None:
        """Check ranges, and that there is something to do."""
        super().__post_init__()
        for name in ("model", "pairs", "sizes"):
            given = getattr(self, name)
            require(len(set(given)) == len(given), f"`{name}`", given, "values that differ")
        if self.workers is not None:
            is_place = WORKERS.fullmatch(self.workers) is not None
            require(is_place, "`workers`", self.workers, "local, local:N (N from 1 to 1000), HOST:PORT, or auto")


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings(ReproduceOptions):
    """Settings of the command `reproduce`."""

    out: str | None = setting(None, metavar="DIR", group="results", writes="folder")
    """Folder to write the tables to, as text, CSV, Markdown and LaTeX, and figures as SVG, PDF and PNG."""
    dry_run: bool = setting(False, group="results")  # noqa: FBT003
    """Print the stages, what is there already, tokens, memory, disk and time, and make nothing."""
    measure: bool = setting(False, group="results")  # noqa: FBT003
    """With a dry run: measure two steps of each model where the store has no times of it."""


@dataclass(frozen=True, kw_only=True)
class StoreSettings(OutputOptions):
    """Settings of the command `store`."""

    action: str = setting("list", positional=True, choices=STORE_ACTIONS, metavar="ACTION", first=True)
    """What to do."""
    key: str | None = setting(None, positional=True, metavar="KEY", first=True)
    """Key of the stage to explain, or its beginning."""
    store: str | None = setting(None, metavar="DIR")
    """Folder of finished stages; KS_LOTTERY_STORE, or store in the cache folder, unless given."""
    older_than: float = setting(30.0, metavar="DAYS", within=STRENGTH)
    """Prune stages that were not used for so many days, unless a stage that remains was made from them."""
    all: bool = False
    """Prune old stages also where a stage that remains was made from them."""
    yes: bool = False
    """Remove what prune would remove; without it, prune only lists it."""

    def __post_init__(self) -> None:
        """Check ranges, and that action and key belong together."""
        super().__post_init__()
        if self.action == "explain":
            require(self.key is not None, "`key`", self.key, "the key of a stage: ks-lottery store list shows them")
        else:
            require(self.key is None, "`key`", self.key, f"left out, since {self.action} looks at all stages")
