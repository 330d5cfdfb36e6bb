"""Translations by beam search, of the same prompts as in training."""

from __future__ import annotations

import inspect
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.batches import batches_by_length, check_rows
from ks_lottery.corpus.prompt_form import special_token
from ks_lottery.errors import UserError
from ks_lottery.evaluation.outputs import Output
from ks_lottery.models.prefix import common_length
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from ks_lottery.corpus.prompt_form import PromptForm
    from ks_lottery.models.prompt_cache import Opening

FIXED = frozenset({
    "inputs", "input_ids", "inputs_embeds", "attention_mask", "position_ids", "cache", "past_key_values", "num_beams",
    "max_new_tokens", "max_length", "eos_token_id", "pad_token_id", "num_return_sequences", "return_dict_in_generate",
    "generation_config", "streamer", "self", "kwargs",
})  # fmt: skip
"""Settings that `generation` cannot set: parameters of `translate`, and what follows from prompts and tokenizer."""

PLAIN = frozenset(
    {"use_cache", "cache_implementation", "custom_generate", "assistant_model", "prompt_lookup_num_tokens"}
)
"""Settings with which `generate` accepts no cache, so that it computes the prompts itself."""


def translate(
    lm: PreTrainedModel | PeftModel,
    form: PromptForm,
    prompts: Sequence[Sequence[int]],
    *,
    num_beams: int = 4,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    share_prefix: bool = True,
    generation: Mapping[str, Any] | None = None,
    seed: int = 0,
    done: Mapping[int, Output] | None = None,
    keep: Callable[[Mapping[int, Output]], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> list[Output]:
    """Continue each prompt until its form's end token, or an end token of the model's generation config.

    What all prompts begin with is computed once for the text, and the rest of a prompt once a sentence, not once a beam
    (`models.prompt_cache`); `generate` continues from there with the same answers, up to float rounding. `generate` gets whole
    prompts where the model's cache is not keys and values in every layer, and with the settings of `PLAIN`. A PEFT model
    with virtual tokens shares these instead of a prefix.

    Parameters
    ----------
    lm
        The model, also with installed rows or below an adapter, or a PEFT model.
    form
        How sentences were shown to the model in training.
    prompts
        From ``form.prompts``, one a sentence; or those `ks_lottery.models.gate.marked`, under a gate.
    num_beams, max_new_tokens
        The paper's setting is 4 and 256.
    share_prefix
        False passes whole prompts to `generate`.
    generation
        Further settings of `generate`, such as ``length_penalty`` or ``no_repeat_ngram_size``.
    seed
        What ``do_sample`` draws depends on it and on the batch only.
    done
        Earlier outputs, by the index of the sentence. Batches depend on `prompts` only, so that a resumed call gives the
        same translations; a batch with a missing sentence is translated as a whole.
    keep
        Called with each finished batch, index to output: the text with its line breaks, and whether it ended.
    tick
        Called with sentences done and sentences in all, for the first time before the first batch.

    Returns
    -------
    list of Output
        One a prompt, in the order of the prompts: the text without special tokens, with its line breaks, and whether it ended
        with an end token within `max_new_tokens`. ``Output.sentence`` is the text on one line.

    Raises
    ------
    UserError
        When a setting is unknown, is refused by `generate`, or is in `FIXED`; or an adapter cannot translate.
    """
    settings = checked_settings(lm, generation, num_beams=num_beams, max_new_tokens=max_new_tokens)
    stops = end_tokens(_base(lm), form)
    from ks_lottery.models.gate import without_marks

    check_rows([without_marks(prompt) for prompt in prompts], _base(lm).config.get_text_config().vocab_size, "prompts")
    padding = special_token(form.tokenizer, "pad_token_id", "eos_token_id")
    settings |= {"eos_token_id": stops, "pad_token_id": padding}
    answers = dict(done or {})
    batches = batches_by_length([len(p) for p in prompts], batch_size)
    if tick:
        tick(len(answers), len(prompts))
    opening: Opening | None = None
    for number, batch in enumerate(batches):
        if all(index in answers for index in batch):
            continue
        if opening is None and share_prefix | _is_virtual(lm):
            opening = _opening(lm, prompts, settings)
        with _drawing(lm, settings, seed, number):
            output = generate(lm, [prompts[i] for i in batch], settings, opening)
        fresh: dict[int, Output] = {}
        for index, row in zip(batch, output, strict=True):
            answer = list(itertools.takewhile(lambda token: token not in stops, row))
            text = form.tokenizer.decode(answer, skip_special_tokens=True)
            fresh[index] = Output(text=str(text), ended=len(answer) < len(row))
        if keep:
            keep(fresh)
        answers |= fresh
        if tick:
            tick(len(answers), len(prompts))
    return [answers[i] for i in range(len(prompts))]


def generate(
    lm: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    settings: Mapping[str, Any],
    opening: Opening | None = None,
) -> list[list[int]]:
    """Return the new tokens of each prompt of one batch, padded.

    Parameters
    ----------
    settings
        Everything for `generate` but the input.
    opening
        The computed beginning of all prompts; None passes whole prompts to `generate`.
    """
    import torch

    from ks_lottery.models.gate import unmarked
    from ks_lottery.models.prompt_cache import prompt_cache

    base = _base(lm)
    before = opening.length if opening is not None and opening.virtual else 0
    length = before + max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), length), int(settings["pad_token_id"]), dtype=torch.long)
    mask = torch.zeros_like(ids)
    mask[:, :before] = 1
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    home: Any = base.get_input_embeddings().weight.device  # pyright: ignore[reportAttributeAccessIssue]
    ids, mask = ids.to(home), mask.to(home)
    more: dict[str, Any] = {}
    with torch.inference_mode(), quiet():
        if opening is not None and length > 1:
            more["cache"] = prompt_cache(base, ids, mask, opening, int(settings["num_beams"]))
        call: Any = base.generate
        try:
            with unmarked(base, ids) as plain:
                output = call(input_ids=plain, attention_mask=mask, **settings, **more)
        except (ValueError, TypeError) as error:
            if set(settings) <= _OURS:
                raise
            raise UserError(f"generate refuses these settings: {error}") from error
    return output[:, length:].tolist()


_OURS = frozenset({"do_sample", "num_beams", "max_new_tokens", "eos_token_id", "pad_token_id"})


def checked_settings(
    lm: PreTrainedModel | PeftModel | None, generation: Mapping[str, Any] | None, **ours: Any
) -> dict[str, Any]:
    """Return settings for `generate`: no sampling, overridden by `generation`, overridden by `ours`.

    Parameters
    ----------
    lm
        None where the model is not loaded yet: then the settings that every model of transformers takes are known.

    Raises
    ------
    UserError
        When one is unknown, has an invalid value, or is in `FIXED`.
    """
    from transformers import GenerationConfig, GenerationMixin

    further = dict(generation or {})
    known = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    kind: Any = GenerationMixin if lm is None else type(_base(lm))
    known |= set(inspect.signature(kind.generate).parameters)
    for name in further:
        if name in FIXED:
            raise UserError(
                f"generation setting {name} is not free: it is a setting of its own, or follows from the text"
            )
        if name not in known:
            raise UserError(
                f"generation setting {name} is unknown: see transformers.GenerationConfig for those there are"
            )
    if lm is not None and _is_virtual(lm) and (plain := sorted(PLAIN & set(further))):
        raise UserError(f"generation setting {plain[0]} cannot be used with an adapter of virtual tokens: leave it out")
    settings = {"do_sample": False, **further, **ours}
    try:
        with quiet():
            GenerationConfig(**{name: value for name, value in settings.items() if name in vars(GenerationConfig())})
    except (ValueError, TypeError) as error:
        raise UserError(f"generate refuses these settings: {error}") from error
    return settings


def end_tokens(lm: PreTrainedModel, form: PromptForm) -> list[int]:
    """Return the tokens that end an answer: the form's, the tokenizer's end of sentence, the generation config's."""
    config = getattr(lm, "generation_config", None)
    stops = getattr(config, "eos_token_id", None)
    more = stops if isinstance(stops, list) else [stops]
    return sorted({token for token in (form.end, form.tokenizer.eos_token_id, *more) if isinstance(token, int)})


def _base(lm: Any) -> PreTrainedModel:
    """Return the model of transformers, with the modules that an adapter put into it."""
    return lm.get_base_model() if hasattr(lm, "get_base_model") else lm


def _is_virtual(lm: Any) -> bool:
    return hasattr(lm, "get_base_model") and bool(lm.active_peft_config.is_prompt_learning)


def _opening(lm: Any, prompts: Sequence[Sequence[int]], settings: Mapping[str, Any]) -> Opening | None:
    from ks_lottery.models.prompt_cache import holds_keys_and_values, shared_opening, virtual_opening

    base = _base(lm)
    handled = holds_keys_and_values(base) and not PLAIN & set(settings)
    with quiet():
        if _is_virtual(lm):
            if not handled:
                raise UserError(
                    f"{type(base).__name__} with virtual tokens cannot translate: its cache is not keys and values"
                )
            return virtual_opening(lm)
        return shared_opening(base, prompts[0][: common_length(prompts)]) if handled else None


@contextmanager
def _drawing(lm: Any, settings: Mapping[str, Any], seed: int, number: int) -> Generator[None]:
    """Seed the draws for a batch from the seed and its number; afterwards the generators are as before."""
    import numpy as np
    import torch

    if not settings["do_sample"]:
        yield
        return
    device: torch.device = _base(lm).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        yield
