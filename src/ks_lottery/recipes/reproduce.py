"""Makes a recipe: models and texts in, tables out; stages come from the store, finished cells from their folder."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.recipes.one_model import OneModel
from ks_lottery.recipes.prepared_recipe import PreparedRecipe, prepare_recipe
from ks_lottery.recipes.reproduction import Reproduction, about_of
from ks_lottery.report.drawing import MISSING, can_draw
from ks_lottery.report.section import Section
from ks_lottery.store.work_folder import WorkFolder
from ks_lottery.tuning.processes import launched

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from ks_lottery.recipes.cluster import Cluster
    from ks_lottery.recipes.stored import StageMaker, StoredRecipe
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.cells import FinishedCell


@contextmanager
def opened(options: ReproduceOptions, screen: Screen) -> Generator[tuple[PreparedRecipe, Cluster | None]]:
    """Open a recipe and, where workers are given, start them or connect to them inside a block; see `prepare_recipe`."""
    if launched():
        raise UserError("a recipe starts its own processes: give `processes`, not torchrun or accelerate launch")
    if options.workers is None:
        with screen.stage("open models and texts"):
            prepared = prepare_recipe(options)
        _say_left_out(prepared, screen)
        yield prepared, None
        return
    from ks_lottery.recipes.cluster import connected

    with ExitStack() as stack:
        with screen.stage("start workers"):
            cluster = stack.enter_context(connected(options.workers, options.device, options.processes))
            conditions = cluster.call(partial(conditions_of, options))
        with screen.stage("open models and texts"):
            prepared = prepare_recipe(options, conditions)
        _say_left_out(prepared, screen)
        yield prepared, cluster


def _say_left_out(prepared: PreparedRecipe, screen: Screen) -> None:
    for name, why in prepared.left_out.items():
        screen.say(f"left out: {name}: {why}")


def conditions_of(options: ReproduceOptions) -> dict[str, Any]:
    """Return the conditions under which a process like this one computes."""
    return OneModel.of(options).conditions()


def stored_recipe(options: ReproduceOptions) -> StoredRecipe:
    """Return the recipe as a worker prepares it."""
    return prepare_recipe(options).stored


def reproduce_with(options: ReproduceOptions, screen: Screen, out: Path | None = None) -> Reproduction:
    """Make what is missing of a recipe, and its tables; see `reproduce`.

    Parameters
    ----------
    out
        Folder that the tables are written to; one with something else is refused before anything is computed.
    """
    with opened(options, screen) as (prepared, cluster):
        stored = prepared.stored
        if options.finished:
            return _finished(options, stored, screen, out)
        keys = [key for key, is_here in zip(stored.cell_keys(), stored.present(), strict=True) if is_here]
        about = about_of(keys, stored.arguments)
        if out is not None:
            WorkFolder(out).is_done(about)
            if stored.recipe.charts is not None and not can_draw():  # said first, since the stages may take hours
                screen.say(f"{MISSING[0].upper()}{MISSING[1:]}; the same command draws them later.")
        cells = stored.execute(screen, None if cluster is None else _maker(options, stored, cluster))
    return _told(options, stored, keys, cells, out)


def _finished(options: ReproduceOptions, stored: StoredRecipe, screen: Screen, out: Path | None) -> Reproduction:
    """Make the tables of the finished cells alone."""
    finished, every = stored.finished(), len(stored.recipe.cells)
    if not finished:
        raise UserError(
            f"none of the {every:,} cells of {options.recipe} is finished in {stored.cells.folder}. "
            "Leave `finished` out to make them"
        )
    screen.say(f"{len(finished):,} of {every:,} cells are finished; nothing else is computed")
    return _told(options, stored, list(finished), list(finished.values()), out)


def _told(
    options: ReproduceOptions,
    stored: StoredRecipe,
    keys: Sequence[str],
    cells: Sequence[FinishedCell],
    out: Path | None,
) -> Reproduction:
    """Make tables and figures of cells, and write them."""
    tables = () if stored.recipe.report is None else stored.recipe.report(cells)
    missing = len(stored.recipe.cells) - len(cells)
    if options.finished and missing:
        sentence = f"{missing:,} of {len(stored.recipe.cells):,} cells are not finished: these tables are without them."
        tables = [*tables, Section(title="Not finished", sentences=[sentence])]
    made = Reproduction(
        recipe=options.recipe, cells=cells, keys=keys, tables=tables, arguments=stored.arguments,
        charts=() if stored.recipe.charts is None else stored.recipe.charts(cells),
    )  # fmt: skip
    if out is not None:
        made.save(out)
    return made


def _maker(options: ReproduceOptions, stored: StoredRecipe, cluster: Cluster) -> StageMaker:
    """Return what makes stages on workers, each of which prepares the same recipe."""
    from ks_lottery.recipes.crew import make_on

    conditions = stored.conditions
    same = replace(
        options, workers=None, store=str(stored.store.root.absolute()), dtype=conditions["dtype"],
        device=str(conditions["device"]).split(maxsplit=1)[0],
    )  # fmt: skip
    return partial(make_on, cluster, partial(stored_recipe, same))


@checks_names
def reproduce(
    recipe: str,
    *,
    scale: str = ReproduceOptions.scale,
    model: Sequence[str] = ReproduceOptions.model,
    pairs: Sequence[str] = ReproduceOptions.pairs,
    train: str = ReproduceOptions.train,
    data: str | None = ReproduceOptions.data,
    seeds: int | None = ReproduceOptions.seeds,
    sizes: Sequence[int] = ReproduceOptions.sizes,
    learning_rate: float | None = ReproduceOptions.learning_rate,
    template: str = ReproduceOptions.template,
    spm: Mapping[str, str | Path] | None = None,
    store: str | Path | None = None,
    cells: str | Path | None = None,
    finished: bool = ReproduceOptions.finished,
    dtype: Literal["auto", "float32", "bfloat16"] = ReproduceOptions.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = ReproduceOptions.device,
    trust_remote_code: bool = ReproduceOptions.trust_remote_code,
    workers: str | None = ReproduceOptions.workers,
    processes: int = ReproduceOptions.processes,
    progress: bool = False,
) -> Reproduction:
    """Make the tables of a recipe. What the store or the folder of cells has already is not computed again.

    Parameters
    ----------
    recipe
        One of `ks_lottery.config.choices.RECIPES`.
    scale
        ``smoke``, ``small`` (the default) or ``paper``: how much text, how many seeds and rows.
    model
        Folders, GGUF files or hub ids; by default the embedded model, or those of the paper for its tables at its scale.
    pairs
        Pairs of languages, each as ``SOURCE-TARGET``; ``en-ca`` by default, or those of the paper for its tables at its scale.
    train, data
        Texts to train and to measure on; ``{source}`` and ``{target}`` in a name stand for the languages of a pair. Without
        `data`, a fifth of the training text is measured on.
    seeds, sizes
        Number of seeds, and numbers of rows, in place of those of the scale.
    learning_rate
        Of every method that trains rows, above 0, in place of that of the scale.
    template
        Prompt, as for `tune`.
    spm
        SentencePiece models by name of the tokenizer, ``flores101`` or ``flores200``, to score translations by spBLEU too; none
        by default.
    store
        Folder of finished stages; by default ``$KS_LOTTERY_STORE``, or ``store`` in the cache folder.
    cells
        Folder of finished cells; by default ``results/cells`` in the working directory if it exists.
    finished
        Make the tables of the cells that are finished, and compute nothing; off by default.
    dtype, device, trust_remote_code
        As `load_model` takes them.
    workers
        Processes of Ray that make the stages (extra ``cluster``): ``local``, ``local:N``, ``HOST:PORT`` of a cluster, or
        ``auto`` for that of this machine; this process alone by default. Each has ``OMP_NUM_THREADS`` threads, 1 unless set.
    processes
        Processes that train each stage together (1), each with a GPU where there are some: the model is then sharded over
        them, and measured layer by layer on all of them.
    progress
        Show each stage on standard output; off by default.

    Returns
    -------
    Reproduction
        ``cells`` with all figures, ``sections()`` with the tables, and ``save(folder)``.

    Raises
    ------
    UserError
        When a name is not known, or a model, a text, the store or a cell cannot be read; when no cell is finished and only
        those were asked for.
    """
    from io import StringIO

    from rich.console import Console

    from ks_lottery.report.screen import Screen

    options = ReproduceOptions(
        recipe=recipe, scale=scale, model=tuple(map(str, model)), pairs=tuple(pairs), train=str(train), data=data,
        seeds=seeds, sizes=tuple(sizes), learning_rate=learning_rate, template=template,
        spm={name: str(file) for name, file in (spm or {}).items()}, store=None if store is None else str(store),
        cells=None if cells is None else str(cells), finished=finished, dtype=dtype, device=device,
        trust_remote_code=trust_remote_code, workers=workers, processes=processes,
    )  # fmt: skip
    screen = Screen(total=0) if progress else Screen(total=0, console=Console(file=StringIO()))
    return reproduce_with(options, screen)
