"""Several processes against one: the loss curves of the same global batches, and the row module under FSDP2."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from ks_lottery import RowPatch, Tickets, open_checkpoint, read_corpus
from ks_lottery.tuning.tune import TuneSpec, prepare

TUNE = """
import json, os, sys
import numpy as np
from ks_lottery import Tickets, open_checkpoint, read_corpus
from ks_lottery.tuning.tune import TuneSpec, prepare
model, text, out = sys.argv[1:]
corpus = read_corpus(text, source_language="en", target_language="ca").head(22)
curves = {}
for method, batch, accumulation in (("embed", 3, 1), ("partial", 3, 1), ("lora", 3, 1), ("embed", 3, 2)):
    tickets = Tickets(rows=np.array([5, 7, 40, 41]), rule={}) if method == "partial" else None
    settings = {"epochs": 3, "batch_size": batch, "gradient_accumulation": accumulation, "learning_rate": 0.01}
    spec = TuneSpec(method=method, tickets=tickets, dtype="float32", device="cpu", settings=settings, seed=1)
    result = prepare(open_checkpoint(model), corpus, spec, corpus.head(5)).run()
    curves[f"{method} {accumulation}"] = result.losses
if os.environ["RANK"] == "0":
    open(out, "w").write(json.dumps(curves))
import torch
torch.distributed.destroy_process_group()
"""

SHARD = """
import json, os, sys
import numpy as np, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from ks_lottery import open_checkpoint
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model
from ks_lottery.models.sides import installed_rows
from ks_lottery.tuning.trainer import whole
name, out = sys.argv[1:]
torch.set_num_threads(1)
sharded = "RANK" in os.environ
if sharded:
    dist.init_process_group("gloo")
rank, world = (dist.get_rank(), dist.get_world_size()) if sharded else (0, 1)
loaded = load_model(open_checkpoint(name), dtype="float32", device="cpu")
ids = np.array([5, 7, 40, 41, 60])
generator = torch.Generator().manual_seed(0)
tokens = torch.randint(3, 80, (4, 20), generator=generator)
labels = torch.randint(3, 384, tokens.shape, generator=generator)
labels[:, :9] = -100
labels[1, 12:] = -100
count = int((labels != -100).sum())
losses = []
with installed_rows(loaded.lm, ids, loaded.checkpoint.rows(ids)) as rows:
    model = LabelledLanguageModel(loaded.lm)
    if sharded:
        from torch.distributed.device_mesh import init_device_mesh
        mesh = init_device_mesh("cpu", (world,))
        fully_shard(rows.embedding, mesh=mesh)
        for layer in loaded.lm.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(isinstance(p, DTensor) for p in model.parameters())
        assert isinstance(rows.rows, DTensor)
        assert rows.rows.to_local().shape[0] < len(ids)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    share = slice(rank * 4 // world, (rank + 1) * 4 // world)
    for _ in range(6):
        batch = {"input_ids": tokens[share], "attention_mask": torch.ones_like(tokens[share]), "labels": labels[share]}
        loss = model(**batch, num_items_in_batch=count)["loss"]
        (loss * world).backward()
        total = loss.detach().clone()
        if sharded:
            dist.all_reduce(total)
        losses.append(float(total))
        optimizer.step()
        optimizer.zero_grad()
    values = whole(rows.rows)
if rank == 0:
    open(out, "w").write(json.dumps({"losses": losses, "values": values.tolist()}))
if sharded:
    dist.destroy_process_group()
"""


def launch(script: str, folder, *arguments: str, processes: int) -> None:
    file = folder / "worker.py"
    file.write_text(script)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    call = [*(start if processes > 1 else [sys.executable]), str(file), *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_of_one(untied_model, text_file, tmp_path):
    """22 examples: the last step of an epoch is smaller than the others, and one process has nothing for it."""
    launch(TUNE, tmp_path, str(untied_model), str(text_file), str(tmp_path / "curves.json"), processes=2)
    curves = json.loads((tmp_path / "curves.json").read_text())
    corpus = read_corpus(text_file, source_language="en", target_language="ca").head(22)
    for name, losses in curves.items():
        method, accumulation = name.split()
        tickets = Tickets(rows=np.array([5, 7, 40, 41]), rule={}) if method == "partial" else None
        settings = {"epochs": 3, "batch_size": 6 * int(accumulation), "learning_rate": 0.01}
        spec = TuneSpec(method=method, tickets=tickets, dtype="float32", device="cpu", settings=settings, seed=1)
        one = prepare(open_checkpoint(str(untied_model)), corpus, spec).run()
        assert [step for step, _ in losses] == [step for step, _ in one.losses]
        assert [loss for _, loss in losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-4), name
        assert one.losses[-1][1] < one.losses[0][1]


@pytest.mark.slow
def test_the_command_under_torchrun_is_one_command(untied_model, text_file, tmp_path):
    """What `tune` leaves from two processes is what one leaves from the same global batches."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    losses = []
    for name, call, batch in (("two", start, "3"), ("one", [sys.executable, "-m"], "6")):
        flags = [
            "--train",
            str(text_file),
            "--limit",
            "24",
            "--epochs",
            "2",
            "--learning-rate",
            "0.01",
            "--dtype",
            "float32",
        ]
        tune = ["ks_lottery", "tune", str(untied_model), "--method", "embed", "--batch-size", batch, *flags]
        done = subprocess.run(
            [*call, *tune, "--device", "cpu", "--out", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("parameters trained") == 1
        training = json.loads((tmp_path / name / "training.json").read_text())
        losses.append([entry["loss"] for entry in training["losses"]])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    patches = [RowPatch.open(tmp_path / name) for name in ("two", "one")]
    assert patches[0].ids.tolist() == patches[1].ids.tolist()
    assert np.allclose(patches[0].values, patches[1].values, atol=1e-3)


@pytest.mark.slow
def test_sharded_rows_train_as_whole_ones(untied_model, tmp_path):
    results = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        launch(SHARD, tmp_path, str(untied_model), str(out), processes=processes)
        results.append(json.loads(out.read_text()))
    assert results[0]["losses"] == pytest.approx(results[1]["losses"], abs=1e-5)
    assert np.allclose(results[0]["values"], results[1]["values"], atol=1e-4)
    assert results[0]["losses"][-1] < results[0]["losses"][0]
