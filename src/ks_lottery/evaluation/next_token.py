"""Next-token answers of a model under teacher forcing; of each position the two best tokens are kept, never all logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.corpus.batches import batches_by_length, collate
from ks_lottery.evaluation.predictions import COLUMNS, Predictions
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.language_model import LabelledLanguageModel
    from ks_lottery.models.row_cache import Answers


def predict(
    model: LabelledLanguageModel,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    made_from: dict[str, Any] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Run `model` over `examples` under teacher forcing, once.

    Parameters
    ----------
    model
        A causal language model in its wrapper, with or without installed rows.
    tick
        Called with sentences done and sentences in all.
    """
    import torch

    device: Any = model.lm.get_input_embeddings().weight.device
    answers: dict[int, Answers] = {}
    model.eval()
    for batch in batches_by_length([len(e.sequence) for e in examples], batch_size):
        inputs = {name: t.to(device) for name, t in collate([examples[i].features() for i in batch]).items()}
        with torch.inference_mode():
            logits, labels = model.label_logits(**inputs, float32_head=True)
            reduced = answers_of(logits, labels, [len(examples[i].response) for i in batch])
        answers.update(zip(batch, reduced, strict=True))
        if tick:
            tick(len(answers), len(examples))
    return joined([answers[i] for i in range(len(examples))], examples, made_from or {})


def answers_of(logits: torch.Tensor, labels: torch.Tensor, sizes: Sequence[int]) -> list[Answers]:
    """Reduce logits, shape (N, V) and float32, to the columns of `Predictions` at N positions, by sentences of `sizes`."""
    logs = logits.log_softmax(dim=-1)
    top = logs.topk(2, dim=-1)
    columns = {
        "label": labels,
        "log_p": logs.gather(1, labels.unsqueeze(1)).squeeze(1).double(),
        "first": top.indices[:, 0],
        "second": top.indices[:, 1],
        "p_first": top.values[:, 0].exp().double(),
        "p_second": top.values[:, 1].exp().double(),
    }
    stops = np.cumsum(sizes)[:-1]
    parts = {name: np.split(column.cpu().numpy(), stops) for name, column in columns.items()}
    return [{name: pieces[place] for name, pieces in parts.items()} for place in range(len(sizes))]


def joined(answers: Sequence[Answers], examples: Sequence[Example], made_from: dict[str, Any]) -> Predictions:
    """Put the answers of all sentences, in their order, into one `Predictions`."""
    sizes = [len(e.response) for e in examples]
    return Predictions(
        sentence=np.repeat(np.arange(len(examples), dtype=np.int64), sizes),
        position=np.concatenate([np.arange(n, dtype=np.int64) for n in sizes]),
        **{name: np.concatenate([answer[name] for answer in answers]) for name in COLUMNS[2:]},
        made_from={**made_from, "examples": digest_json([e.sequence for e in examples])},
    )
