"""Translations by beam search, of prompts as they were trained on.

Must never change the order of its inputs, nor cut one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.batches import batches_by_length, prompt_tokens, special_token
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def translate(
    lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    num_beams: int = 4,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    tick: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Continue each prompt until the end-of-sentence token.

    Parameters
    ----------
    prompts
        Rendered prompts, one a sentence.
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
    padding = special_token(tokenizer, "pad_token_id", "eos_token_id")
    generate: Any = lm.generate
    encoded = [prompt_tokens(tokenizer, prompt) for prompt in prompts]
    answers: dict[int, str] = {}
    for batch in batches_by_length([len(e) for e in encoded], batch_size):
        length = max(len(encoded[i]) for i in batch)
        ids = torch.full((len(batch), length), padding, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, index in enumerate(batch):
            ids[row, length - len(encoded[index]) :] = torch.tensor(encoded[index])
            mask[row, length - len(encoded[index]) :] = 1
        with torch.inference_mode(), quiet():
            output = generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                do_sample=False,
                num_beams=num_beams,
                max_new_tokens=max_new_tokens,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=padding,
            )
        for row, index in enumerate(batch):
            text = tokenizer.decode(output[row, length:], skip_special_tokens=True)
            answers[index] = " ".join(str(text).split())
        if tick:
            tick(len(answers), len(prompts))
    return [answers[i] for i in range(len(prompts))]
