"""Table 8 on a tiny model: sets and shares against calls of the library and plain sets; sentences against made-up cells."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import ks_lottery
from ks_lottery import UserError, read_corpus, reproduce
from ks_lottery.corpus.selection import hold_out, keep_useful
from ks_lottery.recipes.overlap_recipe import OTHER_PROMPT
from ks_lottery.recipes.overlap_tables import overlap_tables
from ks_lottery.recipes.paper import paper_table
from ks_lottery.store.cells import FinishedCell

SETS, PAIRS = ("p < 0.05", "at most 4"), ("en-ca", "en-de")


@pytest.fixture(scope="module")
def made(narrow_model, text_file, tmp_path_factory):
    root = tmp_path_factory.mktemp("overlap")
    text = text_file.read_text(encoding="utf-8")
    (root / "en-ca.tsv").write_text(text, encoding="utf-8")
    (root / "en-de.tsv").write_text(text.replace("jardí", "Gartenzaun").replace("núm", "Zahl"), encoding="utf-8")
    settings = {
        "scale": "smoke", "model": [str(narrow_model)], "train": str(root / "{source}-{target}.tsv"), "pairs": PAIRS,
        "sizes": [4], "store": str(root / "store"), "cells": str(root / "cells"), "dtype": "float32", "device": "cpu",
    }  # fmt: skip
    return root, settings, reproduce("table8", **settings)


def rows_of(made, called, pair, seed, prompt="alpaca"):
    wanted = {"set": called, "pair": pair, "seed": seed, "prompt": prompt}
    (cell,) = (c for c in made[2].cells if all(c.about[name] == value for name, value in wanted.items()))
    return set(cell.figures["rows"])


def jaccard(one, other):
    return len(one & other) / len(one | other)


@pytest.mark.parametrize(("pair", "seed", "prompt"), [("en-ca", 0, "alpaca"), ("en-de", 1, OTHER_PROMPT)])
def test_tickets_are_those_of_the_library_calls(made, narrow_model, pair, seed, prompt):
    target = pair.removeprefix("en-")
    corpus = read_corpus(made[0] / f"{pair}.tsv", source_language="en", target_language=target)
    train = hold_out(keep_useful(corpus)[0], 0.2)[0].head(64)
    settings = {"learning_rate": 1e-2, "epochs": 1.0, "dtype": "float32", "device": "cpu"}
    patch = ks_lottery.tune(narrow_model, train, method="embed", seed=seed, template=prompt, **settings)
    scan = ks_lottery.scan(narrow_model, patch)
    for called, rule in zip(SETS, ({"alpha": 0.05}, {"top_k": 4}), strict=True):
        assert rows_of(made, called, pair, seed, prompt) == set(ks_lottery.select(scan, **rule).rows.tolist())


def test_the_prompts_give_other_tickets(made):
    assert any(
        rows_of(made, SETS[0], pair, seed) != rows_of(made, SETS[0], pair, seed, OTHER_PROMPT)
        for pair, seed in itertools.product(PAIRS, (0, 1))
    )


@pytest.mark.parametrize("called", SETS)
def test_shares_are_means_over_two_different_seeds(made, called):
    sections = {s.title.split(", ", 1)[1]: s for s in made[2].sections() if s.rows}
    sets = {(p, s, t): rows_of(made, called, p, s, t) for p in PAIRS for s in (0, 1) for t in ("alpaca", OTHER_PROMPT)}
    (row,) = sections[f"{called}: what two languages share"].rows
    languages = [jaccard(sets["en-ca", s, "alpaca"], sets["en-de", 1 - s, "alpaca"]) for s in (0, 1)]
    ceiling = [jaccard(sets[p, 0, "alpaca"], sets[p, 1, "alpaca"]) for p in PAIRS]
    reworded = [jaccard(sets[p, s, "alpaca"], sets[p, 1 - s, OTHER_PROMPT]) for p in PAIRS for s in (0, 1)]
    assert row[:2] == ["en-ca", "en-de"]
    assert [row[2], *row[3], row[4], row[5]] == pytest.approx(
        [np.mean(languages), min(languages), max(languages), np.mean(ceiling), np.mean(reworded)]
    )
    paper = [set(paper_table("table8").values(model="LLaMA-7B", pair=pair)) for pair in PAIRS]
    assert row[6] == (pytest.approx(jaccard(*paper)) if called == "p < 0.05" else None)
    within = sections[f"{called}: seeds and prompts"].rows
    assert [r[3] for r in within] == pytest.approx(ceiling)
    assert [r[2] for r in within] == ([18, 15] if called == "p < 0.05" else [None, None])


def test_tickets_stand_side_by_side_with_their_tokens(made):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made[1]["model"][0])
    table = next(s for s in made[2].sections() if "at most 4: tickets by language" in s.title)
    for place, pair in enumerate(PAIRS, start=3):
        assert {row[0] for row in table.rows if row[place]} == rows_of(made, "at most 4", pair, 0)
        assert sorted(row[place] for row in table.rows if row[place]) == [1, 2, 3, 4]
    words = [row for row in table.rows if row[0] > 255]  # the first tokens of the vocabulary are bytes
    assert words
    assert [row[1] for row in words] == [repr(tokenizer.decode([row[0]])) for row in words]


def test_a_finished_recipe_computes_nothing_and_the_prompt_that_rewords_is_refused(made, tmp_path):
    again = reproduce("table8", **{**made[1], "store": str(tmp_path / "lost")})
    assert again.sections() == made[2].sections()
    assert not (tmp_path / "lost").exists()
    with pytest.raises(UserError, match="which this recipe compares with: give another prompt"):
        reproduce("table8", **made[1], template=OTHER_PROMPT)


def cell(rows, *, pair="en-ca", seed=0, prompt="alpaca"):
    about = {"model": "m", "pair": pair, "system": "ks", "set": "p < 0.05", "seed": seed, "prompt": prompt}
    figures = {"rows": rows, "tokens": [f"'{row}'" for row in rows]}
    return FinishedCell(recipe="table8", about=about, figures=figures, conditions={})


def test_sentences_say_what_is_shared():
    cells = [
        cell([1, 2, 3, 4]), cell([1, 2, 3, 5], seed=1), cell([1, 2, 6, 7], pair="en-de"),
        cell([1, 2, 6, 8], pair="en-de", seed=1), cell([1, 9], prompt="question"), cell([1, 9], prompt="question", seed=1),
    ]  # fmt: skip
    said = " ".join(overlap_tables(cells, other="question")[-1].sentences)
    assert "m, p < 0.05: in all 2 languages with the first seed: 2 rows: 1 '1', 2 '2'." in said
    assert (
        "on average two seeds of one language share 0.600; two languages share 0.333; the prompt and its rewording (question) "
        "share 0.200."
    ) in said
    assert "is the ceiling of what two languages" in said


def test_one_seed_has_no_ceiling_and_empty_sets_are_said():
    cells = [cell([]), cell([], prompt="question"), cell([3], pair="en-de"), cell([3], pair="en-de", prompt="question")]
    sections = overlap_tables(cells, other="question")
    said = " ".join(sections[-1].sentences)
    assert "m, p < 0.05: no row of en-ca has p < 0.05 with seed 0." in said
    assert "One seed: there is no ceiling" in said
    within = next(s for s in sections if s.title.endswith("seeds and prompts"))
    assert [(row[1], row[3], row[6]) for row in within.rows] == [(0, None, None), (1, None, 1.0)]
