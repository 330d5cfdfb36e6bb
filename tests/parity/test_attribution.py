"""What tuning records of each row, against autograd written out, the real fall of the loss, and a count."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ks_lottery import Attribution, Corpus, Tickets, open_checkpoint, read_corpus
from ks_lottery.config.choices import MEASURED
from ks_lottery.corpus.batches import Example, collate, encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.errors import UserError
from ks_lottery.models.gradients import gradients_of
from ks_lottery.models.load import load_model
from ks_lottery.models.rows import padding_row, reachable_rows
from ks_lottery.tuning.recorder import RECORD_FILE
from ks_lottery.tuning.tune import TuneSpec, prepare


@pytest.fixture(scope="module")
def loaded(untied_model):
    return load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def examples(loaded, text_file):
    """Eight pairs of unequal length."""
    pairs = read_corpus(text_file, source_language="en", target_language="ca").pairs[:8]
    longer = tuple(Pair(pair.source, " ".join([pair.target] * (i % 3 + 1))) for i, pair in enumerate(pairs))
    return encode(loaded.tokenizer, Corpus(longer, "en", "ca", "text"))[0]


@pytest.fixture(scope="module")
def ids(loaded, examples):
    return reachable_rows([e.sequence for e in examples], padding_row(loaded.lm))


def tuned(loaded, examples, ids, **settings):
    """Embed tuning, of these rows."""
    given = {"learning_rate": 0.01, **settings}
    tuning = prepare(loaded, examples, TuneSpec(seed=3, settings=given))
    return replace(tuning, rows=Tickets(rows=ids, rule={})).run().product


def summed_loss(loaded, weight, batch):
    """The definition: the dense matrix, logits everywhere, the loss summed over the labels."""
    embedded = F.embedding(batch["input_ids"], weight)
    logits = loaded.lm(inputs_embeds=embedded, attention_mask=batch["attention_mask"], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")


def labels(batch) -> int:
    return int((batch["labels"] != -100).sum())


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e6, 0.0])
def test_lca_and_gradient_equal_their_definition(loaded, examples, ids, monkeypatch, clip):
    """Eight steps of two accumulated batches, which the Trainer drew, each move against the gradient of the step after it."""
    seen: list[dict[str, torch.Tensor]] = []

    def watched(features):
        seen.append(collate(features))
        return seen[-1]

    monkeypatch.setattr("ks_lottery.tuning.fitting.collate", watched)
    monkeypatch.setattr(
        "ks_lottery.tuning.fitting.FIXED", 0
    )  # no loss before and after: only what is trained on is seen
    settings = {"batch_size": 2, "gradient_accumulation": 2, "epochs": 4, "learning_rate": 0.02, "max_grad_norm": clip}
    found = tuned(loaded, examples, ids, **settings).attribution
    assert len(seen) == 18  # two more, which a ninth step would have had

    from transformers import get_cosine_schedule_with_warmup

    weight = loaded.checkpoint.rows(np.arange(loaded.checkpoint.vocabulary)).requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=0.02)
    schedule = get_cosine_schedule_with_warmup(optimizer, 1, 8)
    lca, norms, clipped, moves = torch.zeros(384).double(), torch.zeros(384).double(), 0, []
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        total = labels(first) + labels(second)
        loss = (summed_loss(loaded, weight, first) + summed_loss(loaded, weight, second)) / total
        (gradient,) = torch.autograd.grad(loss, [weight])
        if moves:
            lca -= (gradient.double() * moves[-1].double()).sum(dim=1)
        if len(moves) == 8:
            break
        norms += gradient.double().norm(dim=1)
        weight.grad = gradient.clone()
        if clip:
            clipped += bool(torch.nn.utils.clip_grad_norm_([weight], clip) > clip)
        before = weight.detach().clone()
        optimizer.step()
        schedule.step()
        moves.append(weight.detach() - before)
    assert clipped == {1e-3: 8, 0.5: 8, 1e6: 0, 0.0: 0}[clip]
    assert found.scores["gradient"] == pytest.approx(norms[ids].numpy(), rel=2e-3)
    # Adam divides by the root of a squared gradient: a rounding error in a tiny one shows in the move, and so here.
    assert found.scores["lca"] == pytest.approx(lca[ids].numpy(), rel=0.02, abs=1e-3 * float(lca.abs().max()))
    assert found.scores["lca"].sum() == pytest.approx(float(lca.sum()), rel=1e-3, abs=1e-3 * float(lca.abs().max()))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_lca_sums_to_the_fall_of_the_loss(loaded, examples, ids, monkeypatch, accumulation):
    """Gradient descent over all the text at a falling rate: the sum tends to the fall, and its gap to 0 with the rate."""

    class Descent(torch.optim.SGD):
        def __init__(self, parameters, lr, **_):
            super().__init__(parameters, lr=lr)

    batch = collate([e.features() for e in examples])
    base = loaded.checkpoint.rows(np.arange(loaded.checkpoint.vocabulary))

    def loss_at(patch) -> float:
        weight = base.double()
        if patch is not None:
            weight[torch.from_numpy(patch.ids)] = patch.values.double()
        with torch.no_grad():
            return float(summed_loss(loaded, weight, batch)) / labels(batch)

    monkeypatch.setattr(torch.optim, "AdamW", Descent)
    gaps = {}
    for rate in (0.4, 0.04):
        patch = tuned(
            loaded, examples, ids, batch_size=8 // accumulation, gradient_accumulation=accumulation, epochs=6,
            learning_rate=rate, warmup_ratio=0.0, max_grad_norm=0.05,
        )  # fmt: skip
        loaded.lm.double()
        try:
            fall = loss_at(None) - loss_at(patch)
        finally:
            loaded.lm.float()
        total = patch.attribution.scores["lca"].sum()
        assert fall > 0
        gaps[rate] = abs(total / fall - 1)
    assert gaps[0.04] < 0.01
    assert gaps[0.04] < gaps[0.4] / 5  # of first order in the rate


def test_occurrences_equal_a_count(loaded, examples, ids):
    """Each epoch looks up each token but the last of a sentence; padding, which is token 0, is no occurrence."""
    assert len({len(e.sequence) for e in examples}) > 1
    found = tuned(loaded, examples, np.arange(384), batch_size=3, epochs=2).attribution
    counts = Counter(token for e in examples for token in e.sequence[:-1])
    assert found.occurrences.tolist() == [2 * counts[row] for row in range(384)]
    assert found.occurrences[0] == 0
    once = gradients_of(loaded, examples, batch_size=3)
    assert once.occurrences.tolist() == [counts[row] for row in once.ids.tolist()]


@pytest.mark.parametrize("share_prefix", [True, False])
def test_gradients_at_the_original_model_equal_their_definition(loaded, examples, ids, share_prefix):
    state = {name: tensor.clone() for name, tensor in loaded.lm.state_dict().items()}
    found = gradients_of(loaded, examples, batch_size=3, share_prefix=share_prefix)
    weight = loaded.checkpoint.rows(np.arange(384)).requires_grad_(True)
    norms, total = torch.zeros(384).double(), torch.zeros(384, weight.shape[1]).double()
    squares = torch.zeros_like(total)
    order = sorted(range(8), key=lambda i: -len(examples[i].sequence))
    for start in range(0, 8, 3):
        loss = summed_loss(loaded, weight, collate([examples[i].features() for i in order[start : start + 3]]))
        gradient = torch.autograd.grad(loss, [weight])[0].double()
        norms += gradient.norm(dim=1)
        total += gradient
        squares += gradient**2
    adam = [  # what Adam moves by: the mean over its root mean square, coordinate by coordinate
        sum(
            float(g / 3) / float((s / 3) ** 0.5) * float(g)
            for g, s in zip(total[row], squares[row], strict=True)
            if s > 0
        )
        for row in ids
    ]
    assert found.ids.tolist() == ids.tolist()
    assert found.scores["gradient"] == pytest.approx(norms[ids].numpy(), rel=1e-4)
    assert found.scores["gradient-adam"] == pytest.approx(adam, rel=1e-3)
    assert found.scores["gradient-sum"] == pytest.approx(total.norm(dim=1)[ids].numpy(), rel=1e-3)
    whole = gradients_of(loaded, examples, batch_size=8, share_prefix=share_prefix)
    assert whole.scores["gradient-sum"] == pytest.approx(found.scores["gradient-sum"], rel=1e-3)
    assert (whole.scores["gradient"] < found.scores["gradient"]).any()
    assert set(found.scores) == set(MEASURED)
    assert found.scores["gradient-per-occurrence"] == pytest.approx(
        found.scores["gradient-sum"] / np.sqrt(found.occurrences)
    )
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.lm.state_dict().items())


def test_recording_changes_no_bit_of_the_training(loaded, examples, ids):
    settings = {"batch_size": 3, "epochs": 2, "learning_rate": 0.01}
    recorded = tuned(loaded, examples, ids, **settings)
    spec = TuneSpec(method="partial", tickets=Tickets(rows=ids, rule={}), seed=3, settings=settings)
    plain = prepare(loaded, examples, spec).run().product
    assert recorded.attribution is not None
    assert plain.attribution is None
    assert recorded.content == plain.content


@pytest.mark.parametrize("stop", [3, 6])
def test_a_training_that_resumes_from_a_checkpoint_records_the_same(loaded, examples, ids, tmp_path, stop):
    """Six steps at once, and as many from the checkpoint of step 3 or of the last step, give the same bits."""
    settings = {"batch_size": 4, "epochs": 3, "learning_rate": 0.02, "max_grad_norm": 0.5}

    def run(folder) -> Attribution:
        spec = TuneSpec(seed=3, settings=settings, folder=folder, save_every=3)
        return replace(prepare(loaded, examples, spec), rows=Tickets(rows=ids, rule={})).run().product.attribution

    whole = run(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "whole").glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
    shutil.copytree(tmp_path / "whole" / f"checkpoint-{stop}", tmp_path / "cut" / f"checkpoint-{stop}")
    again = run(tmp_path / "cut")
    assert (again.occurrences == whole.occurrences).all()
    for name in ("lca", "gradient"):
        assert (again.scores[name] == whole.scores[name]).all()
        assert whole.scores[name].any()
    shutil.copytree(tmp_path / "whole" / f"checkpoint-{stop}", tmp_path / "old" / f"checkpoint-{stop}")
    (tmp_path / "old" / f"checkpoint-{stop}" / RECORD_FILE).unlink()
    with pytest.raises(UserError, match="the checkpoint has no attribution.safetensors"):
        run(tmp_path / "old")


def test_the_last_gradient_is_taken_before_the_best_rows_are_loaded(loaded, examples, ids, tmp_path):
    """Early stopping keeps other rows than the last step led to; the record is that of all steps."""
    settings = {"batch_size": 4, "epochs": 3, "learning_rate": 0.5, "warmup_ratio": 0.0}
    spec = TuneSpec(seed=3, settings=settings, folder=tmp_path, patience=9)
    other = [Example(e.prompt, e.response[::-1]) for e in examples]  # what training makes less and less probable
    stopped = replace(prepare(loaded, examples, spec, other), rows=Tickets(rows=ids, rule={})).run()
    whole = tuned(loaded, examples, ids, **settings)
    assert stopped.best_step < 6
    assert (stopped.product.attribution.scores["lca"] == whole.attribution.scores["lca"]).all()


@pytest.mark.slow
def test_two_processes_record_what_one_does(loaded, examples, ids, untied_model, tmp_path):
    """The same eight examples a step, on one process and shared out between two."""
    script = tmp_path / "two.py"
    script.write_text(
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from ks_lottery import open_checkpoint\n"
        "from ks_lottery.corpus.batches import Example\n"
        "from ks_lottery.models.load import load_model\n"
        "from ks_lottery.tuning.tune import TuneSpec, prepare\n"
        "model, given, out = sys.argv[1:]\n"
        "about = json.loads(Path(given).read_text())\n"
        "loaded = load_model(open_checkpoint(model), dtype='float32', device='cpu')\n"
        "examples = [Example(tuple(p), tuple(r)) for p, r in about['examples']]\n"
        "spec = TuneSpec(seed=3, settings=about['settings'])\n"
        "patch = prepare(loaded, examples, spec).run().product\n"
        "patch.attribution.save(Path(out) / os.environ['RANK'])\n",
        encoding="utf-8",
    )
    settings = {"epochs": 4, "learning_rate": 0.02, "max_grad_norm": 0.5}
    given = tmp_path / "given.json"
    pairs = [[e.prompt, e.response] for e in examples]
    shared = {**settings, "batch_size": 4}
    given.write_text(json.dumps({"examples": pairs, "settings": shared}), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(untied_model), str(given), str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one = tuned(loaded, examples, ids, batch_size=8, **settings).attribution
    for rank in "01":
        two = Attribution.open(tmp_path / rank)
        assert two.occurrences.tolist() == one.occurrences.tolist()
        assert two.scores["gradient"] == pytest.approx(one.scores["gradient"], rel=5e-3)
        largest = float(np.abs(one.scores["lca"]).max())
        assert two.scores["lca"] == pytest.approx(one.scores["lca"], rel=0.02, abs=2e-3 * largest)
