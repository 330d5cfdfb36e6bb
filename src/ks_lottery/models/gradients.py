"""Gradients of rows over a text at the original model, in one pass, with nothing trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from ks_lottery.checkpoint.attribution import Attribution
from ks_lottery.config.values import checks_names
from ks_lottery.corpus.batches import batches_by_length, check_rows, collate, encode
from ks_lottery.corpus.source import open_corpus
from ks_lottery.errors import UserError
from ks_lottery.models.attention import plain_attention
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import load_model
from ks_lottery.models.rows import padding_row, reachable_rows
from ks_lottery.models.sides import installed_rows
from ks_lottery.report.progress import progress_bar
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TextSource
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.models.load import LoadedModel


def gradients_of(
    loaded: LoadedModel,
    examples: Sequence[Example],
    *,
    batch_size: int = 8,
    share_prefix: bool = True,
    shared_out: bool = False,
    tick: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Return how the loss of `examples` depends on each row of the input embedding that they reach, at the original model.

    L is the loss of a batch: the negative log-probabilities of the labels (the responses), summed and not averaged, so that
    each label has the same weight in any batch.

    - ``gradient[r]`` = sum over batches of the Euclidean norm of d L / d row r. Batches group examples of like length; within
      a batch gradients are added before the norm is taken, so the figures depend on `batch_size`.
    - ``gradient-sum[r]`` = the norm of the sum over batches of d L / d row r, which does not depend on it.
    - ``gradient-per-occurrence[r]`` = ``gradient-sum[r]`` / sqrt(occurrences of r): the norm that a sum of as many unrelated
      gradients of unit size would have is divided out.
    - ``gradient-adam[r]`` = sum over coordinates of G^2 / sqrt(B S), G the sum and S the sum of squares over the B batches of
      the coordinate of d L / d row r: to first order the fall of the loss along the move that Adam makes, which divides the
      mean gradient by its root mean square (Kingma and Ba, 2015), per unit of the learning rate. Depends on `batch_size`.

    Only rows of the same call can be compared.

    Parameters
    ----------
    batch_size
        Examples a batch.
    share_prefix
        Compute what all prompts of a batch begin with once.
    shared_out
        Share the batches out between the processes of the default group of `torch.distributed`; all of them must call this, and
        all get the same.
    tick
        Called with examples done and examples in all.

    Returns
    -------
    Attribution
        With the scores of `ks_lottery.config.choices.MEASURED` (nats and unit of the embedding), and the occurrences.

    Raises
    ------
    UserError
        When an example has a token without a row.
    """
    check_rows([e.sequence for e in examples], loaded.checkpoint.vocabulary, "examples")
    ids = reachable_rows([e.sequence for e in examples], padding_row(loaded.lm))
    device = loaded.device
    model = LabelledLanguageModel(loaded.lm, share_prefix=share_prefix)
    home = torch.device("cpu") if device.type == "mps" else device  # Apple's GPUs have no float64
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if shared_out else (0, 1)
    norms = torch.zeros(len(ids), dtype=torch.float64, device=home)
    counts = torch.zeros(len(ids) + 1, dtype=torch.int64)
    done = 0
    with installed_rows(loaded.lm, ids, loaded.checkpoint.rows(ids)) as rows, plain_attention(loaded.lm):
        module: Any = rows.embedding  # the input side has one
        slots = module.slot.cpu().long() + 1  # 0: a token outside the set
        summed = torch.zeros_like(rows.rows, dtype=torch.float32 if device.type == "mps" else torch.float64)
        squares, batches = torch.zeros_like(summed), 0
        for number, batch in enumerate(batches_by_length([len(e.sequence) for e in examples], batch_size)):
            done, batches = done + len(batch), number + 1
            if number % processes != rank:
                continue
            inputs = collate([examples[i].features() for i in batch])
            counts += torch.bincount(slots[inputs["input_ids"][inputs["attention_mask"].bool()]], minlength=len(counts))
            loss = model(**{name: t.to(device) for name, t in inputs.items()}, num_items_in_batch=1)["loss"]
            (gradient,) = torch.autograd.grad(loss, [rows.rows])
            norms += torch.linalg.vector_norm(gradient, dim=1, dtype=summed.dtype).to(norms)
            summed += gradient
            squares += gradient.to(squares).square_()
            if tick:
                tick(done, len(examples))
    if shared_out:
        counts = counts.to(device)
        for total in (norms, summed, squares, counts):
            distributed.all_reduce(total)
    moved = (summed.square() / squares.mul_(batches).sqrt_()).nan_to_num_(nan=0.0).sum(dim=1)  # 0 / 0: nothing moves
    norm = torch.linalg.vector_norm(summed, dim=1)
    often = norm / counts[1:].to(norm).clamp(min=1.0).sqrt()
    scores = {"gradient": norms, "gradient-sum": norm, "gradient-per-occurrence": often, "gradient-adam": moved}
    made_from = {"base": loaded.checkpoint.describe(), "examples": examples_digest(examples)}
    settings = {"measured": "original model", "loss": "summed over labels", "batch_size": batch_size}
    columns = {name: values.cpu().double().numpy() for name, values in scores.items()}
    return Attribution(ids, columns, counts[1:].cpu().numpy(), made_from, settings)


def examples_digest(examples: Sequence[Example]) -> str:
    """Return the digest by which an attribution names the examples that it was measured on."""
    return digest_json([[list(e.prompt), list(e.response)] for e in examples])


@checks_names
def row_gradients(
    base: str | Path | Checkpoint | LoadedModel,
    corpus: Corpus | TextSource | str | Path,
    *,
    template: str = "alpaca",
    max_tokens: int = 512,
    batch_size: int = 8,
    progress: bool = False,
) -> Attribution:
    """Return the gradient of each row that `corpus` reaches, at the original model, in one pass, with nothing trained.

    See `ks_lottery.models.gradients.gradients_of` for the formula; `select_by_attribution` turns it into tickets.

    Parameters
    ----------
    base
        Folder, GGUF file, hub id, an opened checkpoint, or a loaded model, which is used as it is.
    corpus
        A corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise.
    template
        Prompt: ``alpaca`` (the default), ``plain``, ``chat``, ``mixed``, or a text of your own with ``{source}``.
    max_tokens
        Longest example, prompt and response together (512); longer ones are left out.
    batch_size
        Examples a batch (8); ``gradient`` depends on it.
    progress
        Show a bar on standard output; off by default.

    Returns
    -------
    Attribution
        The scores of `gradients_of` of each row that the text reaches, float64, and how often its token is looked up.

    Raises
    ------
    UserError
        When no example fits into `max_tokens`.
    """
    loaded, corpus = load_model(base), open_corpus(corpus)
    rows = loaded.checkpoint.vocabulary
    examples, _ = encode(loaded.tokenizer, corpus, template=template, max_tokens=max_tokens, rows=rows)
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {max_tokens} tokens: raise max_tokens")
    with progress_bar("gradients of the original model", show=progress, unit="sentences") as tick:
        return gradients_of(loaded, examples, batch_size=batch_size, tick=tick)
