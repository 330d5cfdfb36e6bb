"""The gate against embeddings that are put together by hand, position by position; in training and in generation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.batches import Example, collate
from ks_lottery.evaluation.patches import Gate, predict_patches
from ks_lottery.evaluation.translate import generate
from ks_lottery.models.gate import MARK, gated, marked
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.prefix import common_length
from ks_lottery.models.prompt_cache import holds_keys_and_values, shared_opening
from ks_lottery.models.quiet import quiet
from ks_lottery.models.sides import installed_patch

V, D = 120, 32
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {
    "hidden_size": D, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}  # fmt: skip
OPT = {"hidden_size": 48, "word_embed_proj_dim": D, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES = {
    "llama": ("LlamaConfig", DECODER, False),
    "llama tied": ("LlamaConfig", DECODER, True),
    "gemma3": ("Gemma3TextConfig", {**DECODER, "head_dim": 8, "sliding_window": 8}, True),
    "granite": ("GraniteConfig", {**DECODER, "embedding_multiplier": 3.0}, True),
    "gpt2": ("GPT2Config", {"n_embd": D, "n_layer": 2, "n_head": 4, "n_positions": 96}, True),
    "opt": ("OPTConfig", {**OPT, "max_position_embeddings": 96}, True),
    "bloom": ("BloomConfig", {"hidden_size": D, "n_layer": 2, "n_head": 4}, True),
    "mamba": ("MambaConfig", {"hidden_size": D, "num_hidden_layers": 2, "state_size": 4}, True),
}
IDS = np.arange(10, 60, dtype=np.int64)
PREFIX = tuple(range(5, 17))
SPANS = list(itertools.product([False, True], repeat=3))
SOME = [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request) -> Any:
    name, sizes, tied = FAMILIES[request.param]
    config = getattr(transformers, name)(vocab_size=V, tie_word_embeddings=tied, **SPECIAL, **sizes)
    torch.manual_seed(3)
    with quiet():
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.data += 0.15 * torch.randn(parameter.shape)
    model.generation_config.eos_token_id = None
    return model.eval().requires_grad_(requires_grad=False)


@pytest.fixture
def patch(lm) -> RowPatch:
    rows = lm.get_input_embeddings().weight[torch.from_numpy(IDS)].float()
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    return RowPatch(IDS, rows + noise, {"name": "here", "fingerprint": "f"})


def texts() -> list[tuple[Example, list[str]]]:
    """Examples, and the span of each token of their prompts."""
    generator = np.random.default_rng(4)
    draw = lambda low, high: generator.integers(4, V, generator.integers(low, high)).tolist()  # noqa: E731
    made = []
    for _ in range(6):
        source, end = draw(2, 7), draw(1, 3)
        spans = ["i"] * len(PREFIX) + ["s"] * len(source) + ["i"] * len(end)
        made.append((Example((*PREFIX, *source, *end), tuple(draw(2, 7))), spans))
    return made


def gate_of(active: tuple[bool, bool, bool]) -> Gate:
    instruction, source, target = active
    return Gate(prompts=[[{"i": instruction, "s": source}[s] for s in spans] for _, spans in texts()], rest=target)


def by_hand(lm, patch, tokens, active) -> torch.Tensor:
    """Return the embeddings of a sentence, one position at a time."""
    parts = []
    for token, on in zip(tokens, active, strict=True):
        if on:
            with installed_patch(lm, patch):
                parts.append(lm.get_input_embeddings()(torch.tensor([token])))
        else:
            parts.append(lm.get_input_embeddings()(torch.tensor([token])))
    return torch.cat(parts).unsqueeze(0)


def logits_by_hand(lm, patch, tokens, active) -> torch.Tensor:
    return lm(inputs_embeds=by_hand(lm, patch, tokens, active), use_cache=False).logits[0].float()


@pytest.mark.parametrize("rest", [False, True])
def test_everywhere_is_the_patch_and_nowhere_the_base_bit_for_bit(lm, patch, rest):
    tokens = torch.randint(4, V, (3, 20), generator=torch.Generator().manual_seed(2))
    base = lm(input_ids=tokens, use_cache=False).logits
    with installed_patch(lm, patch):
        patched = lm(input_ids=tokens, use_cache=False).logits
        with gated(lm, rest=rest):
            plain = lm(input_ids=tokens, use_cache=False).logits
            flipped = lm(input_ids=tokens + MARK, use_cache=False).logits
        assert torch.equal(lm(input_ids=tokens, use_cache=False).logits, patched)
    assert not torch.equal(base, patched)
    assert torch.equal(plain, patched if rest else base)
    assert torch.equal(flipped, base if rest else patched)
    assert torch.equal(lm(input_ids=tokens, use_cache=False).logits, base)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("active", SOME)
def test_a_gated_pass_is_the_embeddings_put_together_by_hand(lm, patch, active, share):
    if share and not holds_keys_and_values(lm):
        pytest.skip("its cache is not keys and values")
    examples = [e for e, _ in texts()]
    gate = gate_of(active)
    inputs = collate([e.features() for e in gate.marked(examples)])
    with installed_patch(lm, patch), gated(lm, rest=gate.rest), torch.no_grad():
        found, labels = LabelledLanguageModel(lm, share_prefix=share).label_logits(**inputs)
    wanted = []
    for number, example in enumerate(examples):
        where = [*gate.prompts[number], *[gate.rest] * (len(example.response) - 1)]
        logits = logits_by_hand(lm, patch, example.sequence[:-1], where)
        wanted.append(logits[len(example.prompt) - 1 :])
    assert labels.tolist() == [token for e in examples for token in e.response]
    assert torch.allclose(found, torch.cat(wanted), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("active", [(True, False, False), (False, True, True), (True, False, True)])
def test_the_gradient_flows_to_the_active_positions_alone(lm, patch, active):
    examples = [e for e, _ in texts()]
    gate = gate_of(active)
    inputs = collate([e.features() for e in gate.marked(examples)])
    share = holds_keys_and_values(lm)
    with installed_patch(lm, patch) as rows, gated(lm, rest=gate.rest):
        rows.rows.requires_grad_(requires_grad=True)
        LabelledLanguageModel(lm, share_prefix=share)(**inputs)["loss"].backward()
        found = rows.rows.grad.clone()
    # By hand: the gradient of the embedding of each active position, added up by row.
    wanted = torch.zeros_like(found)
    count = sum(len(e.response) for e in examples)
    scale = getattr(lm.get_input_embeddings(), "embed_scale", 1.0)
    for number, example in enumerate(examples):
        tokens = example.sequence[:-1]
        where = [*gate.prompts[number], *[gate.rest] * (len(example.response) - 1)]
        embedded = by_hand(lm, patch, tokens, where).detach().requires_grad_(requires_grad=True)
        logits = lm(inputs_embeds=embedded, use_cache=False).logits[0, len(example.prompt) - 1 :]
        torch.nn.functional.cross_entropy(logits, torch.tensor(example.response), reduction="sum").backward()
        for place, (token, on) in enumerate(zip(tokens, where, strict=True)):
            if on and token in IDS:
                wanted[int(np.searchsorted(IDS, token))] += embedded.grad[0, place] * scale / count
    assert wanted.abs().max() > 0
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("share", [False, True])
def test_eight_gates_that_share_their_work_are_eight_passes(lm, patch, share):
    pairs = texts()
    examples = [e for e, _ in pairs]
    names = {str(active): active for active in SPANS}
    patches = {name: patch if any(active) else patch.restrict(IDS[:0]) for name, active in names.items()}
    gates = {name: gate_of(active) for name, active in names.items()}
    shared = predict_patches(
        lm, patches, examples, batch_size=2, share_prefix=share, share_sentences=share, gates=gates
    )
    for name, active in names.items():
        for number, (example, spans) in enumerate(pairs):
            where = [{"i": active[0], "s": active[1]}[s] for s in spans] + [active[2]] * (len(example.response) - 1)
            with torch.no_grad():
                logits = logits_by_hand(lm, patch, example.sequence[:-1], where)[len(example.prompt) - 1 :]
            at = shared.predictions[name].sentence == number
            wanted = logits.double().log_softmax(-1)[torch.arange(len(example.response)), list(example.response)]
            assert shared.predictions[name].log_p[at] == pytest.approx(wanted.numpy(), abs=5e-4)
    if share and holds_keys_and_values(lm) and shared.prefix:
        one = sum(len(e) - 1 - shared.prefix for e in examples) + shared.prefix
        assert shared.computed_tokens + shared.prefix_tokens <= 7 * one


def test_tokens_that_are_alike_with_other_spans_are_no_common_beginning(lm, patch):
    """Two prompts of the same tokens whose source begins elsewhere: what they look up differs."""
    prompt = tuple(range(20, 36))
    examples = [Example((*prompt, 40), (41, 42)), Example((*prompt, 43), (44, 45))]
    masks = [[True] * 12 + [False] * 5, [True] * 4 + [False] * 13]
    gate = Gate(prompts=masks, rest=False)
    shared = predict_patches(lm, {"a": patch}, examples, gates={"a": gate})
    assert common_length([e.prompt for e in examples]) == 16
    for number, example in enumerate(examples):
        with torch.no_grad():
            logits = logits_by_hand(lm, patch, example.sequence[:-1], [*masks[number], False])[16:]
        wanted = logits.double().log_softmax(-1)[torch.arange(2), list(example.response)]
        at = shared.predictions["a"].sentence == number
        assert shared.predictions["a"].log_p[at] == pytest.approx(wanted.numpy(), abs=5e-4)


def greedy_by_hand(lm, patch, prompt, active, rest, steps) -> list[int]:
    """Return what greedy search writes, without a cache: the whole text in each step."""
    tokens, where, written = list(prompt), list(active), []
    for _ in range(steps):
        with torch.no_grad():
            token = int(logits_by_hand(lm, patch, tokens, where)[-1].argmax())
        written.append(token)
        tokens, where = [*tokens, token], [*where, rest]
    return written


@pytest.mark.parametrize("active", SOME)
def test_generation_with_a_cache_is_generation_without(lm, patch, active):
    pairs = texts()
    gate = gate_of(active)
    prompts = [e.prompt for e in gate.marked([e for e, _ in pairs])]
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": 9, "eos_token_id": 2, "pad_token_id": 0}
    wanted = [
        greedy_by_hand(lm, patch, e.prompt, mask, gate.rest, 9)
        for (e, _), mask in zip(pairs, gate.prompts, strict=True)
    ]
    runs: list[Any] = [({}, False), ({"repetition_penalty": 1.0000001}, False)]
    if holds_keys_and_values(lm):
        runs += [({}, True), ({"use_cache": False}, False)]
    with installed_patch(lm, patch), gated(lm, rest=gate.rest):
        for more, opens in runs:
            opening = shared_opening(lm, prompts[0][: common_length(prompts)]) if opens else None
            if opens:
                assert opening.length >= len(PREFIX)
            found = generate(lm, prompts, {**settings, **more}, opening)
            cut = [row[: (row.index(2) + 1 if 2 in row else len(row))] for row in found]
            assert cut == [row[: (row.index(2) + 1 if 2 in row else len(row))] for row in wanted], (more, opens)


@pytest.mark.parametrize("active", [(True, False, False), (False, True, False), (True, False, True)])
def test_beams_with_a_cache_are_beams_without(lm, patch, active):
    if not holds_keys_and_values(lm):
        pytest.skip("its cache is not keys and values")
    gate = gate_of(active)
    prompts = [e.prompt for e in gate.marked([e for e, _ in texts()])]
    settings = {"do_sample": False, "num_beams": 3, "max_new_tokens": 7, "eos_token_id": 2, "pad_token_id": 0}
    with installed_patch(lm, patch), gated(lm, rest=gate.rest):
        opening = shared_opening(lm, prompts[0][: common_length(prompts)])
        cached = generate(lm, prompts, settings, opening)
        assert cached == generate(lm, prompts, settings)
        assert cached == generate(lm, prompts, {**settings, "use_cache": False})


def test_a_gate_needs_installed_rows(lm):
    with pytest.raises(TypeError, match="no rows are installed"), gated(lm, rest=True):
        pass


def test_a_lookup_of_other_tokens_is_refused(lm, patch):
    with installed_patch(lm, patch), gated(lm, rest=True), pytest.raises(TypeError, match="other tokens than"):
        lm.get_input_embeddings()(torch.tensor([[3, 4]]))


def test_marks_are_on_what_differs_from_the_rest():
    assert marked([5, 6, 7], [True, False, True], rest=True) == (5, 6 + MARK, 7)
    assert marked([5, 6, 7], [True, False, True], rest=False) == (5 + MARK, 6, 7 + MARK)
