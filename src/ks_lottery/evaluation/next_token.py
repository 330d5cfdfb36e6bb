"""Predictions: what a model answers at each target position when it is given the reference so far.

Must never keep more than the top two of a position: no B x T x V tensor survives a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.corpus.batches import batches_by_length, collate
from ks_lottery.stats.intervals import bootstrap_interval
from ks_lottery.store.files import digest_json, manifest, read_table, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import torch

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.language_model import LabelledLanguageModel
    from ks_lottery.models.row_cache import Answers

COLUMNS = ("sentence", "position", "label", "log_p", "first", "second", "p_first", "p_second")


@dataclass(frozen=True)
class Predictions:
    """One entry for each of N target positions, ordered by sentence and position.

    Parameters
    ----------
    sentence, position
        Index of the sentence, and of the position in its response from 0 (the end-of-sentence token is the last).
    label, log_p
        Token of the reference, and the log-probability that the model gives it.
    first, second, p_first, p_second
        The two most probable tokens and their probabilities, from a float32 softmax.
    made_from
        Fingerprints of the model, the patch and the text.
    """

    sentence: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    log_p: npt.NDArray[np.float64]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    p_first: npt.NDArray[np.float64]
    p_second: npt.NDArray[np.float64]
    made_from: dict[str, Any]

    def __len__(self) -> int:
        """Return the number N of positions."""
        return len(self.label)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable token is the reference's, for each position."""
        return self.first == self.label

    @property
    def accuracy(self) -> float:
        """Share of positions answered as in the reference."""
        return float(self.correct.mean())

    @property
    def loss(self) -> float:
        """Mean negative log-probability of the reference, in nats a token."""
        return float(-self.log_p.mean())

    def interval(self, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
        """Return a bootstrap interval of the accuracy, by resampling sentences (positions of one are dependent)."""
        return self._interval(self.correct, confidence, resamples, seed)

    def loss_interval(self, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
        """Return a bootstrap interval of the loss, by resampling sentences."""
        return self._interval(-self.log_p, confidence, resamples, seed)

    def _interval(self, values: npt.NDArray[Any], confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        size = int(self.sentence.max()) + 1
        summed = np.bincount(self.sentence, weights=values, minlength=size)
        total = np.bincount(self.sentence, minlength=size).astype(np.float64)
        return bootstrap_interval(summed, total, confidence=confidence, resamples=resamples, seed=seed)

    def head(self, positions: int) -> Predictions:
        """Keep the first `positions` of each sentence."""
        keep = self.position < positions
        return Predictions(**{name: getattr(self, name)[keep] for name in COLUMNS}, made_from=self.made_from)

    def save(self, path: Path) -> None:
        """Write one row a position as Parquet, with the manifest in its metadata."""
        about = manifest("predictions", made_from=self.made_from, settings={})
        write_table(path, {name: getattr(self, name) for name in COLUMNS}, about)

    @classmethod
    def open(cls, path: Path) -> Predictions:
        """Read what `save` wrote."""
        columns, about = read_table(path, "predictions")
        return cls(**{name: columns[name] for name in COLUMNS}, made_from=about["made_from"])


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
        Any causal language model in its wrapper, with or without installed rows.
    tick
        Called with sentences done and sentences in all.
    """
    import torch

    device = next(model.lm.parameters()).device
    answers: dict[int, Answers] = {}
    model.eval()
    for batch in batches_by_length([len(e.sequence) for e in examples], batch_size):
        inputs = {name: t.to(device) for name, t in collate([examples[i].features() for i in batch]).items()}
        with torch.inference_mode():
            logits, labels = model.label_logits(**inputs, float32_head=True)
            found = answers_of(logits, labels, [len(examples[i].response) for i in batch])
        answers.update(zip(batch, found, strict=True))
        if tick:
            tick(len(answers), len(examples))
    return joined([answers[i] for i in range(len(examples))], examples, made_from or {})


def answers_of(logits: torch.Tensor, labels: torch.Tensor, sizes: Sequence[int]) -> list[Answers]:
    """Reduce logits, shape (N, V) and float32, to what is kept of each of the N positions, cut into sentences of `sizes`."""
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
