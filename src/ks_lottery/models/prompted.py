"""A language model with virtual tokens before the text (prefix and prompt tuning), with the loss of `LabelledLanguageModel`.

Must never share a prefix between the rows of a batch: the virtual tokens stand before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.models.head import float32_logits
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import DynamicCache


class PromptedLanguageModel(LabelledLanguageModel):
    """Wraps a PEFT model whose method is prompt learning; labels as `LabelledLanguageModel` has them.

    Parameters
    ----------
    adapted
        The PEFT model. Its own forward is used, which puts keys and values (prefix) or embeddings (prompt) before the text.
    """

    def __init__(self, adapted: PeftModel) -> None:
        super().__init__(adapted.get_base_model(), share_prefix=False)  # pyright: ignore[reportArgumentType]
        self.adapted = adapted

    def logits_after(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        *,
        shared: int = 0,
        cache: DynamicCache | None = None,
        float32_head: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, shape (N, V), and labels, shape (N,), of the N labelled positions, row by row."""
        if shared or cache is not None:
            raise NotImplementedError("a model with virtual tokens shares no prefix")
        chosen = labels != -100

        def only_labelled(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            # Prompt tuning makes the sequence longer in front; prefix tuning does not.
            return (inputs[0][:, -labels.shape[1] :][chosen], *inputs[1:])

        def in_float32(head: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            wide = float32_logits(head, inputs[0])
            return output if wide is None else wide

        head: Any = self.lm.get_output_embeddings()
        handles = [head.register_forward_pre_hook(only_labelled)]
        if float32_head and head.weight.dtype != torch.float32:
            handles.append(head.register_forward_hook(in_float32))
        try:
            with quiet():  # PEFT passes the cache under a name that transformers warns of
                output = self.adapted(input_ids=input_ids, attention_mask=attention_mask)
        finally:
            for handle in handles:
                handle.remove()
        return output.logits, labels[chosen]
