"""KSCallback in a stock Trainer, against SciPy on the weights, definitions written out, and what the trackers received."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from ks_lottery import KSCallback, UserError, open_checkpoint, read_corpus, scan, select, tune
from ks_lottery.models.load import load_model
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_rows

STEPS, WIDTH, ALPHA = 16, 32, 0.05


@pytest.fixture(scope="module")
def folder(narrow_untied_model) -> Path:
    return narrow_untied_model


class Weights(TrainerCallback):
    """Keeps the embedding after each step."""

    def __init__(self) -> None:
        self.seen: dict[int, torch.Tensor] = {}

    def on_step_end(self, args, state, control, model, **kwargs) -> None:
        self.seen[state.global_step] = model.get_input_embeddings().weight.detach().clone()


class Reporter(TrainerCallback):
    """Keeps what a tracker would receive, by step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        self.seen.append((state.global_step, dict(logs)))


def sentences() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    made = torch.randint(3, 120, (4 * STEPS, 12), generator=generator)
    return [{"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)} for ids in made]


def dense(folder, dtype=torch.float32):
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.requires_grad_(False)
    model.get_input_embeddings().weight.requires_grad_(True)
    return model


def trainer_of(model, out, callbacks, **settings) -> Trainer:
    chosen = {
        "per_device_train_batch_size": 4, "learning_rate": 5e-3, "lr_scheduler_type": "cosine", "logging_steps": 1,
        "save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False,
        "num_train_epochs": 1, **settings,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(out), **chosen)
    trainer = Trainer(model=model, args=arguments, train_dataset=sentences())
    for callback in callbacks:
        if isinstance(callback, KSCallback):
            callback.attach(trainer)
        else:
            trainer.add_callback(callback)
    return trainer


def trained(model, out, callbacks, **settings) -> Trainer:
    trainer = trainer_of(model, out, callbacks, **settings)
    with quiet():
        trainer.train()
    return trainer


def scipy_tickets(before: torch.Tensor, after: torch.Tensor) -> tuple[list[int], float]:
    """Rows with p < alpha, and the largest D, by SciPy alone."""
    found = [
        ks_2samp(a, b, method="exact") for a, b in zip(before.double().numpy(), after.double().numpy(), strict=True)
    ]
    return [row for row, test in enumerate(found) if test.pvalue < ALPHA], max(test.statistic for test in found)


@pytest.fixture(scope="module")
def watched(folder, tmp_path_factory):
    """One training with all its weights, seen by a reporter that stands before the callback."""
    model = dense(folder)
    before = model.get_input_embeddings().weight.detach().clone()
    reporter, weights, callback = Reporter(), Weights(), KSCallback(every=3, alpha=ALPHA)
    trainer = trained(model, tmp_path_factory.mktemp("out"), [reporter, weights, callback])
    return trainer, reporter, weights.seen, callback, before


def test_each_check_equals_scipy_on_the_weights_of_its_step(watched):
    _, _, weights, callback, before = watched
    assert [check.step for check in callback.checks] == [3, 6, 9, 12, 15, 16]
    sizes = []
    for check in callback.checks:
        rows, largest = scipy_tickets(before, weights[check.step])
        assert check.rows.tolist() == rows
        assert check.largest == pytest.approx(largest, abs=1e-12)
        sizes.append(len(rows))
    assert sizes[0] < sizes[-1]
    for one, other in zip(callback.checks, callback.checks[1:], strict=False):
        a, b = set(one.rows.tolist()), set(other.rows.tolist())
        assert other.jaccard == (len(a & b) / len(a | b) if a | b else 1.0)
    assert callback.checks[0].jaccard is None


def test_the_tickets_are_those_of_a_scan_in_its_order(watched):
    _, _, weights, callback, before = watched
    counts = [
        round(ks_2samp(a, b).statistic * WIDTH) for a, b in zip(before.numpy(), weights[STEPS].numpy(), strict=True)
    ]
    found = callback.tickets
    assert sorted(found.rows.tolist()) == callback.checks[-1].rows.tolist()
    assert [score["count"] for score in found.scores] == [counts[row] for row in found.rows]
    assert found.rows.tolist() == sorted(found.rows.tolist(), key=lambda row: (-counts[row], row))


def test_reporters_and_history_receive_every_check_and_the_trainer_keeps_its_own_logs(watched):
    trainer, reporter, _, callback, _ = watched
    wanted = [(check.step, len(check.rows), check.largest, check.jaccard) for check in callback.checks]
    names = ("ks/tickets", "ks/largest_D", "ks/jaccard")
    received = [(step, *(logs.get(name) for name in names)) for step, logs in reporter.seen if names[0] in logs]
    history = [(e["step"], *(e.get(name) for name in names)) for e in trainer.state.log_history if names[0] in e]
    assert received == wanted
    assert history == wanted
    assert [e["step"] for e in trainer.state.log_history if "loss" in e] == list(range(1, STEPS + 1))
    json.dumps(trainer.state.log_history)


def test_tensorboard_writes_the_checks(folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = KSCallback(every=4, alpha=ALPHA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
        trained(dense(folder), tmp_path, [callback], report_to=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    tickets, largest, overlap = (events.Scalars(f"train/ks/{name}") for name in ("tickets", "largest_D", "jaccard"))
    assert [(e.step, e.value) for e in tickets] == [(check.step, len(check.rows)) for check in callback.checks]
    assert [e.step for e in largest] == [check.step for check in callback.checks]
    assert [e.value for e in largest] == pytest.approx([check.largest for check in callback.checks])
    assert [e.step for e in overlap] == [check.step for check in callback.checks[1:]]
    assert [e.value for e in overlap] == pytest.approx([check.jaccard for check in callback.checks[1:]])


def test_a_16_bit_embedding_is_compared_in_its_own_type(folder, tmp_path):
    model = dense(folder, torch.bfloat16)
    before = model.get_input_embeddings().weight.detach().clone()
    callback = KSCallback(every=STEPS, alpha=ALPHA)
    trained(model, tmp_path, [callback])
    after = model.get_input_embeddings().weight.detach()
    assert after.dtype == torch.bfloat16
    rows, largest = scipy_tickets(before, after)
    assert len(rows) > 0
    assert callback.checks[-1].rows.tolist() == rows
    assert callback.checks[-1].largest == pytest.approx(largest, abs=1e-12)


@pytest.mark.parametrize(("threshold", "patience"), [(0.6, 1), (0.7, 2), (0.8, 3)])
def test_it_stops_at_the_step_that_the_definition_says(folder, tmp_path, watched, threshold, patience):
    """Every set of the uninterrupted training by SciPy, one a step; the rule is written out over Python sets."""
    *_, weights, _, before = watched
    sets = [set(scipy_tickets(before, weights[step])[0]) for step in range(1, STEPS + 1)]
    wanted = None
    for last in range(patience, STEPS):
        runs = [(sets[i - 1], sets[i]) for i in range(last - patience + 1, last + 1)]
        if all(b and len(a & b) >= threshold * len(a | b) for a, b in runs):
            wanted = last + 1
            break
    assert wanted is not None
    assert patience + 1 < wanted < STEPS
    model = dense(folder)
    callback = KSCallback(every=1, alpha=ALPHA, stop=True, threshold=threshold, patience=patience)
    trainer = trained(model, tmp_path, [callback])
    assert trainer.state.global_step == callback.settled == callback.checks[-1].step == wanted
    assert torch.equal(model.get_input_embeddings().weight, weights[wanted])


def test_two_empty_sets_settle_nothing(folder, tmp_path):
    callback = KSCallback(every=1, alpha=1e-12, stop=True, patience=1)
    trainer = trained(dense(folder), tmp_path, [callback])
    assert trainer.state.global_step == STEPS
    assert {check.jaccard for check in callback.checks[1:]} == {1.0}
    assert callback.settled is None
    assert len(callback.tickets) == 0


def test_the_row_module_gives_the_tickets_of_dense_embed_tuning(folder, tmp_path):
    wide, narrow = KSCallback(every=0.25, alpha=ALPHA), KSCallback(every=0.25, alpha=ALPHA)
    trained(dense(folder), tmp_path, [wide])
    model = dense(folder)
    ids = np.arange(3, 120)
    values = model.get_input_embeddings().weight.detach()[torch.from_numpy(ids)]
    with installed_rows(model, ids, values):
        trained(model, tmp_path, [narrow])
    assert narrow.ids.tolist() == ids.tolist()
    assert narrow.counts.tolist() == wide.counts[ids].tolist()
    assert not np.delete(wide.counts, ids).any()
    assert [(c.step, c.rows.tolist()) for c in narrow.checks] == [(c.step, c.rows.tolist()) for c in wide.checks]
    assert len(narrow.tickets) > 0


def test_our_own_tuning_takes_callbacks(narrow_model, text_file):
    loaded = load_model(open_checkpoint(str(narrow_model)), dtype="float32", device="cpu")
    corpus = read_corpus(text_file, source_language="en", target_language="ca")
    reporter, callback = Reporter(), KSCallback(every=0.5)
    patch = tune(loaded, corpus, batch_size=16, learning_rate=5e-3, callbacks=[reporter, callback])
    wanted = select(scan(loaded.checkpoint, patch))
    assert len(wanted) > 0
    assert callback.tickets.rows.tolist() == wanted.rows.tolist()
    assert callback.ids.tolist() == patch.ids.tolist()
    assert [logs["ks/tickets"] for _, logs in reporter.seen if "ks/tickets" in logs][-1] == len(wanted)


def test_resuming_needs_the_base_and_then_ends_like_the_uninterrupted_training(folder, tmp_path, watched):
    saving = {"save_strategy": "steps", "save_steps": 8, "save_total_limit": 1}
    first = trainer_of(dense(folder), tmp_path, [KSCallback(every=8), _StopAt(8)], **saving)
    with quiet():
        first.train()
    checkpoint = str(tmp_path / "checkpoint-8")
    with pytest.raises(UserError, match=r"goes on from step 8.*KSCallback\(base="), quiet():
        trainer_of(dense(folder), tmp_path, [KSCallback(every=3)], **saving).train(resume_from_checkpoint=checkpoint)
    callback = KSCallback(every=3, alpha=ALPHA, base=folder)
    trainer = trainer_of(dense(folder), tmp_path, [callback], **saving)
    with quiet():
        trainer.train(resume_from_checkpoint=checkpoint)
    *_, whole, _ = watched
    assert [check.step for check in callback.checks] == [9, 12, 15, 16]
    assert callback.counts.tolist() == whole.counts.tolist()
    assert callback.checks[-1].rows.tolist() == whole.checks[-1].rows.tolist()


class _StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        control.should_training_stop = state.global_step >= self.step


class _Poison(TrainerCallback):
    def on_step_end(self, args, state, control, model, **kwargs) -> None:
        with torch.no_grad():
            model.get_input_embeddings().weight[7, 3] = float("nan")


def test_what_cannot_be_watched_is_refused(folder, tmp_path):
    def refused(model, message, callbacks):
        with pytest.raises(UserError, match=message):
            trained(model, tmp_path, callbacks)

    frozen = dense(folder)
    frozen.get_input_embeddings().weight.requires_grad_(False)
    frozen.lm_head.weight.requires_grad_(True)
    refused(frozen, "the input embedding is frozen", [KSCallback()])
    from peft import TrainableTokensConfig, get_peft_model

    with quiet():
        settings = TrainableTokensConfig(target_modules=["embed_tokens"], token_indices=[5, 6])
        adapted = get_peft_model(dense(folder), settings)
    refused(adapted, "the input embedding is a TrainableTokens", [KSCallback()])
    refused(dense(folder), "holds NaN at step 2: the training diverged", [_Poison(), KSCallback(every=2)])
    refused(dense(folder), "model nowhere does not exist", [KSCallback(base="nowhere")])
    other = dense(folder)
    other.resize_token_embeddings(400)
    other.get_input_embeddings().weight.requires_grad_(True)
    refused(other, "has an embedding of 384 x 32, but the trained one is 400 x 32", [KSCallback(base=folder)])


def test_a_callback_without_its_trainer_is_refused_when_training_begins(folder, tmp_path):
    def stock(*callbacks):
        arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], save_strategy="no")
        return Trainer(model=dense(folder), args=arguments, train_dataset=sentences(), callbacks=list(callbacks))

    with pytest.raises(UserError, match=r"not attached to a Trainer.*attach\(trainer\)"), quiet():
        stock(KSCallback()).train()
    elsewhere = KSCallback()
    other = stock()
    assert elsewhere.attach(other) is elsewhere
    with pytest.raises(UserError, match="not attached to the Trainer that is training"), quiet():
        stock(elsewhere).train()


def test_a_callback_that_is_named_and_attached_is_called_once(folder, tmp_path):
    callback = KSCallback(every=8)
    trainer = trainer_of(dense(folder), tmp_path, [])
    trainer.add_callback(callback)
    callback.attach(trainer).attach(trainer)
    with quiet():
        trainer.train()
    logged = [entry["step"] for entry in trainer.state.log_history if "ks/tickets" in entry]
    assert logged == [check.step for check in callback.checks] == [8, 16]


class _InAThread(KSCallback):
    """Its check is called from a thread, above which there is no Trainer."""

    def on_step_end(self, *given, **more):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(super().on_step_end, *given, **more).result()


class _Teacher(Trainer):
    """A second Trainer, such as that of a teacher model, whose method calls on."""

    def relay(self, call, *given, **more):
        return call(*given, **more)


class _ThroughAnother(KSCallback):
    """Its check is called from a method of another Trainer."""

    teacher: _Teacher

    def on_step_end(self, *given, **more):
        return self.teacher.relay(super().on_step_end, *given, **more)


@pytest.mark.parametrize("kind", [_InAThread, _ThroughAnother])
def test_checks_are_logged_by_the_trainer_that_it_was_attached_to_whoever_calls(folder, tmp_path, watched, kind):
    *_, plain, _ = watched
    callback, reporter = kind(every=3, alpha=ALPHA), Reporter()
    arguments = TrainingArguments(output_dir=str(tmp_path / "teacher"), use_cpu=True, report_to=[])
    callback.teacher = _Teacher(model=dense(folder), args=arguments, train_dataset=sentences())
    trainer = trained(dense(folder), tmp_path, [reporter, callback])
    wanted = [(check.step, len(check.rows)) for check in plain.checks]
    assert [(e["step"], e["ks/tickets"]) for e in trainer.state.log_history if "ks/tickets" in e] == wanted
    assert [(step, logs["ks/tickets"]) for step, logs in reporter.seen if "ks/tickets" in logs] == wanted
    assert callback.teacher.state.log_history == []


def test_a_callback_that_is_kept_for_its_tickets_keeps_no_model(folder, tmp_path):
    callback = KSCallback(every=STEPS)
    model = dense(folder)
    trained(model, tmp_path, [callback])
    kept = weakref.ref(model)
    del model
    gc.collect()
    assert kept() is None
    assert callback.checks


DISTRIBUTED = """
import json, sys, torch
import test_callback as here
from ks_lottery import KSCallback
from ks_lottery.tuning.trained_rows import TrainedRows
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

model, callback, reporter = here.dense(sys.argv[1]), KSCallback(every=1, stop=True, threshold=0.6), here.Reporter()
trainer = here.trained(model, sys.argv[2], [reporter, callback], num_train_epochs=4)
embedding = model.get_input_embeddings()
whole = embedding.weight.detach().clone()
embedding.weight = torch.nn.Parameter(distribute_tensor(whole, init_device_mesh("cpu", (2,)), [Shard(0)]))
rows = TrainedRows.of(model)
print("FOUND " + json.dumps({
    "main": trainer.state.is_world_process_zero, "step": trainer.state.global_step, "checks": len(callback.checks),
    "logged": sum("ks/tickets" in logs for _, logs in reporter.seen), "settled": callback.settled,
    "sharded": len(embedding.weight.to_local()), "gathered": torch.equal(rows.values(), whole), "sum": whole.sum().item(),
}), flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_stop_together_and_the_main_one_alone_counts_and_logs(folder, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(DISTRIBUTED, encoding="utf-8")
    places = [str(Path(__file__).parent), str(Path(sys.modules["ks_lottery"].__file__).parents[1])]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(folder), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(part.splitlines()[0]) for part in done.stdout.split("FOUND ")[1:]]
    main, other = sorted(found, key=lambda process: not process["main"])
    assert main["main"]
    assert not other["main"]
    assert main["settled"] == main["step"] == other["step"] == main["checks"] == main["logged"]
    assert main["step"] < 4 * STEPS // 2
    assert other["checks"] == other["logged"] == 0
    assert main["sharded"] == other["sharded"] == 192
    assert main["gathered"]
    assert other["gathered"]
