"""A language model with virtual tokens before the text (prefix and prompt tuning), with the loss of `LabelledLanguageModel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.models.head import at_labels
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.quiet import quiet

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
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
        labelled = labels != -100
        head: Any = self.lm.get_output_embeddings()
        # Prompt tuning makes the sequence longer in front, which `at_labels` allows for; prefix tuning does not.
        with at_labels(head, labelled, float32=float32_head), quiet():  # PEFT passes the cache by a name that warns
            output = self.adapted(input_ids=input_ids, attention_mask=attention_mask)
        return output.logits, labels[labelled]
