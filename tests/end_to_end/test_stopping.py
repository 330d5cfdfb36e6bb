"""A training that is stopped by Ctrl-C at any step is saved, and the same command ends with the bytes of an unbroken one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal

import pytest
from running import hashes

from ks_lottery.cli.main import main
from ks_lottery.cli.signals import Stop, release
from ks_lottery.tuning import saving
from ks_lottery.tuning.trainer import TuneTrainer

STEPS_AN_EPOCH = 15


@pytest.fixture
def at_step(monkeypatch):
    """Do something inside a step, in the middle of its work; the step's number counts from 1, in this process."""
    usual = TuneTrainer.training_step

    def during(number, act):
        done = []

        def step(self, *arguments, **more):
            done.append(1)
            loss = usual(self, *arguments, **more)
            if len(done) == number:
                act()
            return loss

        monkeypatch.setattr(TuneTrainer, "training_step", step)

    yield during
    monkeypatch.undo()


def tune(model, text, out, *more):
    return [
        "tune",
        str(model),
        "--train",
        str(text),
        "--epochs",
        "2",
        "--learning-rate",
        "0.02",
        "--out",
        str(out),
        *more,
    ]


SETTINGS = {
    "embed": ["--method", "embed"],
    "lora": ["--method", "lora"],
    "validated": ["--method", "embed", "--validation-share", "0.2"],
    "patient": ["--method", "embed", "--validation-share", "0.2", "--patience", "1"],
}


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def unbroken(narrow_model, text_file, tmp_path_factory):
    made = {}
    for name, flags in SETTINGS.items():
        out = tmp_path_factory.mktemp("unbroken") / name
        assert main(tune(narrow_model, text_file, out, *flags)) == 0
        made[name] = hashes(out)
    return made


@pytest.mark.parametrize("name", SETTINGS)
def test_ctrl_c_saves_the_training_and_the_same_command_ends_with_the_same_bytes(
    name, narrow_model, text_file, unbroken, at_step, tmp_path, monkeypatch, capfd
):
    """Stopped at its first step and at the end of an epoch; each time it resumes from that step."""
    out = tmp_path / "out"
    command = tune(narrow_model, text_file, out, *SETTINGS[name])
    steps = 12 if "--validation-share" in command else STEPS_AN_EPOCH
    done = 0
    for more in (1, steps - 1):
        at_step(more, interrupt)
        assert main(command) == 130
        done += more
        assert "stopped; the same command resumes" in capfd.readouterr().err
        assert not out.exists()
        saved = {int(path.name.rpartition("-")[2]) for path in (tmp_path / "out.unfinished").glob("checkpoint-*")}
        assert done in saved
        monkeypatch.undo()
    at_step(10**9, interrupt)
    assert main(command) == 0
    assert hashes(out) == unbroken[name]
    assert not (tmp_path / "out.unfinished").exists()


def test_a_second_ctrl_c_stops_at_once(narrow_model, text_file, at_step, tmp_path):
    def twice():
        interrupt()
        interrupt()
        pytest.fail("the second one was not granted")

    at_step(3, twice)
    assert main(tune(narrow_model, text_file, tmp_path / "out")) == 130
    assert not [*(tmp_path / "out.unfinished").glob("checkpoint-*")]


def test_sigterm_saves_too(narrow_model, text_file, unbroken, at_step, tmp_path):
    stop = Stop()
    stop.listen()
    try:
        at_step(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main(tune(narrow_model, text_file, tmp_path / "out"), stop) == 128 + signal.SIGTERM
    finally:
        release()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert (tmp_path / "out.unfinished" / "checkpoint-6").is_dir()


def test_a_checkpoint_is_written_every_two_minutes(narrow_model, text_file, unbroken, at_step, tmp_path, monkeypatch):
    """After a crash at a step, less than two minutes are lost: here a clock on which each step takes 50 seconds."""
    seconds = iter(range(0, 10**6, 50))
    monkeypatch.setattr(saving.time, "monotonic", lambda: float(next(seconds)))

    def crash():
        raise RuntimeError("power failure")

    at_step(9, crash)
    command = tune(narrow_model, text_file, tmp_path / "out")
    assert main(command) == 70
    saved = {int(path.name.rpartition("-")[2]) for path in (tmp_path / "out.unfinished").glob("checkpoint-*")}
    assert max(saved) >= 9 - 3
    assert len(saved) == 2
    monkeypatch.undo()
    assert main(command) == 0
    assert hashes(tmp_path / "out") == unbroken["embed"]


def test_a_run_that_is_stopped_in_a_training_resumes_in_it(
    finished, tied_model, text_file, at_step, tmp_path, monkeypatch
):
    from running import command

    out = tmp_path / "run"
    shutil.rmtree(out, ignore_errors=True)
    words = command(tied_model, text_file, out)
    at_step(4, interrupt)
    assert main(words) == 130
    assert [path.name for path in out.glob(".unfinished/*/checkpoint-*")] == ["checkpoint-4"]
    monkeypatch.undo()
    steps = []
    usual = TuneTrainer.training_step
    monkeypatch.setattr(
        TuneTrainer,
        "training_step",
        lambda self, *a, **k: (steps.append(self.state.global_step), usual(self, *a, **k))[1],
    )
    assert main(words) == 0
    assert steps[0] == 4
    assert not (out / ".unfinished").exists()
    mine, theirs = hashes(out), hashes(finished)
    for name in ("timings.json", "config.yaml", ".lock"):
        mine.pop(name, None)
        theirs.pop(name, None)
    assert mine == theirs


def test_the_loss_before_and_after_is_that_of_one_fixed_set(narrow_model, text_file, tmp_path):
    """Recomputed with transformers alone: the same 16 examples, with the original rows and with the tuned ones."""
    import torch
    from safetensors.torch import load_file

    from ks_lottery import load_model, read_corpus
    from ks_lottery.corpus.batches import encode

    out = tmp_path / "out"
    assert main(tune(narrow_model, text_file, out, "--dtype", "float32")) == 0
    fixed = json.loads((out / "training.json").read_text(encoding="utf-8"))["fixed"]
    loaded = load_model(narrow_model, dtype="float32", device="cpu")
    corpus = read_corpus(text_file, source_language="en", target_language="ca")
    examples, _ = encode(loaded.tokenizer, corpus, template="alpaca", max_tokens=512, rows=384)
    chosen = [examples[n * len(examples) // 16] for n in range(16)]

    def loss() -> float:
        total = count = 0.0
        for example in chosen:
            ids = torch.tensor([[*example.prompt, *example.response]])
            labels = ids.clone()
            labels[:, : len(example.prompt)] = -100
            with torch.no_grad():
                total += float(loaded.lm(input_ids=ids, labels=labels).loss) * len(example.response)
            count += len(example.response)
        return total / count

    assert fixed["examples"] == 16
    assert fixed["before"] == pytest.approx(loss(), rel=1e-4)
    patch = load_file(out / "patch.safetensors")
    rows = next(value for value in patch.values() if value.dtype in {torch.int64, torch.int32})
    values = next(value for value in patch.values() if value.is_floating_point())
    untied = torch.nn.Embedding.from_pretrained(loaded.lm.get_input_embeddings().weight.detach().clone())
    untied.weight[rows.long()] = values.float()
    loaded.lm.set_input_embeddings(untied)
    assert fixed["after"] == pytest.approx(loss(), rel=1e-4)
    assert fixed["after"] < fixed["before"]


def test_a_refused_resume_names_the_flag_and_both_values(
    narrow_model, text_file, at_step, tmp_path, monkeypatch, capfd
):
    """Also where a content differs: the files, and never two digests."""
    out, other = tmp_path / "out", tmp_path / "other.tsv"
    other.write_text(text_file.read_text(encoding="utf-8").replace("number 1", "number 9"), encoding="utf-8")
    at_step(2, interrupt)
    assert main(tune(narrow_model, text_file, out)) == 130
    monkeypatch.undo()
    capfd.readouterr()

    def refused(*command) -> str:
        assert main([*command]) == 2
        line = capfd.readouterr().err
        assert re.search("[0-9a-f]{12}", line.replace(str(tmp_path), "")) is None, line
        return line

    assert f"--train: '{text_file}' there, '{other}' here" in refused(*tune(narrow_model, other, out))
    assert "--seed: 0 there, 3 here" in refused(*tune(narrow_model, text_file, out, "--seed", "3"))
    assert "--learning-rate: 0.02 there, 0.5 here" in refused(
        *tune(narrow_model, text_file, out, "--learning-rate", "0.5")
    )
    before = text_file.read_bytes()
    try:
        text_file.write_bytes(other.read_bytes())
        said = refused(*tune(narrow_model, text_file, out))
    finally:
        text_file.write_bytes(before)
    assert f"--train ('{text_file}') has another content now than it had there" in said
    assert main(tune(narrow_model, text_file, out)) == 0
    assert "--train has another content" in refused(*tune(narrow_model, other, out)).replace(f" ('{other}')", "")
