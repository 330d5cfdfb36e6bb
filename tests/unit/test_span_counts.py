"""The origin of rows: counted by tuning, against the tokens of each part of the prompt tokenized here."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import ks_lottery
from ks_lottery import Tickets, UserError, explain, select
from ks_lottery.cli.main import main
from ks_lottery.corpus.batches import Example, encode, span_occurrences
from ks_lottery.corpus.prompts import TEMPLATES, instruction
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.tickets.span_counts import SPANS_FILE, SpanCounts
from ks_lottery.tuning.tune import TuneSpec, prepare


@pytest.fixture(scope="module")
def loaded(tied_model):
    return load_model(open_checkpoint(str(tied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def corpus(text_file):
    return ks_lottery.read_corpus(str(text_file), source_language="en", target_language="ca").head(16)


def by_hand(loaded, corpus) -> dict[str, Counter]:
    """Count by the parts of the template, whose line breaks keep them apart for this tokenizer."""

    def tokens(text):
        return loaded.tokenizer(text, add_special_tokens=False)["input_ids"]

    told = instruction(corpus.source_language, corpus.target_language)
    before, after = TEMPLATES["alpaca"].replace("{instruction}", told).split("{source}")
    counted = {name: Counter() for name in ("instruction", "source", "target")}
    for pair in corpus.pairs:
        counted["instruction"].update([*tokens(before), *tokens(after)])
        counted["source"].update(tokens(pair.source))
        counted["target"].update([*tokens(pair.target), loaded.tokenizer.eos_token_id])
    return counted


@pytest.mark.parametrize("method", ["embed", "occurrence", "random-reachable"])
def test_tuning_saves_where_each_token_stands(loaded, corpus, tmp_path, method):
    size = None if method == "embed" else 5
    tuning = prepare(loaded, corpus, TuneSpec(method=method, size=size, settings={"epochs": 0.5}))
    result = tuning.run()
    result.save(tmp_path)
    found = SpanCounts.open(tmp_path)
    wanted = by_hand(loaded, corpus)
    every = sorted(set().union(*wanted.values()))
    assert found.ids.tolist() == every
    for name, counts in wanted.items():
        assert found.counts[name].tolist() == [counts[token] for token in every]
    # All of them are what `occurrence` counts, the end tokens included.
    examples, _ = encode(loaded.tokenizer, corpus)
    total = Counter(token for e in examples for token in e.sequence)
    assert sum(found.counts.values()).tolist() == [total[token] for token in every]
    assert found.made_from["base"] == loaded.checkpoint.describe()
    assert found == result.span_counts


def test_methods_without_rows_and_examples_of_unknown_source_save_none(loaded, corpus, tmp_path):
    examples, _ = encode(loaded.tokenizer, corpus)
    assert span_occurrences(examples) is None
    assert span_occurrences([]) is None
    tuning = prepare(loaded, examples, TuneSpec(method="embed", settings={"epochs": 0.5}))
    tuning.run().save(tmp_path)
    assert not (tmp_path / SPANS_FILE).exists()
    assert prepare(loaded, corpus, TuneSpec(method="lora")).span_counts is None


def test_counts_of_rows_that_never_occur_are_zero():
    counted = {"instruction": Counter({3: 2}), "source": Counter({5: 1}), "target": Counter({3: 1, 9: 4})}
    found = SpanCounts.of_occurrences(counted, {})
    of = found.of(np.array([9, 4, 3, 100, 0]))
    assert {name: column.tolist() for name, column in of.items()} == {
        "instruction": [0, 0, 2, 0, 0], "source": [0] * 5, "target": [4, 0, 1, 0, 0],
    }  # fmt: skip
    none = SpanCounts.of_occurrences({name: Counter() for name in counted}, {})
    assert none.of(np.array([1]))["source"].tolist() == [0]
    assert repr(found) == "SpanCounts(3 tokens: 2 in the instruction, 1 in the source, 5 in the target)"
    assert found.sections()[0].rows[0] == [9, 0, 0, 4]


def test_an_explanation_marks_the_template_rows(make_scan):
    scan = make_scan([0, 60, 40, 50, 30], 64)
    chosen = select(scan, top_k=3)
    counted = {"instruction": Counter({3: 7}), "source": Counter({1: 2}), "target": Counter({1: 3, 2: 1})}
    found = explain(chosen, scan, origins=SpanCounts.of_occurrences(counted, {}))
    assert [(row["row"], row["origin"], row["template"]) for row in found.table()] == [
        (1, {"instruction": 0, "source": 2, "target": 3}, False),
        (3, {"instruction": 7, "source": 0, "target": 0}, True),
        (2, {"instruction": 0, "source": 0, "target": 1}, False),
    ]
    assert found.as_dict()["template_rows"] == 1
    shown = found.sections()
    assert [row[-1] for row in shown[1].rows] == ["", "yes", ""]
    assert any("1 of the 3 tickets are template rows" in line for section in shown for line in section.sentences)
    without = explain(chosen, scan)
    assert without.as_dict()["template_rows"] is None
    assert "origin" not in without.table()[0]


def test_explain_takes_the_origin_from_the_folder_of_a_tuning(narrow_model, text_file, tmp_path, capfd):
    """From tune, scan and select to explain; and of another base it takes none."""
    base, train = str(narrow_model), ["--train", str(text_file), "--limit", "16", "--epochs", "3"]
    more = ["--learning-rate", "1e-2", "--dtype", "float32"]
    assert main(["tune", base, "--method", "embed", *train, *more, "--out", str(tmp_path / "embed")]) == 0
    scan, chosen = str(tmp_path / "scan.parquet"), str(tmp_path / "tickets.json")
    assert main(["scan", base, str(tmp_path / "embed"), "--out", scan, "--quiet"]) == 0
    assert main(["select", scan, "--top-k", "8", "--out", chosen]) == 0
    capfd.readouterr()
    assert main(["explain", chosen, "--json"]) == 0
    import json

    rows = json.loads(capfd.readouterr().out)["rows"]
    counts = SpanCounts.open(tmp_path / "embed").of(Tickets.open(chosen).rows)
    for place, row in enumerate(rows):
        assert row["origin"] == {name: int(column[place]) for name, column in counts.items()}
        assert row["template"] == (row["origin"]["instruction"] > 0)
    assert sum(sum(row["origin"].values()) for row in rows) > 0
    counts = SpanCounts.open(tmp_path / "embed")
    other = SpanCounts(counts.ids, counts.counts, {"base": {"fingerprint": "other"}})
    other.save(tmp_path / "embed")
    assert main(["explain", chosen, "--json"]) == 0
    assert "origin" not in json.loads(capfd.readouterr().out)["rows"][0]


def test_a_damaged_file_is_refused(tmp_path):
    from ks_lottery.store.files import write_table
    from ks_lottery.store.manifest import manifest

    about = manifest("span-counts", made_from={}, settings={})
    with pytest.raises(UserError, match="does not exist"):
        SpanCounts.open(tmp_path)
    for columns in (
        {"row": [1, 2], "instruction": [1, 1], "source": [1, 1]},
        {"row": [2, 1], "instruction": [1, 1], "source": [1, 1], "target": [1, 1]},
        {"row": ["a"], "instruction": [1], "source": [1], "target": [1]},
    ):
        write_table(tmp_path / SPANS_FILE, columns, about)
        with pytest.raises(UserError, match="not whole"):
            SpanCounts.open(tmp_path)


def test_an_example_knows_its_source_only_where_it_was_asked():
    assert Example((1, 2), (3,)).in_source is None
    assert Example((1, 2), (3,), (True, False)) == Example((1, 2), (3,))
