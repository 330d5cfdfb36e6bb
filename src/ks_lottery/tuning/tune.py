"""The library's call for tuning by any method of the paper; the command `tune` goes the same way.

Must never leave the caller's model other than it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from ks_lottery.corpus.monolingual import token_counts
from ks_lottery.models.load import LoadedModel, load_tokenizer
from ks_lottery.tuning.task import Request, make_ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import TrainerCallback

    from ks_lottery.checkpoint.patch import RowPatch, Side
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.adapters import Adapter
    from ks_lottery.tuning.full import TunedModel
    from ks_lottery.tuning.session import Session

RowMethod = Literal["embed", "partial", "frequency", "occurrence", "random", "random-reachable", "frozen"]
AdapterMethod = Literal["lora", "qlora", "prefix", "prompt"]


@overload
def tune(base: Checkpoint | LoadedModel, corpus: Corpus, *, method: RowMethod = ..., **more: Any) -> RowPatch: ...
@overload
def tune(base: Checkpoint | LoadedModel, corpus: Corpus, *, method: AdapterMethod, **more: Any) -> Adapter: ...
@overload
def tune(base: Checkpoint | LoadedModel, corpus: Corpus, *, method: Literal["full"], **more: Any) -> TunedModel: ...
@overload
def tune(base: Checkpoint | LoadedModel, corpus: Corpus, *, method: str, **more: Any) -> Any: ...
def tune(
    base: Checkpoint | LoadedModel,
    corpus: Corpus,
    *,
    method: str = "embed",
    tickets: Tickets | None = None,
    size: int | None = None,
    target_text: Sequence[str] | None = None,
    side: Side = "input",
    layers: str | None = None,
    quantize: str | None = None,
    template: str = "alpaca",
    max_tokens: int = 512,
    validation: Corpus | None = None,
    session: Session | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    seed: int = 0,
    **settings: Any,
) -> Any:
    """Tune a model on `corpus` by one of the paper's methods; `base` is left as it was.

    Parameters
    ----------
    base
        A checkpoint, or an already loaded model.
    method
        Rows: ``embed`` (every row the corpus reaches), ``partial`` (the `tickets`), ``frozen`` (every row but the first
        `size` tickets), ``frequency``, ``occurrence``, ``random`` (of the whole vocabulary) and ``random-reachable`` (`size`
        rows, by default as many as there are tickets). Others: ``full``, ``lora``, ``qlora``, ``prefix``, ``prompt``.
    target_text
        Sentences of the target language, whose tokens ``frequency`` counts.
    side
        The embedding whose rows are trained: ``input``, ``output`` or ``both``.
    layers
        For ``full``: numbers (``3``, ``0,4-7``) or glob patterns for names.
    quantize
        ``nf4``: the frozen body in 4 bits (needs bitsandbytes); ``qlora`` always has that.
    validation
        Text that `session` measures the loss on.
    session
        Checkpoints, early stopping and trackers.
    settings
        Fields of `TrainConfig`, such as ``learning_rate``, ``epochs`` and ``batch_size``. Learning rate and epochs are the
        paper's for the method (`tuning.presets`) unless given.

    Returns
    -------
    RowPatch, TunedModel or Adapter
        Each has ``save(folder)``.

    Raises
    ------
    UserError
        When a setting or the method is not known, no example fits into `max_tokens`, the model cannot be handled, or the
        training diverges.
    """
    counts = {}
    if target_text is not None:
        known = base.tokenizer if isinstance(base, LoadedModel) else load_tokenizer(base)
        counts = token_counts(known, target_text)
    request = Request(
        method=method, tickets=tickets, size=size, frequencies=counts, side=side, layers=layers, quantize=quantize,
        template=template, max_tokens=max_tokens, seed=seed, settings=settings,
    )  # fmt: skip
    task = make_ready(base, corpus, request, validation=validation)
    if session is not None and task.validation:
        from dataclasses import replace

        session = replace(session, validation=task.validation)
    return task.train(session, callbacks=callbacks)[0]
