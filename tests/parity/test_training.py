"""The Trainer's steps against a loop written out over the dense matrix: schedule, clipping, accumulation, reachability."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ks_lottery import Corpus, Tickets, UserError, open_checkpoint, read_corpus, tune
from ks_lottery.corpus.batches import collate, encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.models.load import load_model
from ks_lottery.tuning.tune import TuneSpec, prepare


@pytest.fixture(scope="module")
def corpus(text_file):
    """Eight pairs of unequal length."""
    pairs = read_corpus(text_file, source_language="en", target_language="ca").pairs[:8]
    longer = tuple(Pair(pair.source, " ".join([pair.target] * (i % 3 + 1))) for i, pair in enumerate(pairs))
    return Corpus(longer, "en", "ca", "text")


@pytest.fixture(scope="module")
def loaded(untied_model):
    return load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def examples(loaded, corpus):
    return encode(loaded.tokenizer, corpus)[0]


def rows_after(loaded, examples, **settings) -> torch.Tensor:
    return prepare(loaded, examples, TuneSpec(seed=3, settings=settings)).run().product.values


def reached(loaded, examples) -> np.ndarray:
    """The rows that embed tuning trains."""
    return prepare(loaded, examples, TuneSpec()).rows.ids


def test_whole_batches_equal_a_loop_written_out(loaded, examples):
    from transformers import get_cosine_schedule_with_warmup

    steps, rate = 6, 0.02
    ours = rows_after(loaded, examples, batch_size=8, epochs=steps, learning_rate=rate, warmup_ratio=0.3)
    weight = loaded.checkpoint.rows(np.arange(loaded.checkpoint.vocabulary)).requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, 2, steps)
    batch = collate([e.features() for e in examples])
    for _ in range(steps):
        embedded = F.embedding(batch["input_ids"], weight)
        logits = loaded.lm(inputs_embeds=embedded, attention_mask=batch["attention_mask"], use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()).backward()
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    ids = torch.from_numpy(reached(loaded, examples))
    moved = (ours - loaded.checkpoint.rows(ids.numpy())).abs().max()
    assert moved > rate
    # Adam divides by the root of a squared gradient: where that is tiny, rounding shows. It must stay far below a step.
    assert (ours - weight.detach()[ids]).abs().max() < rate * 0.02


def test_accumulated_batches_of_unequal_length_equal_one(loaded, examples):
    """With a mean over batches instead of over labels, short sentences would weigh more."""
    whole = rows_after(loaded, examples, batch_size=8, epochs=4, learning_rate=0.02)
    accumulated = rows_after(loaded, examples, batch_size=2, gradient_accumulation=4, epochs=4, learning_rate=0.02)
    assert torch.allclose(whole, accumulated, atol=4e-4)
    assert not torch.allclose(
        whole, rows_after(loaded, examples, batch_size=2, epochs=1, learning_rate=0.02), atol=4e-3
    )


def test_rows_that_are_reachable_are_those_that_get_a_gradient(loaded, examples):
    weight = loaded.checkpoint.rows(np.arange(loaded.checkpoint.vocabulary)).requires_grad_(True)
    batch = collate([e.features() for e in examples])
    embedded = F.embedding(batch["input_ids"], weight, padding_idx=0)
    logits = loaded.lm(inputs_embeds=embedded, attention_mask=batch["attention_mask"], use_cache=False).logits
    F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()).backward()
    assert weight.grad is not None
    touched = torch.nonzero(weight.grad.abs().sum(dim=1)).flatten().tolist()
    assert reached(loaded, examples).tolist() == touched


def test_same_seed_same_bits_and_zero_is_a_seed(loaded, corpus):
    patches = [
        tune(loaded, corpus, epochs=2, batch_size=3, learning_rate=0.01, warmup_ratio=0.0, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert patches[0].content == patches[1].content != patches[2].content


def test_path_checkpoint_and_loaded_model_give_the_same_bits(untied_model, corpus):
    """And the call is the same as its parts."""
    checkpoint = open_checkpoint(str(untied_model))
    settings = {"epochs": 1, "learning_rate": 0.01}
    # What the model is loaded in decides the bits, so `auto` on all three ways.
    bases = (untied_model, str(untied_model), checkpoint, load_model(checkpoint))
    contents = {tune(base, corpus, **settings).content for base in bases}
    spec = TuneSpec(settings=settings)
    assert contents == {prepare(checkpoint, corpus, spec).run().product.content}


def test_rows_in_any_order_are_trained_alike_and_none_at_all_is_the_base(loaded, corpus):
    chosen = np.array([40, 5, 7])
    patches = [
        tune(loaded, corpus, method="partial", tickets=Tickets(rows=rows, rule={}), epochs=1)
        for rows in (chosen, np.sort(chosen))
    ]
    assert patches[0].ids.tolist() == [5, 7, 40]
    assert patches[0].content == patches[1].content
    empty = TuneSpec(method="partial", tickets=Tickets(rows=np.empty(0, np.int64), rule={}))
    result = prepare(loaded, corpus, empty).run()
    assert (len(result.product), result.losses) == (0, ())


def test_the_model_is_left_as_it_was(loaded, corpus):
    state = {name: tensor.clone() for name, tensor in loaded.lm.state_dict().items()}
    tune(loaded, corpus, epochs=1)
    after = loaded.lm.state_dict()
    assert set(after) == set(state)
    assert all(torch.equal(after[name], state[name]) for name in state)
    assert not loaded.lm.training


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"learnig_rate": 1.0}, "learnig_rate"),
        ({"learning_rate": -1.0}, r"train\.learning_rate"),
        ({"method": "magic"}, "method magic is not known; the methods are embed"),
        ({"max_tokens": 8}, "no example of text fits into 8 tokens"),
    ],
)
def test_what_cannot_be_tuned(loaded, corpus, call, message):
    with pytest.raises(UserError, match=message):
        tune(loaded, corpus, **call)


def test_a_training_that_diverges_is_named(untied_model, corpus, tmp_path):
    """A head so large that the sum of the losses overflows; and one so large that the logits do."""
    folder = tmp_path / "huge"
    shutil.copytree(untied_model, folder)
    tensors = load_file(untied_model / "model.safetensors")
    head = tensors["lm_head.weight"].clone()
    for factor, said in (
        (1e37, r"embed tuning diverged.*learning rate below 0.2"),
        (1e38, "its logits are NaN or infinite"),
    ):
        tensors["lm_head.weight"] = head * factor
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=said):
            tune(open_checkpoint(str(folder)), corpus, epochs=1)
