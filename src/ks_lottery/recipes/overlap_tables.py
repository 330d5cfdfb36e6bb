"""Tables and sentences of the recipe `table8`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.recipes.over_seeds import mean_if_any, spread
from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.recipe_parts import below
from ks_lottery.recipes.score_rows import whole
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.report.forms import counted
from ks_lottery.report.section import Column, Section
from ks_lottery.tickets.overlap import side_by_side
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.store.cells import FinishedCell

WIDEST_TOKEN = 20


@dataclass(frozen=True, kw_only=True)
class LanguageTickets:
    """Tickets of one pair of languages.

    Parameters
    ----------
    seeds
        Tickets with each seed, in the prompt of the recipe.
    reworded
        The same in the other prompt.
    tokens
        Token of each row.
    """

    seeds: Mapping[int, Tickets]
    reworded: Mapping[int, Tickets]
    tokens: Mapping[int, str]


def overlap_tables(finished: Sequence[FinishedCell], *, other: str) -> list[Section]:
    """Return for each model and set of rows the tickets side by side, and what languages, seeds and prompts share.

    Parameters
    ----------
    other
        Prompt that rewords the request.
    """
    sections: list[Section] = []
    said: list[str] = []
    places: dict[tuple[str, str], list[FinishedCell]] = {}
    for cell in finished:
        places.setdefault((cell.about["model"], cell.about["set"]), []).append(cell)
    for (model, called), cells in places.items():
        place, languages = f"{model}, {called}", _languages(cells, other)
        said += [
            f"{place}: no row of {pair} has {called} with seed {seed}."
            for pair, language in languages.items()
            for seed, tickets in language.seeds.items()
            if not len(tickets)
        ]
        shared = _language_pairs(languages)
        sections += [
            _side_by_side(place, languages),
            *_pairs(place, languages, called),
            _within(place, languages, called),
        ]
        said += _findings(place, languages, shared, other)
    seeds = len({cell.about["seed"] for cell in finished})
    said.append(
        "Shares are Jaccard indices, shared rows over all rows of both sets. "
        + (
            "Each is the mean over two different seeds, so that what two seeds of one language and prompt share is the "
            "ceiling of what two languages, or two prompts, can be expected to share."
            if seeds > 1
            else "One seed: there is no ceiling; two seeds show how many rows a second training alone would replace."
        )
    )
    said.append(
        f"The paper's columns are the tickets of LLaMA-7B at p < 0.05 (table 8), {seeds} seed{'s' if seeds > 1 else ''} here; "
        "all figures are descriptive."
    )
    return [*sections, Section(title="What the tables say", sentences=[*said, *differing_conditions(finished)])]


def _languages(cells: Sequence[FinishedCell], other: str) -> dict[str, LanguageTickets]:
    found: dict[str, dict[bool, dict[int, Tickets]]] = {}
    tokens: dict[str, dict[int, str]] = {}
    for cell in cells:
        pair, rows = cell.about["pair"], cell.figures["rows"]
        tickets = Tickets(rows=np.array(rows, dtype=np.int64), rule={"selector": "ks"})
        found.setdefault(pair, {False: {}, True: {}})[cell.about["prompt"] == other][cell.about["seed"]] = tickets
        tokens.setdefault(pair, {}).update(zip(rows, cell.figures["tokens"], strict=True))
    return {
        pair: LanguageTickets(seeds=parts[False], reworded=parts[True], tokens=tokens[pair])
        for pair, parts in found.items()
    }


def jaccard(one: Tickets, other: Tickets) -> float | None:
    """Return the shared rows over all rows of two sets; None where both are empty."""
    if not len(one) and not len(other):
        return None
    return float(side_by_side({"one": one, "other": other}).pairs[0]["jaccard"])


def shares(one: Mapping[int, Tickets], other: Mapping[int, Tickets]) -> list[float]:
    """Return what two sets share with each two different seeds; with the same one where there is one alone."""
    seeds = [(s, t) for s, t in itertools.product(one, other) if s != t] or [(s, s) for s in one if s in other]
    found = [jaccard(one[s], other[t]) for s, t in seeds]
    return [share for share in found if share is not None]


def seed_shares(one: Mapping[int, Tickets]) -> list[float]:
    """Return what each two seeds share; empty for one seed."""
    found = [jaccard(one[s], one[t]) for s, t in itertools.combinations(one, 2)]
    return [share for share in found if share is not None]


def _language_pairs(languages: Mapping[str, LanguageTickets]) -> list[float]:
    return [
        share
        for one, other in itertools.combinations(languages.values(), 2)
        for share in shares(one.seeds, other.seeds)
    ]


def _side_by_side(place: str, languages: Mapping[str, LanguageTickets]) -> Section:
    """Return each row of any language with its position in each, with the first seed."""
    sets = {pair: next(iter(language.seeds.values())) for pair, language in languages.items()}
    tokens = {row: token for language in languages.values() for row, token in language.tokens.items()}
    columns = [
        Column(title="row", form="d"), Column(title="token", widest=WIDEST_TOKEN, cut="end"), Column(title="sets", form="d"),
        *(Column(title=pair, form="d") for pair in sets),
    ]  # fmt: skip
    table = side_by_side(sets, tokens=tokens).table()
    values = [[row["row"], row["token"], row["sets"], *(row["places"].get(pair) for pair in sets)] for row in table]
    reading = "The columns of the languages show the row's position by ascending p with the first seed; 1 is the first ticket."
    return Section(title=f"{place}: tickets by language", columns=columns, rows=values, keys=3, sentences=[reading])


def _pairs(place: str, languages: Mapping[str, LanguageTickets], called: str) -> list[Section]:
    """Return what each two languages share, beside the ceiling of both, what rewording leaves, and the paper's figures."""
    if len(languages) < 2:
        return []
    columns = [
        Column(title="one"), Column(title="other"), Column(title="share of languages", form=".3f"),
        Column(title="over seeds", form=".3f"), Column(title="share of two seeds, the ceiling", form=".3f"),
        Column(title="share after rewording", form=".3f"), Column(title="paper, share", form=".3f"),
    ]  # fmt: skip
    values: list[list[Any]] = []
    for (one, first), (other, second) in itertools.combinations(languages.items(), 2):
        found = shares(first.seeds, second.seeds)
        ceiling = [*seed_shares(first.seeds), *seed_shares(second.seeds)]
        reworded = [*shares(first.seeds, first.reworded), *shares(second.seeds, second.reworded)]
        values.append(
            [
                one,
                other,
                mean_if_any(found),
                spread(found),
                mean_if_any(ceiling),
                mean_if_any(reworded),
                _paper_share(one, other, called),
            ]
        )
    return [Section(title=f"{place}: what two languages share", columns=columns, rows=values, keys=2)]


def _paper_tickets(pair: str, called: str) -> Tickets | None:
    """Return the paper's tickets of a pair, which are those at p < 0.05; None for another set or pair."""
    rows = paper_table("table8").values(model="LLaMA-7B", pair=pair) if called == below(0.05) else None
    return None if rows is None else Tickets(rows=np.array(rows, dtype=np.int64), rule={})


def _paper_share(one: str, other: str, called: str) -> float | None:
    first, second = (_paper_tickets(pair, called) for pair in (one, other))
    return None if first is None or second is None else jaccard(first, second)


def _within(place: str, languages: Mapping[str, LanguageTickets], called: str) -> Section:
    """Return the number of tickets of each language, and what its seeds and prompts share."""
    columns = [
        Column(title="pair"), Column(title="tickets", form="integer"), Column(title="paper, tickets", form="integer"),
        Column(title="share of two seeds", form=".3f"), Column(title="its range", form=".3f"),
        Column(title="tickets, reworded", form="integer"), Column(title="share after rewording", form=".3f"),
        Column(title="range of it", form=".3f"),
    ]  # fmt: skip
    values: list[list[Any]] = []
    for pair, language in languages.items():
        ceiling, reworded = seed_shares(language.seeds), shares(language.seeds, language.reworded)
        paper = _paper_tickets(pair, called)
        numbers = [
            whole([float(len(tickets)) for tickets in part.values()]) for part in (language.seeds, language.reworded)
        ]
        values.append(
            [
                pair, numbers[0], None if paper is None else len(paper), mean_if_any(ceiling), spread(ceiling), numbers[1],
                mean_if_any(reworded), spread(reworded),
            ]
        )  # fmt: skip
    return Section(title=f"{place}: seeds and prompts", columns=columns, rows=values, keys=1)


def _findings(place: str, languages: Mapping[str, LanguageTickets], shared: Sequence[float], other: str) -> list[str]:
    """Say what is in all languages, and what languages, prompts and seeds share on average."""
    sets = {pair: next(iter(language.seeds.values())) for pair, language in languages.items()}
    said: list[str] = []
    if len(sets) > 1:
        tokens = {row: token for language in languages.values() for row, token in language.tokens.items()}
        common = side_by_side(sets).common.tolist()
        named = f": {', '.join(f'{row} {tokens[row]}' for row in common)}" if common else ""
        said.append(f"{place}: in all {len(sets)} languages with the first seed: {counted(len(common), 'row')}{named}.")
    means = {
        "two seeds of one language": mean_if_any(
            s for language in languages.values() for s in seed_shares(language.seeds)
        ),
        "two languages": mean_if_any(shared),
        f"the prompt and its rewording ({other})": mean_if_any(
            s for language in languages.values() for s in shares(language.seeds, language.reworded)
        ),
    }
    known = sorted(((value, name) for name, value in means.items() if value is not None), reverse=True)
    if len(known) > 1:
        said.append(f"{place}: on average {'; '.join(f'{name} share {value:.3f}' for value, name in known)}.")
    return said
