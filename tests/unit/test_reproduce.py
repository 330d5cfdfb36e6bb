"""The recipe `selectors` on a tiny model, its figures against transformers, SciPy and definitions; and its command."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from transformers import AutoModelForCausalLM, AutoTokenizer

import ks_lottery
from ks_lottery import UserError, load_model, read_corpus, reproduce
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.cli.main import main
from ks_lottery.config.recipe_commands import ReproduceOptions
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.selection import hold_out, keep_useful
from ks_lottery.recipes.prepared_recipe import prepare_recipe
from ks_lottery.recipes.recipe_plan import plan_recipe
from ks_lottery.recipes.recipe_scale import SCALES
from ks_lottery.recipes.selector_recipe import FIXED_RULES, RULES, TRIED
from ks_lottery.recipes.selector_sections import PRIMARY_SIZE
from ks_lottery.recipes.system_comparison import kept_gain
from ks_lottery.store.files import read_json
from ks_lottery.store.objects import ObjectStore

SIZE = 4
EMBED = {"method": "embed", "epochs": 1.0}


@pytest.fixture(scope="module")
def made(narrow_model, text_file, tmp_path_factory):
    """The recipe with two seeds, its store and its cells."""
    root = tmp_path_factory.mktemp("reproduce")
    settings = {"scale": "smoke", "model": [str(narrow_model)], "train": str(text_file), "sizes": [SIZE], "seeds": 2}
    places = {"store": str(root / "store"), "cells": str(root / "cells"), "dtype": "float32", "device": "cpu"}
    return root, {**settings, **places}, reproduce("selectors", **settings, **places)


@pytest.fixture(scope="module")
def texts(text_file):
    train, test = hold_out(keep_useful(read_corpus(text_file, source_language="en", target_language="ca"))[0], 0.2)
    return train.head(64), test.head(24)


def cell_of(made, **about):
    (cell,) = (c for c in made[2].cells if all(c.about[name] == value for name, value in about.items()))
    return cell


def stored(made, stage, **settings):
    stages, _ = ObjectStore(made[0] / "store").stages()
    return [
        s for s in stages if s.about["stage"] == stage and all(s.about["settings"][n] == v for n, v in settings.items())
    ]


def measured_by_transformers(model, corpus, patch):
    """Return accuracy, loss and right answers a sentence, of the model with new rows on the input side alone."""
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    if patch is not None:
        rows = lm.get_input_embeddings().weight.detach().clone()
        rows[torch.from_numpy(patch.ids)] = patch.values
        lm.model.embed_tokens = torch.nn.Embedding.from_pretrained(rows)
    losses, correct = [], []
    for example in encode(tokenizer, corpus)[0]:
        with torch.no_grad():
            logits = lm(torch.tensor([example.sequence])).logits[0, len(example.prompt) - 1 : -1].log_softmax(-1)
        labels = torch.tensor(example.response)
        losses.append(-logits.gather(1, labels[:, None]).double().sum().item())
        correct.append(int((logits.argmax(-1) == labels).sum()))
    return losses, correct


@pytest.mark.parametrize("system", ["original", "embed", "occurrence"])
def test_figures_are_those_of_transformers(made, narrow_model, texts, system):
    if system == "original":
        cell, patch = cell_of(made, system="original"), None
    elif system == "embed":
        cell = cell_of(made, system="embed", seed=1)
        (tuned,) = stored(made, "tune", **EMBED, seed=1)
        patch = RowPatch.open(tuned.folder)
    else:
        cell = cell_of(made, system="occurrence", way="partial", seed=0)
        (rows,) = stored(made, "rows", rule="occurrence")
        tuned = next(s for s in stored(made, "tune", method="partial", seed=0) if rows.key in s.sources)
        patch = RowPatch.open(tuned.folder)
    losses, correct = measured_by_transformers(narrow_model, texts[1], patch)
    sentences = cell.figures["sentences"]
    assert sentences["correct"] == correct
    assert sentences["loss"] == pytest.approx(losses, rel=1e-4)
    positions = sum(sentences["positions"])
    assert cell.figures["accuracy"] == pytest.approx(sum(correct) / positions)
    assert cell.figures["loss"] == pytest.approx(sum(losses) / positions, rel=1e-4)


def test_rows_are_those_of_their_rules(made, narrow_model, texts):
    tokenizer = AutoTokenizer.from_pretrained(narrow_model)
    counts = Counter(token for example in encode(tokenizer, texts[0])[0] for token in example.sequence)

    def chosen(rule, **settings):
        return [
            [row["row"] for row in read_json(s.folder / "rows.json")["rows"]]
            for s in stored(made, "rows", rule=rule, **settings)
        ]

    (occurrence,) = chosen("occurrence")
    assert occurrence == sorted(counts, key=lambda token: (-counts[token], token))[:SIZE]
    draws = [rows for seed in range(2) for rows in chosen("random-reachable", seed=seed)]
    assert draws[0] != draws[1]
    assert all(set(rows) <= set(counts) and len(set(rows)) == SIZE for rows in draws)
    base = AutoModelForCausalLM.from_pretrained(narrow_model).get_input_embeddings().weight.detach().numpy()
    for tuned in stored(made, "tune", **EMBED):
        patch = RowPatch.open(tuned.folder)
        found = {int(i): ks_2samp(base[i], v.numpy()).pvalue for i, v in zip(patch.ids, patch.values, strict=True)}
        (scan,) = (s for s in stored(made, "scan") if tuned.key in s.sources)
        (rows,) = (s for s in stored(made, "rows", rule="ks") if scan.key in s.sources)
        by_ks = [row["row"] for row in read_json(rows.folder / "rows.json")["rows"]]
        worst = max(found[row] for row in by_ks)
        assert all(p >= worst * (1 - 1e-9) for row, p in found.items() if row not in by_ks)


def test_a_transfer_has_the_values_of_embed_tuning(made):
    tuned = {s.key: RowPatch.open(s.folder) for s in stored(made, "tune", **EMBED)}
    moved = stored(made, "transfer")
    # Both seeds transfer by most rules the same rows, but other values.
    assert len(moved) == 2 * len(RULES)
    for stage in moved:
        patch, whole = RowPatch.open(stage.folder), next(tuned[key] for key in stage.sources if key in tuned)
        assert len(patch) == SIZE
        assert torch.equal(patch.values, whole.values[torch.from_numpy(np.isin(whole.ids, patch.ids))])


def test_what_seeds_share_is_made_once(made):
    assert len(stored(made, "gradients")) == 1
    assert len(stored(made, "rows", rule="occurrence")) == 1
    assert len(stored(made, "tune", **EMBED)) == len(stored(made, "tune", method="embed", epochs=0.25)) == 2
    of_a_seed = len(("embed", "lora", "prompt")) + len(TRIED) + 2 * len(RULES)
    assert len(made[2].cells) == 1 + 2 * of_a_seed == len(list((made[0] / "cells").iterdir()))


def test_differences_are_paired_by_seed_and_sentence(made):
    table, _, _, said = made[2].sections()
    row = next(row for row in table.rows if row[0] == "gradient" and row[1] == "partial")
    gaps = [
        cell_of(made, system="gradient", way="partial", seed=seed).figures["accuracy"]
        - cell_of(made, system="occurrence", way="partial", seed=seed).figures["accuracy"]
        for seed in range(2)
    ]
    place = [column.title for column in table.columns].index("accuracy less occurrence")
    estimate, (low, high) = row[place : place + 2]
    assert estimate == pytest.approx(np.mean(gaps))
    assert low <= estimate <= high
    assert any("seeds and sentences are resampled crossed" in sentence for sentence in said.sentences)
    assert "beats" not in " ".join(said.sentences)


def test_a_lost_store_with_cells_computes_nothing(made):
    root, settings, before = made
    again = reproduce("selectors", **{**settings, "store": str(root / "lost")})
    assert again.cells == before.cells
    assert again.sections() == before.sections()
    assert not (root / "lost").exists()


def test_a_dry_run_says_what_is_there_and_what_the_rest_takes(made, monkeypatch):
    root, settings, _ = made
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    done = plan_recipe(prepare_recipe(ReproduceOptions(recipe="selectors", **options)))
    assert (done.finished, done.cells, done.missing) == (43, 43, [])
    more = {**options, "seeds": 3, "cells": str(root / "none")}
    plan = plan_recipe(prepare_recipe(ReproduceOptions(recipe="selectors", **more)))
    assert plan.finished == 0
    known = [s for s in plan.stages if s.state == "in the store"]
    assert len(known) == len(ObjectStore(root / "store").keys())
    # Embed, LoRA and prompt tuning, a scan, rows by ks, lca and chance, partial tunings, transfers, measurements; of the
    # rules that were tried two short tunings, a scan, rows of two, and of each a tuning and a measurement.
    rules = 3 + 1 + 3 + len(RULES) + len(RULES) + 3 + 2 * len(RULES)
    assert len(plan.missing) == rules + 2 + 1 + 2 + 2 * len(TRIED)
    trainings = [s for s in ObjectStore(root / "store").stages()[0] if s.about["pace"] == "train"]
    speed = sum(s.about["tokens"] for s in trainings) / sum(s.about["seconds"] for s in trainings)
    embed = next(s for s in plan.missing if "embed tuning" in s.title)
    assert embed.seconds == pytest.approx(embed.cost.tokens / speed)
    assert plan.seconds == pytest.approx(sum(s.seconds for s in plan.missing if s.cost.tokens))
    both = plan_recipe(prepare_recipe(ReproduceOptions(recipe="selectors", **more)), workers=2)
    assert plan.seconds / 2 <= both.seconds < 0.6 * plan.seconds
    assert "with 2 workers" in both.sections()[0].sentences[-1]
    fresh = plan_recipe(prepare_recipe(ReproduceOptions(recipe="selectors", **{**more, "store": str(root / "fresh")})))
    assert fresh.seconds is None
    assert "nothing was measured yet" in fresh.sections()[0].sentences[-1]
    measured = plan_recipe(
        prepare_recipe(ReproduceOptions(recipe="selectors", **{**more, "store": str(root / "fresh")})), measure=True
    )
    assert measured.seconds > 0
    assert not (root / "fresh").exists()


def test_the_command_writes_tables_and_refuses_a_folder_of_another_recipe(made, tmp_path, capfd):
    root, settings, before = made
    words = [
        "reproduce", "selectors", "--scale", "smoke", "--model", *settings["model"], "--train", settings["train"],
        "--sizes", str(SIZE), "--seeds", "2", "--store", str(root / "lost"), "--cells", str(root / "cells"),
        "--dtype", "float32", "--device", "cpu",
    ]  # fmt: skip
    out = tmp_path / "out"
    assert main([*words, "--out", str(out)]) == 0
    assert "What the tables say" in capfd.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == [
        "manifest.json", "selectors-1.csv", "selectors-2.csv", "selectors-3.csv", "selectors.md", "selectors.tex",
        "selectors.txt", "tables.json",
    ]  # fmt: skip
    with (out / "selectors-1.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert float(rows[1]["accuracy"]) == np.mean(
        [c.figures["accuracy"] for c in before.cells if c.about["system"] == "embed"]
    )
    assert main([*words, "--out", str(out)]) == 0
    capfd.readouterr()
    assert main([*words, "--seeds", "1", "--out", str(out)]) == 2
    assert "was made by another command" in capfd.readouterr().err
    assert main([*words, "--dry-run"]) == 0
    assert "nothing is computed" in capfd.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"]["sizes"] == [SIZE]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"recipe": "selector"},
            "`recipe` is 'selector', but must be one of selectors, where, table1",
        ),
        ({"scale": "tiny"}, "`scale` is 'tiny', but must be one of"),
        ({"pairs": ["en"]}, "'en' is no pair of languages"),
        ({"pairs": ["en-ca", "en-ca"]}, "values that differ"),
        ({"pairs": ["en-ca", "en-de"]}, "is one text, but there are 2 pairs"),
        ({"seeds": 0}, "`seeds` is 0"),
        ({"sizes": [0]}, "`sizes` is"),
        ({"model": ["nowhere"]}, "model nowhere does not exist"),
        ({"template": "{nothing}"}, "source"),
        ({"train": "nowhere.tsv"}, "nowhere.tsv"),
        ({"data": "same"}, "are in the training text too"),
    ],
)
def test_a_wrong_setting_gets_one_sentence(made, settings, problem, text_file):
    given = {**made[1], "recipe": "selectors", **settings}
    if given.get("data") == "same":
        given["data"] = str(text_file)
    with pytest.raises(UserError) as caught:
        reproduce(given.pop("recipe"), **given)
    assert problem in str(caught.value)


def test_a_file_of_templates_is_part_of_every_key_by_its_content(made, tmp_path):
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in made[1].items()}

    def keys(name: str, content: str) -> list[str]:
        file = tmp_path / name
        file.write_text(content, encoding="utf-8")
        options = ReproduceOptions(recipe="selectors", **{**settings, "template": f"mixed:{file}"})
        prepared = prepare_recipe(options)
        assert prepared.studies[0].own_prompts((2,)) == []  # a token prompt takes the places of one template
        return prepared.stored.cell_keys()

    first = keys("a.json", '["plain", "{source} ="]')
    assert keys("b.json", '["plain",\n"{source} ="]') == first
    assert not set(keys("a.json", '["plain", "{source} :="]')) & set(first)


def test_texts_are_named_by_their_languages(text_file, narrow_model, tmp_path):
    for language in ("ca", "de"):
        lines = text_file.read_text(encoding="utf-8").replace("número", f"número {language}")
        (tmp_path / f"en-{language}.tsv").write_text(lines, encoding="utf-8")
    options = ReproduceOptions(
        recipe="selectors", scale="smoke", model=(str(narrow_model),), pairs=("en-ca", "en-de"), store=str(tmp_path / "s"),
        train=str(tmp_path / "{source}-{target}.tsv"),
    )  # fmt: skip
    first, second = prepare_recipe(options).studies
    assert (first.train.target_language, second.train.target_language) == ("ca", "de")
    assert all("número de" in pair.target for pair in second.train)
    assert len(set(first.inputs.values()) & set(second.inputs.values())) == 1  # the model


def test_the_other_figures_are_those_of_evaluate(made, narrow_model, texts):
    """Forgetting, end-of-sentence positions and translations of a cell are what the library's call says."""
    cell = cell_of(made, system="prompt", seed=0)
    (tuned,) = stored(made, "tune", method="prompt", seed=0)
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    settings = {"translations": 2, "num_beams": 1, "max_new_tokens": 8, "general": texts[1], "batch_size": 32}
    found = ks_lottery.evaluate(
        loaded, texts[1], tuned.folder, metrics=("accuracy", "bleu", "chrf"), **settings
    ).content()
    for name in ("accuracy", "loss", "positions"):
        assert cell.figures["without_end"][name] == pytest.approx(found["next_token"]["without_end"][name])
    for name in ("accuracy_difference", "loss_difference", "untouched", "positions"):
        assert cell.figures["forgetting"][name] == pytest.approx(found["forgetting"][name])
    for name in ("scores", "first_line", "ended"):
        assert cell.figures[name] == json.loads(json.dumps(found[name]))
    assert cell.figures["parameters"] == SIZE * loaded.checkpoint.width


def test_the_share_of_a_gain_is_over_all_seeds(made):
    before = sum(cell_of(made, system="original").figures["sentences"]["correct"])
    parts, wholes = (
        [
            sum(cell_of(made, system=system, way=way, seed=seed).figures["sentences"]["correct"]) - before
            for seed in range(2)
        ]
        for system, way in (("gradient", "partial"), ("embed", None))
    )
    cells = [
        [cell_of(made, system=s, way=w, seed=n) for n in range(2)]
        for s, w in (("gradient", "partial"), ("embed", None))
    ]
    share, bounds = kept_gain(*cells, [cell_of(made, system="original")])
    assert share == pytest.approx(sum(parts) / sum(wholes))
    assert bounds is None or bounds[0] <= share <= bounds[1]


def test_more_seeds_are_for_the_rules_of_the_fixed_comparisons_alone(narrow_model, text_file, monkeypatch):
    monkeypatch.setitem(SCALES, "smoke", replace(SCALES["smoke"], seeds=1, primary_seeds=3, sizes=(120, PRIMARY_SIZE)))
    options = ReproduceOptions(recipe="selectors", scale="smoke", model=(str(narrow_model),), train=str(text_file))
    about = [cell.about for cell in prepare_recipe(options).stored.recipe.cells]
    later = [(each["system"], each["size"], each["way"]) for each in about if each["seed"] == 2]
    assert sorted(later) == sorted((rule, PRIMARY_SIZE, "partial") for rule in FIXED_RULES)
    assert {each["size"] for each in about if each["seed"] == 0 and each["system"] == "ks"} == {120, PRIMARY_SIZE}


def test_the_finished_cells_alone_make_tables(made, tmp_path, monkeypatch):
    """Half of the cells are enough for their part of the tables, and nothing is computed for the others."""
    root, settings, whole = made
    kept = list(whole.keys)[::2]
    cells = tmp_path / "cells"
    cells.mkdir()
    for key in kept:
        (cells / f"{key}.json").write_bytes((root / "cells" / f"{key}.json").read_bytes())
    monkeypatch.setattr("ks_lottery.recipes.stored.StoredRecipe.execute", None)
    some = reproduce("selectors", **{**settings, "cells": str(cells)}, finished=True)
    assert list(some.keys) == kept
    assert [cell.figures for cell in some.cells] == [cell.figures for cell in whole.cells[::2]]
    missing = f"{len(whole.keys) - len(kept):,} of {len(whole.keys):,} cells are not finished"
    assert missing in some.sections()[-1].sentences[0]
    every = reproduce("selectors", **settings, finished=True)
    assert every.sections() == whole.sections()
    with pytest.raises(UserError, match="none of the"):
        reproduce("selectors", **{**settings, "cells": str(tmp_path / "none")}, finished=True)
    assert sorted(file.stem for file in cells.iterdir()) == sorted(kept)
