"""Tables of the recipe `where`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ks_lottery.evaluation.evaluation_sections import TITLES
from ks_lottery.evaluation.where import NOWHERE
from ks_lottery.evaluation.where_sections import control_rows, effect_columns
from ks_lottery.recipes.over_seeds import mean_figure, places_of, spread, with_interval
from ks_lottery.recipes.product_cells import change_of, name_of, original_of, own_prompt, products_of
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.recipes.where_findings import findings, how_compared, paired
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.recipes.product_cells import Change, ProductCells
    from ks_lottery.store.cells import FinishedCell


def where_tables(finished: Sequence[FinishedCell], *, resamples: int = 10_000) -> list[Section]:
    """Return tables for each model and pair, and what follows from them.

    Parameters
    ----------
    finished
        The cells.
    resamples
        Resamples of seeds and sentences behind each interval.
    """
    sections: list[Section] = []
    sentences: list[str] = []
    places = places_of(finished)
    for (model, pair), cells in places.items():
        products, place = products_of(cells), f"{model}, {pair}"
        sections += [
            *_spans(f"{place}: rows active in some spans", products, resamples),
            *_translations(f"{place}: translations", products),
            *_controls(f"{place}: controls", products),
            *_rows_of_the_template(f"{place}: rows of the template and others", products, resamples),
            *_mixed(f"{place}: trained in one prompt and in a mix", products, resamples),
            *_origins(f"{place}: where the chosen rows occur, and what two seeds share", cells),
            *_costs(f"{place}: computed tokens", products),
        ]
        said = findings(products, resamples=resamples)
        sentences += [f"{place}: {sentence}" for sentence in said] if len(places) > 1 else said
    return [
        *sections,
        Section(
            title="What the tables say",
            sentences=[*sentences, *how_compared(finished), *differing_conditions(finished)],
        ),
    ]


_CHANGE = [
    Column(title="accuracy", form=".4f"), Column(title="over seeds", form="interval"),
    Column(title="difference to the original", form="+.4f"), Column(title="95% interval", form="+.4f"),
]  # fmt: skip
_SHARE = [Column(title="share of the gain", form=".2f"), Column(title="95% interval of the share", form="+.2f")]
_LOSS = [
    Column(title="loss", form=".4f"), Column(title="difference of loss", form="+.4f"),
    Column(title="95% interval of loss", form="+.4f"),
]  # fmt: skip


def _changed(cells: Sequence[FinishedCell], change: Change | None) -> list[Any]:
    """Return the values of `_CHANGE`, `_SHARE` and `_LOSS`."""
    accuracies = [cell.figures["accuracy"] for cell in cells]
    accuracy, loss = (None, None) if change is None else (change.accuracy, change.loss)
    share = (None, None) if change is None else (change.share, change.share_interval)
    return [
        mean_figure(cells, "accuracy"), spread(accuracies), *with_interval(accuracy), *share, mean_figure(cells, "loss"),
        *with_interval(loss),
    ]  # fmt: skip


def _spans(title: str, products: Sequence[ProductCells], resamples: int) -> list[Section]:
    columns = [Column(title="product"), Column(title="active in"), *_CHANGE, *_SHARE, *_LOSS]
    values: list[list[Any]] = []
    for product in products:
        for name, cells in product.spans.items():
            change = None
            if name != NOWHERE:
                change = change_of(cells, product.spans[NOWHERE][:1], whole=product.cells, resamples=resamples)
            values.append([product.name, name, *_changed(cells, change)])
    return [Section(title=title, columns=columns, rows=values, keys=2)] if values else []


def _translations(title: str, products: Sequence[ProductCells]) -> list[Section]:
    """Return the translations of the first seed, of the products that translated."""
    shown = [(p.name, p.located[0].figures) for p in products if p.located and p.located[0].figures["translated"]]
    if not shown:
        return []
    first = shown[0][1]
    scored = [name for name in TITLES if name in (first["spans"][0]["scores"] or {})]
    columns = [
        Column(title="product"), Column(title="active in"), Column(title="ended", form=".2f"),
        *(Column(title=TITLES[name], form=".1f") for name in scored),
    ]  # fmt: skip
    values = [
        [name, e["name"], e["ended"], *(e["scores"][metric] for metric in scored)]
        for name, figures in shown
        for e in figures["spans"]
    ]
    sentences = [f"{first['translated']:,} sentences, greedy search, the first seed; descriptive"]
    return [Section(title=title, columns=columns, rows=values, keys=2, sentences=sentences)]


def _controls(title: str, products: Sequence[ProductCells]) -> list[Section]:
    """Return the controls of the first seed, with intervals over sentences alone."""
    shown = [(p.name, p.located[0].figures) for p in products if p.located and p.located[0].figures["controls"]]
    if not shown:
        return []
    columns = [Column(title="product"), *effect_columns(shown[0][1], "control")]
    values = [[name, *row] for name, figures in shown for row in control_rows(figures["controls"])]
    notes = [f"{name}: {note}" for name, figures in shown for note in figures["notes"]]
    about = "the first seed, with intervals over sentences; share: of the difference of all rows of the product"
    return [Section(title=title, columns=columns, rows=values, keys=2, sentences=[about, *notes])]


def _rows_of_the_template(title: str, products: Sequence[ProductCells], resamples: int) -> list[Section]:
    """Return the two halves of embed tuning, and rows trained alone, all with the share of embed tuning's gain."""
    embed = next((p for p in products if p.way == "embed" and p.spans), None)
    if embed is None:
        return []
    columns = [Column(title="product"), Column(title="rows", form="integer"), *_CHANGE, *_SHARE, *_LOSS]
    values: list[list[Any]] = []
    for product in products:
        if product.measured_in == embed.measured_in and product.trained_in in {None, embed.trained_in}:
            change = None
            if product.way is not None:
                whole = None if product is embed else embed.cells
                change = change_of(product.cells, original_of(product, products), whole=whole, resamples=resamples)
            values.append([product.name, product.rows, *_changed(product.cells, change)])
    sentences = [
        "share: of the gain of embed tuning; rows by a rule are trained alone; a token prompt has a prompt of its own"
    ]
    return [Section(title=title, columns=columns, rows=values, keys=1, sentences=sentences)]


def _mixed(title: str, products: Sequence[ProductCells], resamples: int) -> list[Section]:
    """Return what was trained in the prompt of the study and in a mix, each in that prompt and in one that no training saw."""
    mixes = [p for p in products if p.way is not None and p.trained_in != own_prompt(products)]
    if not mixes:
        return []
    prompts = dict.fromkeys(p.measured_in for p in mixes)
    columns = [
        Column(title="product"), Column(title="trained in"), Column(title="measured in"), *_CHANGE,
        Column(title="less one prompt", form="+.4f"), Column(title="95% interval of that", form="+.4f"),
    ]  # fmt: skip
    values: list[list[Any]] = []
    for prompt in prompts:
        there = [p for p in products if p.measured_in == prompt]
        names = {mix.name for mix in mixes}
        for product in [p for p in there if p.way is None or p.name in names]:
            change = difference = None
            if product.way is not None:
                change = change_of(product.cells, original_of(product, products), resamples=resamples)
            if product in mixes:
                single = next(p for p in there if p.name == product.name and p.trained_in == own_prompt(products))
                difference = paired(product.cells, single.cells, resamples)
            shown = _changed(product.cells, change)[: len(_CHANGE)]
            values.append([product.name, product.trained_in, prompt, *shown, *with_interval(difference)])
    return [Section(title=title, columns=columns, rows=values, keys=3)]


def _origins(title: str, cells: Sequence[FinishedCell]) -> list[Section]:
    """Return for each set of rows how many occur in each span of the training text, and how many two seeds share."""
    groups: dict[tuple[str, str], list[FinishedCell]] = {}
    for cell in cells:
        if cell.about["figure"] == "origin":
            groups.setdefault((name_of(cell.about), cell.about["trained_in"]), []).append(cell)
    if not groups:
        return []
    columns = [
        Column(title="rows"), Column(title="in the prompts of"), Column(title="number", form="integer"),
        *(Column(title=f"in the {span}", form=".1f") for span in ("instruction", "source", "target")),
        Column(title="in the target alone", form=".1f"), Column(title="shared by two seeds", form=".1f"),
        Column(title="Jaccard", form=".2f"),
    ]  # fmt: skip
    values: list[list[Any]] = []
    for (name, prompt), group in groups.items():
        sets = [set(cell.figures["rows"]) for cell in group]
        pairs = [(len(a & b), len(a & b) / max(1, len(a | b))) for a, b in itertools.combinations(sets, 2)]
        if group[0].about["seed"] is None:  # the same rows with each seed
            pairs = [(len(sets[0]), 1.0)]
        counts = [_occurring(cell) for cell in group]
        values.append(
            [
                name, prompt, len(group[0].figures["rows"]),
                *(sum(column) / len(group) for column in zip(*counts, strict=True)),
                *([sum(column) / len(pairs) for column in zip(*pairs, strict=True)] if pairs else [None, None]),
            ]
        )  # fmt: skip
    sentences = [
        "means over seeds; a row can occur in several spans; in the instruction: rows of the prompt template",
        "Rows by gradient-sum and by template are the same with each seed.",
    ]
    return [Section(title=title, columns=columns, rows=values, keys=2, sentences=sentences)]


def _occurring(cell: FinishedCell) -> list[int]:
    """Return the number of rows that occur in each span, and of those that occur in the target alone."""
    spans = [cell.figures[span] for span in ("instruction", "source", "target")]
    alone = sum(target > 0 and not (instruction or source) for instruction, source, target in zip(*spans, strict=True))
    return [*(sum(count > 0 for count in counts) for counts in spans), alone]


def _costs(title: str, products: Sequence[ProductCells]) -> list[Section]:
    columns = [
        Column(title="product"), Column(title="one pass", form="integer"), Column(title="eight combinations", form="integer"),
        Column(title="times one pass", form=".2f"), Column(title="controls", form="integer"),
    ]  # fmt: skip
    values = [
        [product.name, tokens["pass"], tokens["spans"], tokens["spans"] / tokens["pass"], tokens["controls"] or None]
        for product in products
        for tokens in [cell.figures["tokens"] for cell in product.located[:1]]
    ]
    sentences = ["the first seed; one pass computes what all prompts begin with once"]
    return [Section(title=title, columns=columns, rows=values, keys=1, sentences=sentences)] if values else []
