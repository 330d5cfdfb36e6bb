"""Translations by beam search, of prompts as they were trained on.

Must never change the order of its inputs, nor cut one.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.batches import batches_by_length
from ks_lottery.corpus.forms import special_token
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

    from ks_lottery.corpus.forms import PromptForm


def translate(
    lm: PreTrainedModel,
    form: PromptForm,
    prompts: Sequence[Sequence[int]],
    *,
    num_beams: int = 4,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    tick: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Continue each prompt until its form's end token, or another one that the model's generation config stops at.

    Parameters
    ----------
    form
        How sentences were shown to the model in training.
    prompts
        What ``form.prompts`` made, one a sentence.
    num_beams, max_new_tokens
        The paper's setting is 4 and 256.
    tick
        Called with sentences done and sentences in all.

    Returns
    -------
    list of str
        One translation a prompt, in the order of the prompts, without special tokens, stripped.
    """
    import torch

    device = next(lm.parameters()).device
    tokenizer = form.tokenizer
    padding = special_token(tokenizer, "pad_token_id", "eos_token_id")
    stops = end_tokens(lm, form)
    generate: Any = lm.generate
    answers: dict[int, str] = {}
    for batch in batches_by_length([len(p) for p in prompts], batch_size):
        length = max(len(prompts[i]) for i in batch)
        ids = torch.full((len(batch), length), padding, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, index in enumerate(batch):
            ids[row, length - len(prompts[index]) :] = torch.tensor(prompts[index])
            mask[row, length - len(prompts[index]) :] = 1
        with torch.inference_mode(), quiet():
            output = generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                do_sample=False,
                num_beams=num_beams,
                max_new_tokens=max_new_tokens,
                eos_token_id=stops,
                pad_token_id=padding,
            )
        for row, index in enumerate(batch):
            answer = list(itertools.takewhile(lambda token: token not in stops, output[row, length:].tolist()))
            text = tokenizer.decode(answer, skip_special_tokens=True)
            answers[index] = " ".join(str(text).split())
        if tick:
            tick(len(answers), len(prompts))
    return [answers[i] for i in range(len(prompts))]


def end_tokens(lm: PreTrainedModel, form: PromptForm) -> list[int]:
    """Return the tokens that end an answer: the form's, the tokenizer's end of sentence, the generation config's."""
    config = getattr(lm, "generation_config", None)
    stops = getattr(config, "eos_token_id", None)
    more = stops if isinstance(stops, list) else [stops]
    return sorted({token for token in (form.end, form.tokenizer.eos_token_id, *more) if isinstance(token, int)})
