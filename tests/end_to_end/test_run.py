"""The main job on a tiny model, from the command line: what it writes, and that its figures are those of the commands."""

from __future__ import annotations

import json

import pytest
from running import command, fails, hashes

from ks_lottery.cli.main import main
from ks_lottery.models.load import load_model


def test_a_run_writes_what_it_promises(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["methods"]) == [
        "original", "embed", "partial", "transfer", "gradient-sum", "occurrence", "random", "lca", "gradient",
    ]  # fmt: skip
    for row in summary["methods"].values():
        assert {"accuracy", "interval", "loss", "chrf", "bleu", "trained_parameters", "bytes"} <= set(row)
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
    counts = {name: row["trained_parameters"] for name, row in summary["methods"].items()}
    assert counts["original"] == 0
    same = ("partial", "transfer", "gradient-sum", "occurrence", "random", "lca", "gradient")
    assert 0 < counts["partial"] < counts["embed"]
    assert {counts[name] for name in same} == {counts["partial"]}
    assert counts["partial"] == 32 * len(summary["tickets"])
    assert summary["methods"]["embed"]["loss"] < summary["methods"]["original"]["loss"]
    for name, compared in summary["comparisons"]["systems"].items():
        gap = summary["methods"][name]["accuracy"] - summary["methods"]["partial"]["accuracy"]
        assert compared["difference"] == pytest.approx(gap)
        assert compared["interval"][0] <= gap <= compared["interval"][1]
    assert list(summary["comparisons"]["systems"]) == ["gradient-sum", "occurrence", "random", "lca", "gradient"]
    for name in ("config.yaml", "timings.json", "tickets.json", "scan.parquet", "log.txt", "partial/patch.safetensors",
                 "embed/attribution.parquet", "where.json",
                 "predictions/original.parquet", "hypotheses/partial.jsonl", "certificate/transfer.parquet"):  # fmt: skip
        assert (finished / name).is_file(), name


def test_random_rows_are_three_draws(finished):
    """Their rows differ; the table has their mean and its range, and only they are not translated."""
    from ks_lottery import Predictions

    summary = json.loads((finished / "summary.json").read_text())
    names = [f"random-{number}" for number in (1, 2, 3)]
    rows = [tuple(row["row"] for row in json.loads((finished / n / "rows.json").read_text())["rows"]) for n in names]
    assert len({frozenset(each) for each in rows}) == 3
    assert {len(each) for each in rows} == {len(summary["tickets"])}
    accuracies = [Predictions.open(finished / "predictions" / f"{name}.parquet").accuracy for name in names]
    random = summary["methods"]["random"]
    assert random["accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert random["range"] == pytest.approx([min(accuracies), max(accuracies)])
    assert random["chrf"] is None
    assert {path.stem for path in (finished / "hypotheses").iterdir()} == {*summary["methods"]} - {"random"}


def test_one_pass_rows_are_those_of_the_library(finished, tied_model, text_file):
    from ks_lottery import read_corpus, row_gradients, select_by_attribution

    loaded = load_model(str(tied_model))
    train = read_corpus(finished / "text" / "train.jsonl", source_language="en", target_language="ca")
    saved = json.loads((finished / "gradient-sum" / "rows.json").read_text())
    wanted = select_by_attribution(row_gradients(loaded, train, batch_size=8), "gradient-sum", len(saved["rows"]))
    assert [row["row"] for row in saved["rows"]] == wanted.rows.tolist()
    assert saved["settings"]["measured"] == "original model"


def test_without_compare_all_a_run_has_no_recorded_rivals(finished, tied_model, text_file, tmp_path, capfd):
    """What both have is the same, byte for byte."""
    out = tmp_path / "default"
    assert main(command(tied_model, text_file, out, "--compare", "default")) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["methods"]) == [
        "original", "embed", "partial", "transfer", "gradient-sum", "occurrence", "random",
    ]  # fmt: skip
    assert list(summary["comparisons"]["systems"]) == ["gradient-sum", "occurrence", "random"]
    shown = capfd.readouterr().out
    assert "random rows, 3 draws" in shown
    assert "as many random rows (mean of 3 draws)" in shown
    assert "The accuracy of the 3 draws of random rows is from" in shown
    whole = json.loads((finished / "summary.json").read_text())
    assert {name: whole["methods"][name] for name in summary["methods"]} == summary["methods"]
    assert "compare: 'default' there, 'all' here" in fails(capfd, *command(tied_model, text_file, out))


def test_scan_of_the_run_equals_scipy(finished):
    import numpy as np
    import pyarrow.parquet as pq
    from scipy.stats import ks_2samp

    from ks_lottery import RowPatch, open_checkpoint

    table = pq.read_table(finished / "scan.parquet").to_pydict()
    patch = RowPatch.open(finished / "embed")
    before = open_checkpoint(patch.base["name"]).rows(patch.ids).numpy()
    for place, row in enumerate(patch.ids):
        wanted = ks_2samp(before[place], patch.values[place].numpy())
        assert table["count"][row] == round(wanted.statistic * 32)
        assert table["pvalue"][row] == pytest.approx(wanted.pvalue, rel=1e-9)
    tickets = {row["row"] for row in json.loads((finished / "tickets.json").read_text())["rows"]}
    assert tickets == set(np.flatnonzero(np.array(table["pvalue"]) < 0.05).tolist())


def test_rows_by_attribution_are_those_that_embed_tuning_recorded(finished):
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(finished / "embed" / "attribution.parquet").to_pydict()
    losses = json.loads((finished / "embed" / "training.json").read_text())["losses"]
    assert min(table["lca"]) < 0 < max(table["lca"])  # the sign is kept
    assert min(table["gradient"]) >= 0
    assert len(losses) > 1
    for name in ("lca", "gradient"):
        rows = [row["row"] for row in json.loads((finished / name / "rows.json").read_text())["rows"]]
        best = np.argsort(-np.array(table[name]), kind="stable")[: len(rows)]
        assert rows == np.array(table["row"])[best].tolist()
    embed = json.loads((finished / "embed" / "rows.json").read_text())["rows"]
    assert table["row"] == [row["row"] for row in embed]


@pytest.mark.slow
def test_another_seed_gives_another_run_and_zero_is_a_seed(finished, tied_model, text_file, tmp_path):
    assert main(command(tied_model, text_file, tmp_path / "other", "--seed", "1")) == 0
    one, other = hashes(finished), hashes(tmp_path / "other")
    assert one["embed/patch.safetensors"] != other["embed/patch.safetensors"]
    # The seed of training moves no sentence, so that seeds share one test text.
    assert {name for name in one if name.startswith("text/") and one[name] != other[name]} == set()


@pytest.mark.parametrize("method", ["partial", "transfer", "occurrence", "embed"])
def test_the_card_of_an_export_has_the_figures_of_the_run(finished, tmp_path, method):
    from huggingface_hub import ModelCard

    assert main(["export", str(finished / method), "--to", "peft", "--out", str(tmp_path / "out")]) == 0
    card = ModelCard((tmp_path / "out" / "README.md").read_text(encoding="utf-8"))
    summary = json.loads((finished / "summary.json").read_text())
    figures = summary["methods"][method]
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert measured["accuracy"] == round(figures["accuracy"], 4)
    assert measured["chrf"] == round(figures["chrf"], 4)
    assert f"{figures['forgetting']['loss_difference']:+.4f}" in card.text
    counts = summary["text"]
    assert f"{counts['train']} to train, {counts['calibration']} to calibrate, {counts['test']} to test" in card.text
    certificate = summary["certificate"].get(method)
    if certificate is None:
        assert "Nothing is guaranteed of these rows" in card.text
        return
    level = "0.05" if method == "transfer" else method
    statements = [each["statement"] for each in certificate["guarantees"] if each["model"] == level]
    assert len(statements) >= 3
    where = next(each["pool"]["name"] for each in certificate["guarantees"])
    for statement in statements:
        claim = statement.partition("), ")[2].partition(". ")[0]
        assert claim.replace("_", "\\_") in card.text
    assert "held-out text of" in where
    assert str(finished.parent.parent) not in card.text.partition("## Use")[0]
