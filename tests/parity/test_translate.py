"""Translations against `generate` of transformers and PEFT, and against beam search written out."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import MambaConfig, MambaForCausalLM

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.errors import UserError
from ks_lottery.evaluation import translate as module
from ks_lottery.evaluation.outputs import Output
from ks_lottery.evaluation.translate import end_tokens, generate, translate
from ks_lottery.models.load import load_model, open_checkpoint
from ks_lottery.models.prefix import common_length
from ks_lottery.models.prompt_cache import holds_keys_and_values, prompt_cache, shared_opening, virtual_opening
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch

SOURCES = [
    "The house is old and cold and the garden is large", "The dog eats", "This page does not exist",
    "Your session has expired today, please enter a valid password", "The file is too large", "Choose a name",
]  # fmt: skip


def sentences(*call: Any, **more: Any) -> list[str]:
    """What is translated, each on one line."""
    return [output.sentence for output in translate(*call, **more)]


def one_line(text: str) -> str:
    """Return a text as a translation is printed: layout is one space, every other character is kept."""
    return " ".join(part for part in re.split(r"[ \t\r\n]+", text)).strip(" \t\r\n\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029")


@pytest.fixture
def loaded(untied_model):
    return load_model(open_checkpoint(str(untied_model)), dtype="float32", device="cpu")


@pytest.fixture
def form(loaded):
    return PromptForm(loaded.tokenizer)


@pytest.fixture
def prompts(form):
    return form.prompts(["Translate from English to Catalan."] * len(SOURCES), SOURCES)


def by_generate(lm: Any, form: PromptForm, prompts: Any, batch: list[int], **settings: Any) -> dict[int, str]:
    """What a loop over `generate` says of one batch."""
    width = max(len(prompts[i]) for i in batch)
    ids = torch.tensor([[0] * (width - len(prompts[i])) + list(prompts[i]) for i in batch])
    mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch])
    stops = end_tokens(lm, form)
    with torch.no_grad(), quiet():
        output = lm.generate(
            input_ids=ids, attention_mask=mask, eos_token_id=stops, pad_token_id=0, do_sample=False, **settings
        )
    found = {}
    for index, row in zip(batch, output[:, width:].tolist(), strict=True):
        end = next((place for place, token in enumerate(row) if token in stops), len(row))
        found[index] = one_line(form.tokenizer.decode(row[:end], skip_special_tokens=True))
    return found


def in_batches(lm: Any, form: PromptForm, prompts: Any, size: int, **settings: Any) -> list[str]:
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    found: dict[int, str] = {}
    for start in range(0, len(order), size):
        found |= by_generate(lm, form, prompts, order[start : start + size], **settings)
    return [found[i] for i in range(len(prompts))]


@pytest.mark.parametrize(
    ("beams", "more"),
    [
        (4, {}), (1, {}), (4, {"length_penalty": 2.0}), (4, {"no_repeat_ngram_size": 2}), (3, {"repetition_penalty": 1.5}),
        (4, {"early_stopping": True}), (2, {"num_beam_groups": None}), (1, {"prompt_lookup_num_tokens": 2}),
        (4, {"use_cache": False}), (4, {"min_new_tokens": 5}),
    ],
)  # fmt: skip
def test_equal_to_generate(loaded, form, prompts, beams, more):
    size = 1 if "prompt_lookup_num_tokens" in more else 4
    wanted = in_batches(loaded.lm, form, prompts, size, num_beams=beams, max_new_tokens=40, **more)
    assert len(set(wanted)) > 3
    settings = {"num_beams": beams, "max_new_tokens": 40, "batch_size": size, "generation": more}
    for share in (True, False):
        found = sentences(loaded.lm, form, prompts, **settings, share_prefix=share)
        assert found == wanted


def test_the_prefix_is_computed_once_and_a_prompt_once_a_sentence(loaded, form, prompts):
    shapes = []
    handle = loaded.lm.get_input_embeddings().register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[:2])))
    sentences(loaded.lm, form, prompts, num_beams=4, max_new_tokens=2, batch_size=3)
    handle.remove()
    shared = common_length(prompts)
    lengths = sorted(map(len, prompts), reverse=True)
    assert shared > 20
    assert [shape for shape in shapes if shape[1] > 1] == [
        (1, shared), (3, lengths[0] - shared - 1), (3, lengths[3] - shared - 1),
    ]  # fmt: skip
    assert {shape for shape in shapes if shape[1] == 1} == {(12, 1)}


def test_the_opening_stays_as_it_is(loaded, form, prompts):
    settings = module.checked_settings(loaded.lm, None, num_beams=4, max_new_tokens=6)
    settings |= {"eos_token_id": end_tokens(loaded.lm, form), "pad_token_id": 0}
    opening = shared_opening(loaded.lm, prompts[0][: common_length(prompts)])
    before = [tensor.clone() for tensor in (*opening.keys, *opening.values)]
    found = [generate(loaded.lm, prompts[:3], settings, opening) for _ in range(2)]
    assert found[0] == found[1]
    assert all(torch.equal(a, b) for a, b in zip(before, (*opening.keys, *opening.values), strict=True))


@pytest.mark.parametrize("lengths", [(30, 12, 11), (11, 11, 11), (40, 39, 38), (60, 12, 12)])
def test_the_cache_is_that_of_padded_prompts(loaded, lengths):
    """Column by column, wherever there is a token; also where a padding is longer than the prefix."""
    draw = np.random.default_rng(0)
    prefix = draw.integers(3, 384, 10).tolist()
    prompts = [prefix + draw.integers(3, 384, n - 10).tolist() for n in lengths]
    width = max(lengths)
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with torch.no_grad():
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        wanted = loaded.lm(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True).cache
        found = prompt_cache(loaded.lm, ids, mask, shared_opening(loaded.lm, prefix), 2)
    real = mask[:, :-1].bool()
    for ours, theirs in zip(found.layers, wanted.layers, strict=True):
        for name in ("keys", "values"):
            one, other = getattr(ours, name)[::2].transpose(1, 2), getattr(theirs, name)[:, :, :-1].transpose(1, 2)
            assert torch.equal(getattr(ours, name)[::2], getattr(ours, name)[1::2])
            assert torch.allclose(one[real], other[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["input", "output"])
def test_with_rows(loaded, form, prompts, side):
    ids = np.array(sorted({token for prompt in prompts for token in prompt} - {1}))[:60]
    torch.manual_seed(5)
    values = loaded.checkpoint.rows(ids, side=side) + 0.3 * torch.randn(len(ids), 32)
    patch = RowPatch(ids, values, base=loaded.checkpoint.describe(), settings={}, side=side)
    before = sentences(loaded.lm, form, prompts, max_new_tokens=12, batch_size=4)
    with installed_patch(loaded.lm, patch):
        wanted = in_batches(loaded.lm, form, prompts, 4, num_beams=4, max_new_tokens=12)
        assert sentences(loaded.lm, form, prompts, max_new_tokens=12, batch_size=4) == wanted
    assert wanted != before


def adapted(lm: Any, config: Any) -> Any:
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(lm, config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or "prompt_encoder" in name:
                parameter.add_(0.4 * torch.randn(parameter.shape))
    return model


def test_with_lora(loaded, form, prompts):
    before = sentences(loaded.lm, form, prompts, max_new_tokens=12, batch_size=4)
    model = adapted(
        loaded.lm, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj", "embed_tokens"])
    )
    wanted = in_batches(model, form, prompts, 4, num_beams=4, max_new_tokens=12)
    assert wanted != before
    assert sentences(model, form, prompts, max_new_tokens=12, batch_size=4) == wanted
    assert sentences(model.get_base_model(), form, prompts, max_new_tokens=12, batch_size=4) == wanted


def beam_search(model: Any, prompt: Any, beams: int, steps: int, without: list[int]) -> list[int]:
    """Beam search as it is defined, for answers of one length, each computed whole by PEFT's own forward."""
    running = [(0.0, list(prompt))]
    for _ in range(steps):
        wider = []
        for score, tokens in running:
            ids = torch.tensor([tokens])
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                logs = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].log_softmax(-1)
            logs[without] = -torch.inf
            wider += [(score + float(logs[token]), [*tokens, token]) for token in logs.topk(beams).indices.tolist()]
        running = sorted(wider, key=lambda pair: -pair[0])[:beams]
    return running[0][1][len(prompt) :]


VIRTUAL = {
    "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    "p-tuning": PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, encoder_hidden_size=16),
}


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("kind", VIRTUAL)
def test_with_virtual_tokens(loaded, form, prompts, kind, beams):
    """PEFT's own `generate` is no measure: under this transformers it adds the virtual tokens again at every step."""
    before = sentences(loaded.lm, form, prompts, num_beams=beams, max_new_tokens=6, batch_size=3)
    model = adapted(loaded.lm, VIRTUAL[kind])
    stops = end_tokens(loaded.lm, form)
    settings = {"suppress_tokens": stops}
    wanted = [beam_search(model, prompt, beams, 6, stops) for prompt in prompts]
    full = {"num_beams": beams, "max_new_tokens": 6, "do_sample": False, "eos_token_id": stops, "pad_token_id": 0}
    assert generate(model, prompts, full | settings, virtual_opening(model)) == wanted
    texts = [one_line(form.tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in wanted]
    more = {"num_beams": beams, "max_new_tokens": 6, "batch_size": 3, "generation": settings}
    assert sentences(model, form, prompts, **more) == texts
    assert sentences(model, form, prompts, **more, share_prefix=False) == texts
    assert texts != before


def test_what_virtual_tokens_cannot_do(loaded, form, prompts):
    model = adapted(loaded.lm, VIRTUAL["prompt"])
    with pytest.raises(UserError, match="use_cache cannot be used with an adapter of virtual tokens"):
        sentences(model, form, prompts, generation={"use_cache": False})


def test_a_state_that_is_no_keys_and_values_is_left_to_generate(form, prompts):
    torch.manual_seed(0)
    lm = MambaForCausalLM(
        MambaConfig(vocab_size=384, hidden_size=16, num_hidden_layers=2, state_size=4, pad_token_id=0, eos_token_id=2)
    ).eval()
    assert not holds_keys_and_values(lm)
    found = sentences(lm, form, prompts, num_beams=1, max_new_tokens=8, batch_size=4)
    assert found == in_batches(lm, form, prompts, 4, num_beams=1, max_new_tokens=8)


@pytest.mark.parametrize(
    ("generation", "said"),
    [
        ({"length_penaltie": 1.0}, "length_penaltie is unknown"),
        ({"num_beams": 2}, "num_beams is not free"),
        ({"num_return_sequences": 2}, "num_return_sequences is not free"),
        ({"temperature": -1.0, "do_sample": True}, "generate refuses these settings: .*temperature"),
        ({"early_stopping": "often"}, "generate refuses these settings: .*early_stopping"),
        ({"cache_implementation": "imaginary"}, "generate refuses these settings: .*imaginary"),
    ],
)
def test_refused_settings(loaded, form, prompts, generation, said):
    with pytest.raises(UserError, match=said) as raised:
        sentences(loaded.lm, form, prompts[:2], num_beams=2, max_new_tokens=2, generation=generation)
    assert "\n" not in str(raised.value)


def test_sampling_depends_on_seed_and_batch_alone(loaded, form, prompts):
    more = {"num_beams": 1, "max_new_tokens": 8, "batch_size": 2, "generation": {"do_sample": True}}
    first = sentences(loaded.lm, form, prompts, **more)
    state = torch.random.get_rng_state()
    torch.rand(3)
    done = {index: Output(text=first[index], ended=True) for index in (0, 3)}
    assert sentences(loaded.lm, form, prompts, **more, done=done) == first
    assert sentences(loaded.lm, form, prompts, **more, seed=1) != first
    torch.random.set_rng_state(state)
    sentences(loaded.lm, form, prompts, **more)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("prompts", [[], [(5,)], [(5,), (6, 7)], [(5, 6, 7)], [(5,) * 12] * 3])
def test_short_and_equal_prompts(loaded, form, prompts):
    found = sentences(loaded.lm, form, prompts, max_new_tokens=5)
    assert found == in_batches(loaded.lm, form, prompts, 16, num_beams=4, max_new_tokens=5)
