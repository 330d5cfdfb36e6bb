"""The commands tune and transfer: what they leave, that a killed training goes on to the same bytes, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib import util

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.integrations import integration_utils

from ks_lottery import RowPatch, Tickets, open_checkpoint, read_corpus
from ks_lottery.cli.main import main
from ks_lottery.config.choices import METHODS
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.selection import hash_fraction
from ks_lottery.models.load import load_tokenizer
from ks_lottery.tuning.checks import TRACKERS
from ks_lottery.tuning.trainer import TRAINED_FILE, WHOLE_FILE, last_whole_checkpoint


def command(model, text, out, *more: str, method: str = "embed") -> list[str]:
    flags = ["--dtype", "float32", "--learning-rate", "0.01", "--batch-size", "4", "--out", str(out)]
    return ["tune", str(model), "--method", method, "--train", str(text), *flags, *more]


def fails(capfd, arguments) -> str:
    capfd.readouterr()
    assert main(arguments) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def short(text_file, tmp_path_factory):
    """Sixteen pairs."""
    file = tmp_path_factory.mktemp("short") / "pairs.tsv"
    file.write_text("".join(text_file.read_text(encoding="utf-8").splitlines(keepends=True)[:16]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def embed(untied_model, short, tmp_path_factory):
    out = tmp_path_factory.mktemp("embed") / "embed"
    assert (
        main(command(untied_model, short, out, "--epochs", "2", "--save-every", "3", "--report-to", "tensorboard")) == 0
    )
    return out


def test_a_row_method_leaves_a_patch_its_rows_losses_and_a_manifest(untied_model, short, embed):
    patch = RowPatch.open(embed)
    base = open_checkpoint(str(untied_model))
    patch.check_base(base)
    assert patch.ids.tolist() == Tickets.open(embed / "rows.json").ids.tolist()
    training = json.loads((embed / "training.json").read_text())
    assert [entry["step"] for entry in training["losses"]] == list(range(1, 9))  # 16 pairs, batches of 4, twice
    about = json.loads((embed / "manifest.json").read_text())
    text = read_corpus(short, source_language="en", target_language="ca")
    assert about["made_from"]["text"] == text.fingerprint
    assert about["made_from"]["base"]["fingerprint"] == base.fingerprint
    assert about["settings"]["learning_rate"] == 0.01
    assert not list(embed.parent.glob("*.unfinished"))


def test_tensorboard_was_told_every_loss(embed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(embed / "logs"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    losses = json.loads((embed / "training.json").read_text())["losses"]
    assert [step for step, _ in shown] == [entry["step"] for entry in losses]
    assert [value for _, value in shown] == pytest.approx([entry["loss"] for entry in losses], rel=1e-6)


def test_the_same_command_again_does_nothing_and_another_is_refused(untied_model, short, embed, capfd):
    before = {file: file.stat().st_mtime_ns for file in embed.rglob("*")}
    assert main(command(untied_model, short, embed, "--epochs", "2")) == 0
    assert "was made by the same command before" in capfd.readouterr().out
    message = fails(capfd, command(untied_model, short, embed, "--epochs", "1"))
    assert "epochs: 2.0 there, 1.0 here" in message
    assert {file: file.stat().st_mtime_ns for file in embed.rglob("*")} == before


def test_a_killed_training_goes_on_to_the_same_bytes(untied_model, text_file, tmp_path):
    """Killed in the second epoch, whose order of examples an interrupted generator would not give again."""
    more = ("--epochs", "4", "--save-every", "10", "--method", "embed")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(command(untied_model, text_file, whole, *more)) == 0
    arguments = [sys.executable, "-m", "ks_lottery", *command(untied_model, text_file, broken, *more)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work, end = tmp_path / "broken.unfinished", time.monotonic() + 240
    while not (work / "checkpoint-40" / WHOLE_FILE).is_file():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not broken.exists()
    checkpoint = last_whole_checkpoint(work)
    assert checkpoint is not None
    # The trained rows and the optimizer are there, the body is not.
    assert set(load_file(checkpoint / TRAINED_FILE)) == {"lm.model.embed_tokens.rows"}
    patch = RowPatch.open(whole)
    assert sum(f.stat().st_size for f in checkpoint.iterdir()) < 3 * patch.parameters * 4 + 60_000
    # What was cut off while it was written is not resumed from.
    (work / "checkpoint-100").mkdir()
    (work / "checkpoint-100" / "trainer_state.json").write_text("{")
    assert main(command(untied_model, text_file, broken, *more)) == 0
    for name in ("patch.safetensors", "training.json", "manifest.json", "rows.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_broken_training_of_another_command_is_not_gone_on_with(untied_model, short, tmp_path, capfd):
    out = tmp_path / "out"
    work = tmp_path / "out.unfinished"
    assert main(command(untied_model, short, tmp_path / "other", "--epochs", "1")) == 0
    work.mkdir()
    (work / "begun.json").write_bytes((tmp_path / "other" / "manifest.json").read_bytes())
    assert "epochs: 1.0 there, 2.0 here" in fails(capfd, command(untied_model, short, out, "--epochs", "2"))
    assert not out.exists()


def test_a_dry_run_writes_nothing_and_counts_right(untied_model, short, tmp_path, capfd):
    arguments = command(untied_model, short, tmp_path / "out", "--epochs", "3", "--dry-run", method="lora")
    assert main(arguments) == 0
    out = capfd.readouterr().out
    # Two layers of width 32, values of width 16: rank 8 on each side of q and v.
    assert f"trained parameters: {2 * 8 * (32 + 32 + 32 + 16):,} of " in out
    assert "steps: 12, over 16 examples" in out
    examples, _ = encode(
        load_tokenizer(open_checkpoint(str(untied_model))),
        read_corpus(short, source_language="en", target_language="ca"),
    )
    assert f"of {sum(len(e.sequence) - 1 for e in examples):,} tokens an epoch" in out
    assert "estimate" in out
    assert list(tmp_path.iterdir()) == []


def test_overlong_examples_are_counted(untied_model, short, tmp_path, capfd):
    tokenizer = load_tokenizer(open_checkpoint(str(untied_model)))
    pairs = read_corpus(short, source_language="en", target_language="ca")
    sizes = [len(e.sequence) for e in encode(tokenizer, pairs)[0]]
    limit = sorted(sizes)[10]
    arguments = command(untied_model, short, tmp_path / "o", "--max-tokens", str(limit), "--dry-run")
    assert main(arguments) == 0
    assert f"left out as too long: train {sum(size > limit for size in sizes)}" in capfd.readouterr().out


def test_validation_by_share_splits_by_the_hash_of_the_source(untied_model, short, tmp_path, capfd):
    held = sum(
        hash_fraction(pair.source) < 0.3 for pair in read_corpus(short, source_language="en", target_language="ca")
    )
    assert main(command(untied_model, short, tmp_path / "o", "--validation-share", "0.3", "--dry-run")) == 0
    assert f"{16 - held} examples to train on, {held} to validate on" in capfd.readouterr().out


def test_the_validation_text_obeys_the_flags_of_the_text(untied_model, short, tmp_path):
    """Columns the other way round, as in the text to train on."""
    flags = [
        "--source-column",
        "2",
        "--target-column",
        "1",
        "--validation",
        str(short),
        "--epochs",
        "1",
        "--limit",
        "4",
    ]
    assert main(command(untied_model, short, tmp_path / "o", *flags)) == 0
    about = json.loads((tmp_path / "o" / "manifest.json").read_text())
    languages = {"source_language": "en", "target_language": "ca"}
    turned = read_corpus(short, source_column="2", target_column="1", **languages)
    assert [pair.source for pair in turned] == [pair.target for pair in read_corpus(short, **languages)]
    assert about["made_from"]["text"] == turned.head(4).fingerprint
    assert about["settings"]["validation"] == turned.fingerprint


def test_early_stopping_keeps_the_best_step(untied_model, short, tmp_path, capfd):
    (tmp_path / "held.tsv").write_text("A sentence of its own\tUna frase pròpia\n", encoding="utf-8")
    rate = ("--epochs", "30", "--learning-rate", "0.3")
    more = (*rate, "--validation", str(tmp_path / "held.tsv"), "--patience", "2", "--min-words", "3")
    assert main(command(untied_model, short, tmp_path / "o", *more)) == 0
    training = json.loads((tmp_path / "o" / "training.json").read_text())
    losses = [entry["loss"] for entry in training["validation"]]
    assert len(losses) < 30
    assert training["kept"] == training["validation"][int(np.argmin(losses))]["step"]
    assert "validation loss" in capfd.readouterr().out


def test_gradient_checkpointing_says_that_it_excludes_the_shared_prefix(untied_model, short, tmp_path, capfd):
    assert main(command(untied_model, short, tmp_path / "o", "--gradient-checkpointing", "--dry-run")) == 0
    assert "the shared prefix is switched off" in capfd.readouterr().out


def test_transfer_puts_the_tickets_alone_and_refuses_another_base(untied_model, tied_model, embed, tmp_path, capfd):
    patch = RowPatch.open(embed)
    chosen = patch.ids[[3, 1, 8]]
    absent = np.setdiff1d(np.arange(384), patch.ids)[-1]
    Tickets(rows=np.append(chosen, absent), rule={"selector": "mine"}).save(tmp_path / "t.json")
    rest = ["--tickets", str(tmp_path / "t.json"), "--out"]
    assert main(["transfer", str(untied_model), str(embed), *rest, str(tmp_path / "small")]) == 0
    assert "3 of 157 rows" in (out := capfd.readouterr().out)
    assert "; the patch does not change the row of the other ticket" in out
    small = RowPatch.open(tmp_path / "small")
    assert small.ids.tolist() == sorted(chosen.tolist())
    kept = torch.from_numpy(np.isin(patch.ids, chosen))
    assert torch.equal(small.values, patch.values[kept])
    other = ["transfer", str(tied_model), str(embed), *rest, str(tmp_path / "other")]
    assert "the patch was made on" in fails(capfd, other)
    assert not (tmp_path / "other").exists()
    assert main([*other, "--force"]) == 0
    RowPatch.open(tmp_path / "other").check_base(open_checkpoint(str(tied_model)))


EARLY = {
    "a text": (["--train", "nowhere.tsv"], "nowhere.tsv does not exist"),
    "a validation text": (["--validation", "nowhere.tsv"], "nowhere.tsv does not exist"),
    "tickets": (["--method", "partial", "--tickets", "nowhere.json"], "nowhere.json"),
    "a target text": (
        ["--method", "frequency", "--size", "2", "--corpus", "nowhere.txt"],
        "nowhere.txt does not exist",
    ),
    "a missing size": (["--method", "random"], "needs --size"),
    "bitsandbytes": (["--method", "qlora"], "needs bitsandbytes: pip install 'ks-lottery[qlora]'"),
    "bitsandbytes for a body": (["--quantize", "nf4"], "needs bitsandbytes: pip install 'ks-lottery[qlora]'"),
    "a tracker": (["--report-to", "wandb"], "tracker wandb is not installed: pip install wandb"),
    "two packages": (["--report-to", "dagshub"], "pip install dagshub mlflow"),
    "another spelling": (["--report-to", "comet"], "did you mean comet_ml?"),
}


@pytest.mark.parametrize("case", EARLY)
def test_what_needs_no_model_is_checked_before_it_is_opened(case, untied_model, short, tmp_path, capfd, monkeypatch):
    def opened(*_args, **_more):
        raise AssertionError("the model is opened")

    find = util.find_spec
    absent = {"bitsandbytes", "wandb", "dagshub", "mlflow"}
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name in absent else find(name, *more))
    monkeypatch.setattr("ks_lottery.models.load.open_checkpoint", opened)
    more, message = EARLY[case]
    assert message in fails(capfd, command(untied_model, short, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_each_tracker_of_transformers_has_its_package():
    assert set(TRACKERS) == set(integration_utils.INTEGRATION_TO_CALLBACK)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "frequency", "--size", "3"], "give --corpus"),
        (["--corpus", "x.txt"], "--corpus is what frequency tuning counts tokens in"),
        (["--patience", "2"], "patience needs a validation text"),
        (["--report-to", "nobody"], "tracker nobody is not known"),
        (["--method", "prefix", "--gradient-checkpointing"], "prefix tuning puts keys and values into a cache"),
        (["--fsdp"], "--fsdp needs GPUs"),
        (["--validation-share", "2"], "--validation-share is 2.0, but must be between 0 and 1"),
        (
            ["--validation", "x.tsv", "--validation-share", "0.5"],
            "--validation-share and --validation exclude each other",
        ),
        (["--layers", "1"], "--layers is for full tuning"),
        (["--train", "nowhere.tsv"], "does not exist"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(untied_model, short, tmp_path, capfd, more, message):
    assert message in fails(capfd, command(untied_model, short, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_help_is_instant_and_names_every_method(capfd):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ks_lottery", "tune", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not {"torch", "transformers", "numpy"} & imported
    for method in METHODS:
        assert f"{method}:" in done.stdout.replace("\n", " ")
