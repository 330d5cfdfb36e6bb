"""Every method against plain transformers and PEFT: the loss, the steps, what is frozen, and what the saved folder answers."""

from __future__ import annotations

import hashlib
from importlib import util

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ks_lottery import Corpus, RowPatch, Tickets, UserError, open_checkpoint, read_corpus, tune
from ks_lottery.config.choices import METHODS
from ks_lottery.corpus.batches import collate, encode
from ks_lottery.corpus.corpus import Pair
from ks_lottery.models.load import load_model
from ks_lottery.tuning.adapters import Adapter, adapter_config, adapter_trainable
from ks_lottery.tuning.trainer import step_order
from ks_lottery.tuning.tune import TuneSpec, prepare

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(past_key_values|is_gradient_checkpointing).*:FutureWarning"
)  # PEFT's

METHODS = [
    name for name in METHODS if name not in {"qlora", "token-prompt", "new-tokens"}
]  # which have tests of their own


@pytest.fixture(scope="module")
def corpus(text_file):
    pairs = read_corpus(text_file, source_language="en", target_language="ca").pairs[:8]
    longer = tuple(Pair(pair.source, " ".join([pair.target] * (i % 3 + 1))) for i, pair in enumerate(pairs))
    return Corpus(longer, "en", "ca", "text")


@pytest.fixture(scope="module")
def loaded(untied_model):
    return load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def examples(loaded, corpus):
    return encode(loaded.tokenizer, corpus)[0]


def needed(method: str) -> dict:
    return {
        "partial": {"tickets": Tickets(rows=np.array([7, 40, 41, 5]), rule={})},
        "frozen": {"tickets": Tickets(rows=np.array([7, 40, 41, 5]), rule={})},
        "frequency": {"size": 5, "target_text": ["La casa és vella"]},
        "occurrence": {"size": 5},
        "random": {"size": 5},
        "random-reachable": {"size": 5},
    }.get(method, {})


def hashes(lm) -> dict[str, str]:
    return {name: hashlib.sha256(t.numpy().tobytes()).hexdigest() for name, t in lm.state_dict().items()}


def shifted(examples) -> dict[str, torch.Tensor]:
    """Inputs and labels as transformers and PEFT take them: labels stand at their own token."""
    length = max(len(e.sequence) for e in examples)
    batch = {"input_ids": torch.zeros(len(examples), length, dtype=torch.long)}
    batch["attention_mask"], batch["labels"] = (
        torch.zeros_like(batch["input_ids"]),
        torch.full_like(batch["input_ids"], -100),
    )
    for row, e in enumerate(examples):
        n = len(e.sequence)
        batch["input_ids"][row, :n] = torch.tensor(e.sequence)
        batch["attention_mask"][row, :n] = 1
        batch["labels"][row, len(e.prompt) : n] = torch.tensor(e.response)
    return batch


@pytest.mark.parametrize("method", METHODS)
def test_what_is_frozen_hashes_the_same_before_and_after(loaded, corpus, method):
    before = hashes(loaded.lm)
    attributes = dict(loaded.lm.config.to_dict())
    left = tune(loaded, corpus, method=method, epochs=2, learning_rate=0.01, batch_size=4, **needed(method))
    assert left.parameters > 0
    assert hashes(loaded.lm) == before
    assert loaded.lm.config.to_dict() == attributes
    assert not loaded.lm.training
    assert not any(p.requires_grad for p in loaded.lm.parameters())
    if isinstance(left, RowPatch):
        assert not torch.equal(left.values, loaded.checkpoint.rows(left.ids))
    if method == "full":
        moved = {name for name, t in left.state.items() if not torch.equal(t, loaded.lm.state_dict()[name])}
        assert moved == set(before)


def test_an_adapter_starts_from_the_seed(loaded, corpus):
    states = [tune(loaded, corpus, method="lora", epochs=1, seed=seed).state for seed in (0, 0, 1)]
    name = next(name for name in states[0] if "lora_A" in name)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0][name], states[2][name])


def test_full_tuning_of_a_layer_moves_that_layer_alone(loaded, corpus):
    left = tune(loaded, corpus, method="full", layers="1", epochs=3, learning_rate=0.01)
    base = loaded.lm.state_dict()
    moved = {name for name, tensor in left.state.items() if not torch.equal(tensor, base[name])}
    assert moved == {name for name in base if ".layers.1." in name}
    assert left.parameters == sum(base[name].numel() for name in moved)


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_loss_and_gradient_are_those_of_peft(loaded, examples, method):
    """PEFT's own forward over a model of its own, with the values of ours: no shared prefix, logits at every position."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    batch = shifted(examples)
    with adapter_trainable(loaded, method) as trainable:
        parameters = {name: p for name, p in trainable.model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.add_(torch.randn_like(parameter) * 0.1)  # LoRA's B is zero, which would hide A
        loss = trainable.model(**collate([e.features() for e in examples]))["loss"]
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        state = dict(trainable.collect().state)
    lm = load_model(loaded.checkpoint, dtype="float32", device="cpu").lm
    theirs = get_peft_model(lm, adapter_config(method, lm))
    untouched = theirs(**batch).loss
    set_peft_model_state_dict(theirs, state)
    assert all(torch.equal(value, state[name]) for name, value in get_peft_model_state_dict(theirs).items())
    expected = theirs(**batch).loss
    trained = [p for p in theirs.parameters() if p.requires_grad]
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert not torch.allclose(untouched, expected, rtol=1e-4)  # the values matter
    for ours, other in zip(gradients, torch.autograd.grad(expected, trained), strict=True):
        assert torch.allclose(ours, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_a_saved_adapter_loads_in_peft_and_answers_with_the_loss_of_its_training(
    loaded, corpus, examples, method, tmp_path
):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = tune(loaded, corpus, method=method, epochs=30, batch_size=8, learning_rate=0.02)
    adapter.save(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(str(loaded.checkpoint.folder), dtype=torch.float32)
    with torch.no_grad():
        before = base(**shifted(examples)).loss
        after = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()(**shifted(examples)).loss
    assert after < before - 0.05
    assert isinstance(adapter, Adapter)


def test_a_saved_full_model_loads_in_transformers(tied_model, corpus, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = open_checkpoint(str(tied_model))
    left = tune(base, corpus, method="full", epochs=4, learning_rate=1e-2)
    left.save(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(str(tmp_path / "model"))
    assert again.dtype == torch.float32
    state = again.state_dict()
    assert set(state) == set(left.state)
    assert all(torch.equal(state[name], tensor) for name, tensor in left.state.items())
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert len(AutoTokenizer.from_pretrained(str(tmp_path / "model"))) == 384


def test_full_tuning_equals_a_loop_of_plain_transformers(loaded, corpus, examples):
    from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

    left = tune(loaded, corpus, method="full", epochs=5, batch_size=8, learning_rate=1e-3, warmup_ratio=0.0)
    lm = AutoModelForCausalLM.from_pretrained(str(loaded.checkpoint.folder), dtype=torch.float32)
    start = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    optimizer = torch.optim.Adam(lm.parameters(), lr=1e-3)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, 5)
    for _ in range(5):
        lm(**shifted(examples)).loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    for name, tensor in lm.state_dict().items():
        # Adam divides by the root of a squared gradient: where that is nothing but rounding, so is the move. These are few.
        apart, moved = (tensor - left.state[name]).norm(), (tensor - start[name]).norm()
        assert apart < 0.02 * moved, name


def test_partial_tuning_follows_peft_trainable_tokens_step_by_step(loaded, examples):
    from peft import TrainableTokensConfig, get_peft_model
    from transformers import get_cosine_schedule_with_warmup

    ids, steps, rate = np.array([5, 7, 40, 41, 70]), 6, 0.01
    theirs: list[torch.Tensor] = []
    lm = load_model(loaded.checkpoint, dtype="float32", device="cpu").lm
    config = TrainableTokensConfig(token_indices=ids.tolist(), target_modules=["embed_tokens"], task_type="CAUSAL_LM")
    adapted = get_peft_model(lm, config)
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, steps)
    for _ in range(steps):
        adapted(**shifted(examples)).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        theirs.append(parameters[0].detach().clone())

    from transformers import TrainerCallback

    ours: list[torch.Tensor] = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            ours.extend(p.detach().clone() for p in model.parameters() if p.requires_grad)

    settings = {"learning_rate": rate, "epochs": steps, "batch_size": 8, "warmup_ratio": 0.0}
    spec = TuneSpec(method="partial", tickets=Tickets(rows=ids, rule={}), settings=settings)
    prepare(loaded, examples, spec).run(callbacks=[Look()])
    assert len(ours) == len(theirs) == steps
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert (a - b).abs().max() < rate * 0.02, step
    assert (ours[-1] - loaded.checkpoint.rows(ids)).abs().max() > rate


def test_weight_decay_moves_rows_of_the_set_and_no_others(loaded, examples):
    """A row of the set whose token never occurs shrinks by the decay alone; every other row keeps its bits."""
    absent = next(t for t in range(383, 0, -1) if all(t not in e.sequence for e in examples))
    ids = np.array([5, 7, absent])
    settings = {"learning_rate": 0.01, "epochs": 3, "batch_size": 8, "warmup_ratio": 0.0, "weight_decay": 0.5}
    before = hashes(loaded.lm)
    patch = tune(loaded, examples, method="partial", tickets=Tickets(rows=ids, rule={}), **settings)
    rates = [0.01 * 0.5 * (1 + np.cos(np.pi * step / 3)) for step in range(3)]
    shrunk = loaded.checkpoint.rows(ids)[2] * float(np.prod([1 - 0.5 * rate for rate in rates]))
    assert torch.allclose(patch.values[2], shrunk, rtol=1e-5)
    assert hashes(loaded.lm) == before


def test_gradient_checkpointing_changes_no_number(loaded, corpus):
    plain = tune(loaded, corpus, epochs=2, learning_rate=0.01, share_prefix=False)
    again = tune(loaded, corpus, epochs=2, learning_rate=0.01, gradient_checkpointing=True)
    assert again.settings["share_prefix"] is False
    assert torch.allclose(plain.values, again.values, atol=1e-4)
    assert not loaded.lm.is_activation_checkpointing


def test_a_bfloat16_body_is_tuned_in_full_over_float32_masters(untied_model, corpus):
    base = load_model(open_checkpoint(str(untied_model)), dtype="bfloat16", device="cpu")
    left = tune(base, corpus, method="full", epochs=1, learning_rate=1e-5, warmup_ratio=0.0)
    stored = load_model(base.checkpoint, dtype="float32", device="cpu").lm.state_dict()
    moves = torch.cat([(left.state[name] - stored[name]).abs().flatten() for name in stored])
    assert 0 < moves.max() < 2e-5  # a step that bfloat16 would have rounded away or blown up
    assert base.lm.dtype == torch.bfloat16


def test_the_order_of_steps_holds_every_example_once_and_depends_on_seed_and_epoch():
    lengths = [5, 9, 3, 8, 8, 1, 7, 2, 6, 4]
    orders = {(seed, epoch): step_order(lengths, 4, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert all(sorted(order) == list(range(10)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 4


def test_early_stopping_keeps_the_best_parameters(loaded, corpus, examples, tmp_path):
    """At a rate at which the loss on the held-out text soon rises."""
    held = Corpus((Pair("A sentence of its own", "Una frase pròpia"),), "en", "ca", "held")
    more = {"validation": held, "folder": tmp_path / "c", "patience": 2}
    patch = tune(loaded, corpus, epochs=40, learning_rate=0.3, batch_size=8, **more)
    from ks_lottery.models.language_model import LabelledLanguageModel
    from ks_lottery.models.sides import installed_patch

    batch = collate([e.features() for e in encode(loaded.tokenizer, held)[0]])
    with installed_patch(loaded.lm, patch), torch.no_grad():
        loss = float(LabelledLanguageModel(loaded.lm)(**batch)["loss"])
    import json

    last = max((tmp_path / "c").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    state = json.loads((last / "trainer_state.json").read_text())
    measured = [entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry]
    assert len(measured) < 40
    assert loss == pytest.approx(min(measured), rel=1e-5)
    assert measured.index(min(measured)) == len(measured) - 3


def test_early_stopping_goes_on_counting_after_a_break(loaded, corpus, tmp_path):
    from transformers import TrainerCallback

    held = Corpus((Pair("A sentence of its own", "Una frase pròpia"),), "en", "ca", "held")

    class Stop(TrainerCallback):
        """Break off once one validation in a row was no better."""

        def on_save(self, args, state, control, **kwargs):
            if state.stateful_callbacks["Patience"]["attributes"]["early_stopping_patience_counter"] == 1:
                raise KeyboardInterrupt

    def run(folder, *callbacks):
        return tune(
            loaded, corpus, epochs=40, learning_rate=0.3, validation=held, folder=folder, patience=2, batch_size=8,
            callbacks=callbacks,
        )  # fmt: skip

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", Stop())
    again = run(tmp_path / "broken")
    assert again.content == whole.content
    names = [sorted(p.name for p in (tmp_path / f).glob("checkpoint-*")) for f in ("whole", "broken")]
    assert names[0] == names[1]


@pytest.mark.parametrize("patience", [0, 2])
def test_a_training_that_had_ended_is_not_gone_on_with(loaded, corpus, tmp_path, patience):
    """Killed after its last checkpoint and before its result was written."""
    held = Corpus((Pair("A sentence of its own", "Una frase pròpia"),), "en", "ca", "held")

    def run():
        epochs, rate = (40, 0.3) if patience else (2.5, 0.01)
        return tune(
            loaded, corpus, epochs=epochs, learning_rate=rate, validation=held, folder=tmp_path / "c", patience=patience,
            batch_size=4,
        )  # fmt: skip

    first = run()
    assert list((tmp_path / "c").glob("checkpoint-*"))
    assert run().content == first.content


def test_validation_is_the_mean_over_all_labels(loaded, examples):
    """Not the mean of batch means, which unequal batches would bend."""
    settings = {"batch_size": 3, "epochs": 1, "learning_rate": 1e-9}
    spec = TuneSpec(method="partial", tickets=Tickets(rows=np.array([5]), rule={}), settings=settings)
    result = prepare(loaded, examples, spec, examples).run()
    logits = loaded.lm(**{k: v for k, v in shifted(examples).items() if k != "labels"}).logits
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), shifted(examples)["labels"][:, 1:].flatten())
    assert [step for step, _ in result.validation] == [len(result.losses)]
    assert result.validation[0][1] == pytest.approx(float(expected), rel=1e-5)


def test_model_families_name_their_projections():
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=32))
    assert adapter_config("lora", model).target_modules == {f"transformer.h.{i}.attn.c_attn" for i in range(2)}
    assert adapter_config("qlora", model).fan_in_fan_out


def test_four_bits_without_bitsandbytes_say_what_is_needed(loaded, corpus, monkeypatch):
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else found(name, *a))
    with pytest.raises(UserError, match=r"needs bitsandbytes: pip install 'ks-lottery\[qlora\]'"):
        tune(loaded, corpus, method="qlora")


def test_sharding_on_a_cpu_is_refused(loaded, corpus):
    with pytest.raises(UserError, match="on a CPU the Trainer would turn it into DDP"):
        prepare(loaded, corpus, TuneSpec(fsdp=True))
