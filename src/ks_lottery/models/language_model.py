"""A causal language model whose one `forward` gives the loss; its head runs on labelled positions only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ks_lottery.models.cross_entropy import summed_cross_entropy
from ks_lottery.models.head import at_labels, in_pieces
from ks_lottery.models.parts import fits, loss_in_parts, part_rows, splits
from ks_lottery.models.prefix import prefill, shared_length

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel


class LabelledLanguageModel(nn.Module):
    """Wraps a causal language model of transformers for training and for measuring under teacher forcing.

    Labels are aligned with the positions that predict them: ``labels[b, t]`` is the token after ``input_ids[b, t]``,
    and -100 where no token is predicted.

    Parameters
    ----------
    lm
        The language model. Its own forward runs, so that softcaps, scalings and biases of its head apply.
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

    @property
    def _no_split_modules(self) -> list[str]:
        """Classes of the model's layers, each of which is sharded on its own (FSDP); without them it is gathered whole."""
        present = {type(module).__name__ for module in self.lm.modules()}
        return sorted(present & set(getattr(self.lm, "_no_split_modules", None) or ()))

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
        if num_items_in_batch is None:
            num_items_in_batch = (labels != -100).sum()
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if fits(trained, len(input_ids)):
            total = self._loss_in_parts(input_ids, attention_mask, labels, trained)
        else:
            total = summed_cross_entropy(*self.head_logits(input_ids, attention_mask, labels))
        return {"loss": total / num_items_in_batch}

    def _loss_in_parts(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor, trained: list[nn.Parameter]
    ) -> torch.Tensor:
        shared = shared_length(input_ids, attention_mask, labels) if self.share_prefix else 0
        cache = prefill(self.lm, input_ids[0, :shared], 1) if shared else None
        if not splits(cache):
            return summed_cross_entropy(*self.head_logits(input_ids, attention_mask, labels))
        lengths = attention_mask.sum(dim=1).tolist()

        def work(rows: list[int], repeated: DynamicCache | None) -> torch.Tensor:
            width = max(lengths[row] for row in rows)
            if repeated is not None:
                repeated.batch_repeat_interleave(len(rows))
            inputs = (tensor[rows, :width] for tensor in (input_ids, attention_mask, labels))
            return summed_cross_entropy(*self.logits_after(*inputs, shared=shared, cache=repeated))

        return loss_in_parts(work, part_rows([length - shared for length in lengths]), trained, cache)

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
            Compute the head in float32 whatever its type. In bfloat16 the two best tokens of one position in fourteen have
            equal logits (docs/log.md), so that chance would decide the answer.
        """
        logits, labelled = self.head_logits(input_ids, attention_mask, labels, float32_head=float32_head)
        return logits.float(), labelled

    def head_logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        *,
        float32_head: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same as `label_logits`, in the type of the head."""
        shared = shared_length(input_ids, attention_mask, labels) if self.share_prefix else 0
        cache = prefill(self.lm, input_ids[0, :shared], len(input_ids)) if shared else None
        return self.logits_after(
            input_ids, attention_mask, labels, shared=shared, cache=cache, float32_head=float32_head
        )

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
        """Return the same as `head_logits`; the first `shared` positions are in `cache` already, with a row for each input."""
        return self.chunk_logits(
            input_ids[:, shared:], attention_mask, labels[:, shared:], cache=cache, float32_head=float32_head
        )

    def chunk_logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        *,
        cache: DynamicCache | None = None,
        position_ids: torch.Tensor | None = None,
        float32_head: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same as `head_logits` for inputs and labels, shape (B, T), that follow the S positions in `cache`.

        Parameters
        ----------
        attention_mask
            Shape (B, S + T).
        position_ids
            Shape (B, T), where the mask does not say them.
        """
        labelled = labels != -100
        more: dict[str, Any] = {"use_cache": False} if cache is None else {"use_cache": True, "cache": cache}
        if position_ids is not None:
            more["position_ids"] = position_ids
        head: Any = self.lm.get_output_embeddings()
        with at_labels(head, labelled, float32=float32_head), in_pieces(head):
            output = self.lm(input_ids=input_ids, attention_mask=attention_mask, **more)
        return output.logits, labels[labelled]
