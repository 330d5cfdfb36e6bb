"""Loss-change allocation where the truth is known: a quadratic loss, and gradients that are noise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from ks_lottery.corpus.batches import collate
from ks_lottery.models.quiet import quiet
from ks_lottery.models.rows import RowEmbedding
from ks_lottery.tuning.recorder import AttributionRecorder
from ks_lottery.tuning.trainer import TuneTrainer, last_whole_checkpoint, with_blank

ROWS, WIDTH, LENGTH = 12, 5, 4


class Known(nn.Module):
    """A loss of looked-up rows alone: over positions, half (e - c)' A (e - c) with c by label, or e . c."""

    accepts_loss_kwargs = True

    def __init__(self, rows: int, centers: torch.Tensor, curvature: torch.Tensor | None) -> None:
        super().__init__()
        frozen = nn.Embedding(rows, centers.shape[1], dtype=torch.float64)
        torch.manual_seed(0)
        start = torch.randn(rows, centers.shape[1], dtype=torch.float64)
        self.embedding = RowEmbedding(frozen, np.arange(rows), start)
        self.centers, self.curvature = centers, curvature

    def forward(self, input_ids, attention_mask, labels, num_items_in_batch=None):
        known = labels != -100
        rows, centers = self.embedding(input_ids)[known], self.centers[labels[known]]
        if self.curvature is None:
            loss = (rows * centers).sum()
        else:
            gap = rows - centers
            loss = (gap @ self.curvature * gap).sum() / 2
        return {"loss": loss / num_items_in_batch}


class Trajectory(TrainerCallback):
    """Keeps the rows after each step, and minus gradient dot move with the gradient of the step's own batch."""

    def __init__(self, model: Known) -> None:
        self.model, self.values = model, [model.embedding.rows.detach().clone()]
        self.own = torch.zeros(len(self.values[0]), dtype=torch.float64)

    def on_optimizer_step(self, args, state, control, **_):
        rows = self.model.embedding.rows
        self.own -= (rows.grad * (rows.detach() - self.values[-1])).sum(dim=1)
        self.values.append(rows.detach().clone())


def train(model, examples, folder, *, batch, resume=None, **settings):
    """Train by Adam, and return recorder, path and trainer."""
    recorder, path = AttributionRecorder(model.embedding, model), Trajectory(model)
    given = {"num_train_epochs": 8, "max_grad_norm": 0.0, "learning_rate": 0.1, **settings}
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=batch, logging_steps=1, use_cpu=True, seed=1, report_to=[],
        disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False, lr_scheduler_type="cosine",
        ddp_backend="gloo" if "RANK" in os.environ else None, ddp_find_unused_parameters=False, **given,
    )  # fmt: skip
    with quiet():
        trainer = TuneTrainer(
            model=model, args=arguments, train_dataset=with_blank(examples), data_collator=collate,
            callbacks=[recorder, path],
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
    return recorder, path, trainer


def quadratic():
    """Return a quadratic problem: the model, eight examples, and the Hessian of the mean loss of each row."""
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator)
    curvature = root @ root.T + torch.eye(WIDTH, dtype=torch.float64)
    centers = torch.randn(30, WIDTH, dtype=torch.float64, generator=generator)
    tokens = torch.randint(0, ROWS, (8, LENGTH), generator=generator)
    tokens[0] = torch.arange(LENGTH)
    labels = torch.randint(0, 30, (8, LENGTH), generator=generator)
    examples = [{"input_ids": t, "labels": y} for t, y in zip(tokens.tolist(), labels.tolist(), strict=True)]
    counts = torch.bincount(tokens.flatten(), minlength=ROWS).double()
    return Known(ROWS, centers, curvature), examples, counts[:, None, None] / counts.sum() * curvature


def row_losses(model, examples, rows):
    """Return the part of the mean loss over all examples that each row has, shape (ROWS,)."""
    tokens, labels = (torch.tensor([each[name] for each in examples]).flatten() for name in ("input_ids", "labels"))
    gap = rows[tokens] - model.centers[labels]
    each = (gap @ model.curvature * gap).sum(dim=1) / 2
    return torch.zeros(ROWS, dtype=torch.float64).index_add(0, tokens, each) / len(tokens)


def expected(model, examples, hessians, values):
    """The fall of each row's part of the loss less one half of the sum of move' H move."""
    moves = torch.stack(values[1:]) - torch.stack(values[:-1])
    bent = torch.einsum("trd,rde,tre->r", moves, hessians, moves) / 2
    return row_losses(model, examples, values[0]) - row_losses(model, examples, values[-1]) - bent


@pytest.mark.parametrize("clip", [0.0, 0.05, 1e6])
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_on_a_quadratic_it_is_the_fall_less_half_of_the_curvature(tmp_path, accumulation, clip):
    model, examples, hessians = quadratic()
    settings = {"gradient_accumulation_steps": accumulation, "max_grad_norm": clip, "save_strategy": "no"}
    recorder, path, _ = train(model, examples, tmp_path, batch=8 // accumulation, **settings)
    assert len(path.values) == 9
    lca = recorder.attribution(np.arange(ROWS), made_from={}, settings={}).scores["lca"]
    wanted = expected(model, examples, hessians, path.values)
    assert lca == pytest.approx(wanted.numpy(), rel=1e-6, abs=1e-6 * float(wanted.abs().max()))
    assert float(lca.sum()) == pytest.approx(float(wanted.sum()), rel=1e-6)


def test_a_row_that_raised_the_loss_has_a_negative_share(tmp_path):
    """A rate that jumps over the minimum of one row and not of the others."""
    model, examples, _ = quadratic()
    model.curvature = torch.eye(WIDTH, dtype=torch.float64)
    with torch.no_grad():
        tokens = torch.tensor([each["input_ids"] for each in examples]).flatten()
        labels = torch.tensor([each["labels"] for each in examples]).flatten()
        for row in range(ROWS):
            model.embedding.rows[row] = model.centers[labels[tokens == row]].mean(dim=0) + (0.01 if row == 3 else 9)
    start = model.embedding.rows.detach().clone()
    recorder, path, _ = train(model, examples, tmp_path, batch=8, num_train_epochs=2, save_strategy="no")
    lca = recorder.attribution(np.arange(ROWS), made_from={}, settings={}).scores["lca"]
    rose = row_losses(model, examples, path.values[-1]) > row_losses(model, examples, start)
    assert rose.nonzero().flatten().tolist() == [3]
    assert np.flatnonzero(lca < 0).tolist() == [3]


def test_the_last_move_is_saved_with_the_sums(tmp_path):
    model, examples, hessians = quadratic()
    settings = {"save_strategy": "steps", "save_steps": 3, "max_grad_norm": 0.05}
    recorder, path, _ = train(model, examples, tmp_path / "whole", batch=8, **settings)
    whole = recorder.attribution(np.arange(ROWS), made_from={}, settings={})
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "cut" / "checkpoint-3")
    model, examples, _ = quadratic()
    found = last_whole_checkpoint(tmp_path / "cut")
    recorder, _, trainer = train(model, examples, tmp_path / "cut", batch=8, resume=str(found), **settings)
    assert trainer.state.global_step == 8
    again = recorder.attribution(np.arange(ROWS), made_from={}, settings={})
    assert again == whole
    wanted = expected(model, examples, hessians, path.values)
    assert again.scores["lca"] == pytest.approx(wanted.numpy(), rel=1e-6, abs=1e-6 * float(wanted.abs().max()))


def test_two_processes(tmp_path):
    """Each has half of every step; the path is that of the main one."""
    out = tmp_path / "out.json"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, __file__, str(tmp_path), str(out)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert len(found) == 2
    for lca, wanted in found:
        assert lca == pytest.approx(wanted, rel=1e-6, abs=1e-6 * max(map(abs, wanted)))


def in_one_of_two(folder: str, out: str) -> None:
    """Train as one of two processes, and write what was recorded and what is right."""
    results = []
    for accumulation in (1, 2):
        model, examples, hessians = quadratic()
        settings = {"gradient_accumulation_steps": accumulation, "max_grad_norm": 0.05, "save_strategy": "no"}
        recorder, path, _ = train(model, examples, folder, batch=4 // accumulation, **settings)
        lca = recorder.attribution(np.arange(ROWS), made_from={}, settings={}).scores["lca"]
        results.append([lca.tolist(), expected(model, examples, hessians, path.values).tolist()])
    if os.environ["RANK"] == "0":
        Path(out).write_text(json.dumps(results), encoding="utf-8")
    torch.distributed.destroy_process_group()


def test_without_signal_its_mean_is_0(tmp_path):
    """Each position has a random direction of its own; each row is a sample, since nothing connects rows under Adam."""
    rows, steps, size = 3000, 12, 8
    generator = torch.Generator().manual_seed(5)
    positions = 2 * steps * size * 1000
    centers = torch.randn(positions, 2, dtype=torch.float64, generator=generator)
    tokens = torch.randint(0, rows, (2 * steps * size, 1000), generator=generator)
    labels = torch.arange(positions).reshape(tokens.shape)
    examples = [{"input_ids": t, "labels": y} for t, y in zip(tokens.tolist(), labels.tolist(), strict=True)]
    model = Known(rows, centers, None)
    settings = {"num_train_epochs": 0.5, "save_strategy": "no"}  # the batch after the last step is a fresh one, too
    recorder, path, trainer = train(model, examples, tmp_path, batch=size, **settings)
    assert trainer.state.global_step == steps
    lca = recorder.attribution(np.arange(rows), made_from={}, settings={}).scores["lca"]

    def errors(values) -> float:
        return float(values.mean() / (values.std() / np.sqrt(rows)))

    assert abs(errors(lca)) < 4
    assert errors(path.own.numpy()) > 30  # against its own batch each move looks like a gain


if __name__ == "__main__":
    in_one_of_two(*sys.argv[1:])
