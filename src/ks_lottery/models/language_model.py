"""A causal language model whose one `forward` gives the loss, with logits only where there is a label.

Must never build a B x T x V tensor: the head runs on the labelled positions alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ks_lottery.models.cross_entropy import summed_cross_entropy
from ks_lottery.models.head import float32_logits
from ks_lottery.models.piecewise import in_pieces
from ks_lottery.models.prefix import prefill, shared_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LabelledLanguageModel(nn.Module):
    """Wraps a Hugging Face causal language model for training and teacher-forced measuring.

    Labels are aligned with the positions that predict them: ``labels[b, t]`` is the token after ``input_ids[b, t]``,
    and -100 where nothing is to be predicted.

    Parameters
    ----------
    lm
        The language model. Its own forward is used, so that softcaps, scalings and biases of its head apply.
    share_prefix
        Compute what all rows of a batch begin with once (`models.prefix`).
    """

    accepts_loss_kwargs = True  # tells the Trainer to pass num_items_in_batch

    def __init__(self, lm: PreTrainedModel, *, share_prefix: bool = True) -> None:
        super().__init__()
        self.lm = lm
        self.share_prefix = share_prefix

    @property
    def config(self) -> Any:
        """The model's own config."""
        return self.lm.config

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the loss: summed cross entropy over `num_items_in_batch`, or over the labels of this batch.

        Parameters
        ----------
        input_ids, attention_mask, labels
            Shape (B, T).
        num_items_in_batch
            Labels in all batches and processes that make up this step.
        """
        logits, wanted = self.head_logits(input_ids, attention_mask, labels)
        total = summed_cross_entropy(logits, wanted)
        return {"loss": total / (len(wanted) if num_items_in_batch is None else num_items_in_batch)}

    def label_logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        *,
        float32_head: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, shape (N, V) and float32, and labels, shape (N,), of the N labelled positions, row by row.

        Parameters
        ----------
        float32_head
            Compute the head in float32 whatever its type. In bfloat16 the two best tokens of one position in fourteen tie
            exactly (docs/log.md), which would leave an answer to chance.
        """
        logits, wanted = self.head_logits(input_ids, attention_mask, labels, float32_head=float32_head)
        return logits.float(), wanted

    def head_logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        *,
        float32_head: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `label_logits` does, in the type that the head computes in."""
        shared = shared_length(input_ids, attention_mask, labels) if self.share_prefix else 0
        wanted = labels[:, shared:]
        chosen = wanted != -100
        more: dict[str, Any] = {"use_cache": False}
        if shared:
            more = {"use_cache": True, "cache": prefill(self.lm, input_ids[0, :shared], len(input_ids))}

        def only_labelled(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (inputs[0][chosen], *inputs[1:])

        def in_float32(head: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            wide = float32_logits(head, inputs[0])
            return output if wide is None else wide

        head: Any = self.lm.get_output_embeddings()
        handles = [head.register_forward_pre_hook(only_labelled)]
        if float32_head and head.weight.dtype != torch.float32:
            handles.append(head.register_forward_hook(in_float32))
        try:
            with in_pieces(head):
                output = self.lm(input_ids=input_ids[:, shared:], attention_mask=attention_mask, **more)
        finally:
            for handle in handles:
                handle.remove()
        return output.logits, wanted[chosen]
