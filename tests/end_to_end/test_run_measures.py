"""What a run measures of each method: it is what the commands `evaluate` and `where` give, and the summary has all of it."""

from __future__ import annotations

import json

import pytest
import sacrebleu
from running import command, fails

from ks_lottery import Predictions
from ks_lottery.cli.main import main
from ks_lottery.models.load import load_model

BOOTSTRAP = {"confidence": 0.95, "resamples": 200, "seed": 0}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("method", ["embed", "partial", "transfer", "random-1"])
def test_the_evaluation_of_a_run_is_that_of_the_command(finished, tied_model, tmp_path, method):
    test, metrics = str(finished / "text" / "test.jsonl"), "accuracy" if method == "random-1" else "bleu,chrf,accuracy"
    call = [
        "evaluate", str(tied_model), "--patch", str(finished / method), "--data", test, "--general", test, "--metrics", metrics,
        "--translations", "2", "--num-beams", "1", "--max-new-tokens", "4", "--resamples", "200", "--max-tokens", "512",
    ]  # fmt: skip
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    one, two = read(finished / "evaluation" / f"{method}.json"), read(tmp_path / "out" / "evaluation.json")
    names = ("scores", "first_line", "ended", "next_token", "forgetting", "sentences", "overlong")
    assert {name: one[name] for name in names} == {name: two[name] for name in names}
    assert one["forgetting"]["sentences"] == one["sentences"] == 20


def test_where_of_a_run_is_that_of_the_command(finished, tied_model, tmp_path, capsys):
    call = [
        "where",
        str(tied_model),
        "--patch",
        str(finished / "partial"),
        "--data",
        str(finished / "text" / "test.jsonl"),
    ]
    settings = ["--limit", "10", "--resamples", "200", "--max-tokens", "512"]
    assert main([*call, *settings, "--out", str(tmp_path / "where.json")]) == 0
    one, two = read(finished / "where.json"), read(tmp_path / "where.json")
    for content in (one, two):
        content["settings"].pop("template")
        del content["made_from"]["text"]
    assert one == two
    assert one["sentences"] == 10
    where = read(finished / "summary.json")["where"]
    assert (where["spans"], where["sentences"], where["method"]) == (one["spans"], 10, "partial")
    assert where["sentence"] in capsys.readouterr().out.replace("\n", " ")


def test_the_summary_has_what_evaluate_sees(finished):
    """Recounted from the saved translations with sacrebleu, and from the saved predictions."""
    summary = read(finished / "summary.json")
    for name in ("original", "embed", "partial", "transfer", "gradient-sum", "occurrence"):
        method = summary["methods"][name]
        lines = (finished / "hypotheses" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        assert method["ended"]["count"] == sum(row["ended"] for row in rows)
        assert method["ended"]["share"] == pytest.approx(sum(row["ended"] for row in rows) / len(rows))
        first = [row["output"].strip().split("\n")[0] for row in rows]
        wanted = sacrebleu.corpus_chrf(first, [[row["reference"] for row in rows]], word_order=2).score
        assert method["first_line"]["chrf"] == pytest.approx(wanted)
        lengths = [sum(len("".join(row[key].split())) for row in rows) for key in ("hypothesis", "reference")]
        assert method["length_ratio"]["chrf"] == pytest.approx(lengths[0] / lengths[1])


def test_gains_are_paired_differences_from_the_original(finished, tied_model):
    summary = read(finished / "summary.json")
    end = load_model(tied_model).tokenizer.eos_token_id
    original = Predictions.open(finished / "predictions" / "original.parquet")
    assert list(summary["gains"]["methods"]) == list(summary["methods"])[1:]
    for name, gain in summary["gains"]["methods"].items():
        methods = [f"random-{n}" for n in (1, 2, 3)] if name == "random" else [name]
        draws = [Predictions.open(finished / "predictions" / f"{method}.parquet") for method in methods]
        assert gain["all"]["difference"] == pytest.approx(
            sum(d.accuracy for d in draws) / len(draws) - original.accuracy
        )
        kept = [draw.without_ends(end) for draw in draws]
        assert len(kept[0]) == len(draws[0]) - summary["text"]["test"]
        without = sum(draw.accuracy for draw in kept) / len(kept)
        assert summary["methods"][name]["without_end"]["accuracy"] == pytest.approx(without)
        rest = original.without_ends(end)
        assert gain["without_end"]["difference"] == pytest.approx(without - rest.accuracy)
        if len(draws) == 1:
            assert tuple(gain["all"]["interval"]) == pytest.approx(draws[0].difference(original, **BOOTSTRAP)[1])
            assert tuple(gain["without_end"]["interval"]) == pytest.approx(kept[0].difference(rest, **BOOTSTRAP)[1])


def test_forgetting_of_random_rows_is_the_mean_of_their_draws(finished):
    methods = read(finished / "summary.json")["methods"]
    assert methods["original"]["forgetting"] is None
    draws = [read(finished / "evaluation" / f"random-{n}.json")["forgetting"] for n in (1, 2, 3)]
    losses = [draw["loss_difference"] for draw in draws]
    mean = methods["random"]["forgetting"]
    assert mean["loss_difference"] == pytest.approx(sum(losses) / 3)
    assert mean["loss_range"] == [min(losses), max(losses)]
    assert mean["loss_interval"] is None


def test_general_text_without_a_trained_row_is_answered_bit_identically(tied_model, text_file, tmp_path, capfd):
    """Its bytes are tokens that the parallel text never has. Here `where` is switched off too."""
    general, out = tmp_path / "general.txt", tmp_path / "out"
    general.write_text("0Q0Q\nΩΩ QQ\n", encoding="utf-8")
    tokenizer = load_model(tied_model).tokenizer
    used = {token for line in text_file.read_text().splitlines() for token in tokenizer(line)["input_ids"]}
    general.write_text("QQQ\nΩQΩ\n", encoding="utf-8")
    assert not used & {token for line in ("QQQ", "ΩQΩ") for token in tokenizer(line)["input_ids"]}
    call = command(tied_model, text_file, out, "--evaluate.general", str(general), "--compare", "default")
    assert main([*call, "--evaluate.where-sentences", "0"]) == 0
    shown = capfd.readouterr().out
    summary = read(out / "summary.json")
    for name, method in summary["methods"].items():
        if name != "original":
            forgetting = method["forgetting"]
            assert (forgetting["sentences"], forgetting["identical"], forgetting["loss_difference"]) == (2, 2, 0.0)
    assert "Partial tuning answers the general text as the original model does, bit by bit." in shown
    assert f"general text: {general}, 2 sentences without a prompt" in shown
    assert "Where the tickets act was not measured: evaluate.where_sentences is 0." in shown
    assert not (out / "where.json").exists()
    assert summary["where"]["sentence"] is None
    general.write_text("QQQ\n", encoding="utf-8")
    assert "was begun with another general text" in fails(capfd, *call, "--evaluate.where-sentences", "0")


def test_general_text_is_checked_before_anything_is_written(tied_model, text_file, tmp_path, capfd):
    (tmp_path / "short.txt").write_text("Q\n", encoding="utf-8")
    for flags, named in (
        (["--evaluate.general", str(tmp_path / "no.txt")], "no.txt"),
        (["--evaluate.general", str(tmp_path / "short.txt")], "holds no sentence of two tokens"),
        (["--evaluate.general-format", "lines"], "--evaluate.general-format describes a general text"),
    ):
        assert named in fails(capfd, *command(tied_model, text_file, tmp_path / "out", *flags))
        assert not (tmp_path / "out").exists()


def test_a_run_without_a_ticket_measures_what_there_is(tied_model, text_file, tmp_path, capfd):
    """Its small models are the original, bit for bit."""
    out = tmp_path / "out"
    assert main(command(tied_model, text_file, out, "--select.alpha", "0", "--compare", "default")) == 0
    assert "No ticket: the largest D is" in capfd.readouterr().out
    summary = read(out / "summary.json")
    assert summary["where"] == {"method": "partial", "missing": "there is no ticket", "sentence": None}
    for name in ("partial", "transfer", "occurrence", "random"):
        forgetting = summary["methods"][name]["forgetting"]
        assert forgetting["identical"] == forgetting["sentences"]
        assert summary["gains"]["methods"][name]["all"] == {"difference": 0.0, "interval": [0.0, 0.0]}
