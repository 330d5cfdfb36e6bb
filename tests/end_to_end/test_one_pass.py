"""Partial tuning of rows that one pass at the original model chooses: command, library, resuming, processes, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ks_lottery import (
    RowPatch,
    Tickets,
    UserError,
    open_checkpoint,
    read_corpus,
    row_gradients,
    select_by_attribution,
    tune,
)
from ks_lottery.cli.main import main
from ks_lottery.config.choices import RECOMMENDED_RULE, RECOMMENDED_SIZE, TEXT_RULES
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.models.load import load_model
from ks_lottery.tuning import one_pass
from ks_lottery.tuning.tune import TuneSpec, prepare

ORDER = "Translate the following sentence from English to Catalan."
FAST = {"learning_rate": 0.01, "batch_size": 4, "epochs": 1}


@pytest.fixture(scope="module")
def short(text_file, tmp_path_factory):
    """Sixteen pairs."""
    file = tmp_path_factory.mktemp("short") / "pairs.tsv"
    file.write_text("".join(text_file.read_text(encoding="utf-8").splitlines(keepends=True)[:16]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def corpus(short):
    return read_corpus(short, source_language="en", target_language="ca")


def measured(model, corpus, by: str) -> Tickets:
    """Return the first five rows by the library's own pass, in float32."""
    loaded = load_model(open_checkpoint(str(model)), dtype="float32", device="cpu")
    return select_by_attribution(row_gradients(loaded, corpus, batch_size=4), by, 5)


def command(model, text, out, *more: str) -> list[str]:
    flags = ["--dtype", "float32", "--learning-rate", "0.01", "--batch-size", "4", "--epochs", "1", "--out", str(out)]
    return ["tune", str(model), "--method", "partial", "--train", str(text), *flags, *more]


@pytest.mark.parametrize("by", ["gradient", "gradient-sum"])
def test_the_rows_are_those_of_the_pass_and_nothing_is_tuned_before(untied_model, short, corpus, tmp_path, by, capfd):
    out = tmp_path / "out"
    call = command(untied_model, short, out, "--by", by, "--size", "5")
    assert main(call) == 0
    wanted = measured(untied_model, corpus, by)
    rows = Tickets.open(out / "rows.json")
    assert rows.rows.tolist() == wanted.rows.tolist()
    assert rows.rule == {"selector": by, "size": 5, "measured": "original model", "batch_size": 4}
    patch = RowPatch.open(out)
    assert patch.ids.tolist() == sorted(wanted.rows.tolist())
    library = tune(str(untied_model), corpus, method="partial", by=by, size=5, dtype="float32", **FAST)
    given = tune(str(untied_model), corpus, method="partial", tickets=wanted, dtype="float32", **FAST)
    assert patch.content == library.content == given.content
    capfd.readouterr()
    assert main(call) == 0
    said = capfd.readouterr().out
    assert "nothing to do" in said
    assert "choose rows" not in said


@pytest.mark.parametrize("by", ["template", "occurrence", "random-reachable", "random"])
def test_rules_that_need_no_pass(untied_model, corpus, by):
    tuning = prepare(str(untied_model), corpus, TuneSpec(method="partial", by=by, size=6, dtype="float32", seed=4))
    assert tuning.chosen() is tuning
    if by == "template":
        form = PromptForm(tuning.loaded.tokenizer)
        whole = [set(form.prompts([pair.instruction or ORDER], [pair.source])[0]) for pair in corpus.pairs]
        empty = set(form.prompts([ORDER], [""])[0])  # but for tokens that straddle the end of a sentence
        assert set(tuning.rows.rows.tolist()) <= set.intersection(*whole) & empty
        template = {t for e in encode(tuning.loaded.tokenizer, corpus, spans=True)[0]
                    for t, inside in zip(e.prompt, e.in_source, strict=True) if not inside}  # fmt: skip
        counted = prepare(str(untied_model), corpus, TuneSpec(method="occurrence", size=384)).rows.rows.tolist()
        assert tuning.rows.rows.tolist() == [row for row in counted if row in template][:6]
    else:
        same = prepare(str(untied_model), corpus, TuneSpec(method=by, size=6, dtype="float32", seed=4))
        assert tuning.rows == same.rows


def test_every_rule_that_is_offered_works(untied_model, corpus):
    for by in TEXT_RULES:
        tuning = prepare(str(untied_model), corpus, TuneSpec(method="partial", by=by, size=3)).chosen()
        assert len(tuning.rows) == 3, by


def test_a_training_that_was_stopped_does_not_choose_again(untied_model, short, tmp_path, monkeypatch, capfd):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    more = ("--by", "gradient-sum", "--size", "5", "--save-every", "2")
    assert main(command(untied_model, short, whole, *more)) == 0

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ks_lottery.tuning.tuning.fit", stopped)
        assert main(command(untied_model, short, cut, *more)) != 0
    assert (tmp_path / "cut.unfinished" / one_pass.ROWS_FILE).is_file()

    def never(*_, **__):
        raise AssertionError("a second pass")

    monkeypatch.setattr(one_pass, "gradients_of", never)
    assert main(command(untied_model, short, cut, *more)) == 0
    for name in ("patch.safetensors", "training.json", "manifest.json", "rows.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (tmp_path / "cut.unfinished").exists()
    capfd.readouterr()


def test_rows_of_another_text_in_the_folder_are_not_used(untied_model, corpus, tmp_path):
    settings = {"method": "partial", "by": "gradient-sum", "size": 5, "dtype": "float32", "folder": tmp_path}
    prepare(str(untied_model), corpus, TuneSpec(**settings)).chosen()
    other = corpus.head(3)
    wanted = measured(untied_model, other, "gradient-sum")
    assert prepare(str(untied_model), other, TuneSpec(**settings)).chosen().rows.rows.tolist() == wanted.rows.tolist()


def test_a_dry_run_counts_the_pass_and_chooses_nothing(untied_model, short, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(one_pass, "gradients_of", None)
    call = command(untied_model, short, tmp_path / "out", "--by", "gradient", "--size", "5", "--dry-run")
    assert main(call) == 0
    assert "trained parameters: 160 of" in capfd.readouterr().out  # 5 rows of width 32
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_choose_the_same_rows_as_one(untied_model, short, corpus, tmp_path):
    out = tmp_path / "out"
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "ks_lottery",
    ]
    call = command(untied_model, short, out, "--by", "gradient-sum", "--size", "5")
    done = subprocess.run(
        [*launch, *call], capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = measured(untied_model, corpus, "gradient-sum")
    rows = Tickets.open(out / "rows.json")
    assert rows.rows.tolist() == wanted.rows.tolist()
    for got, one in zip(rows.scores, wanted.scores, strict=True):
        assert got["gradient-sum"] == pytest.approx(one["gradient-sum"], rel=1e-4)
        assert got["occurrences"] == one["occurrences"]
    assert len(json.loads((out / "training.json").read_text())["losses"]) == 2  # steps of 2 x 4 of 16 pairs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "gradient", "--size", "0"], "--size is 0, but must be 1 or more"),
        (["--by", "gradient", "--size", "5", "--side", "output"], "leave --side out"),
        (
            ["--by", "ks", "--size", "5"],
            "--by is 'ks', but must be one of gradient, gradient-sum, gradient-per-occurrence,",
        ),
        (["--by", "gradient", "--size", "5", "--method", "embed"], "--by is for partial tuning, not for embed"),
    ],
)
def test_what_does_not_fit_together_is_refused(untied_model, short, tmp_path, capfd, words, message):
    assert main([*command(untied_model, short, tmp_path / "out"), *words]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_what_the_library_refuses(untied_model, corpus):
    tickets = Tickets(rows=np.array([5]), rule={})
    with pytest.raises(UserError, match="`tickets` and `by` both say which rows are trained"):
        TuneSpec(method="partial", by="gradient", size=3, tickets=tickets)
    with pytest.raises(UserError, match="`by` is lca, but must be one of .* Other rules need a tuning first"):
        TuneSpec(method="partial", by="lca", size=3)
    loaded = load_model(open_checkpoint(str(untied_model)))
    examples = encode(loaded.tokenizer, corpus)[0]
    with pytest.raises(UserError, match="needs to know which tokens of a prompt are the source"):
        prepare(loaded, examples, TuneSpec(method="partial", by="template", size=3))


def test_without_tickets_the_recommended_rule_chooses(untied_model, short, corpus, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(command(untied_model, short, out)) == 0
    assert f"choose {RECOMMENDED_SIZE} rows by {RECOMMENDED_RULE} at the original model" in capfd.readouterr().out
    loaded = load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")
    wanted = select_by_attribution(row_gradients(loaded, corpus, batch_size=4), RECOMMENDED_RULE, RECOMMENDED_SIZE)
    assert Tickets.open(out / "rows.json").rows.tolist() == wanted.rows.tolist()
    patch = tune(loaded, corpus, method="partial", **FAST)
    assert RowPatch.open(out).content == patch.content
    assert len(tune(loaded, corpus, method="partial", size=3, **FAST)) == 3
