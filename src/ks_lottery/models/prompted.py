"""A language model with virtual tokens before the text (prefix and prompt tuning), with the loss of `LabelledLanguageModel`.

Must never share a prefix between the rows of a batch: the virtual tokens stand before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.models.language_model import LabelledLanguageModel

if TYPE_CHECKING:
    import torch
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
        if float32_head or shared or cache is not None:
            raise NotImplementedError("a model with virtual tokens is trained here, and shares no prefix")
        chosen = labels != -100

        def only_labelled(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            # Prompt tuning makes the sequence longer in front; prefix tuning does not.
            return (inputs[0][:, -labels.shape[1] :][chosen], *inputs[1:])

        head: Any = self.lm.get_output_embeddings()
        handle = head.register_forward_pre_hook(only_labelled)
        try:
            output = self.adapted(input_ids=input_ids, attention_mask=attention_mask)
        finally:
            handle.remove()
        return output.logits, labels[chosen]
