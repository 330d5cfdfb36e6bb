"""The library's calls for tuning and certifying, for people who write Python.

Must never do what the pipeline does not: both call the same functions below.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certify import Certificate, transfer_predictions
from ks_lottery.certification.certify import certify as certify_predictions
from ks_lottery.config import CertifyConfig, TrainConfig
from ks_lottery.corpus.batches import encode
from ks_lottery.errors import UserError
from ks_lottery.models.load import LoadedModel, load_model
from ks_lottery.tuning.methods import Choice, rows_of
from ks_lottery.tuning.train import train_rows

if TYPE_CHECKING:
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.scans import Scan
    from ks_lottery.tickets import Tickets


def tune(
    base: Checkpoint | LoadedModel,
    corpus: Corpus,
    *,
    method: str = "embed",
    tickets: Tickets | None = None,
    size: int | None = None,
    template: str = "alpaca",
    max_tokens: int = 512,
    seed: int = 0,
    **settings: Any,
) -> RowPatch:
    """Train rows of the input embedding on `corpus` and return them as a patch; `base` is left as it was.

    Parameters
    ----------
    base
        A checkpoint, or an already loaded model.
    method
        ``embed`` (every row the corpus reaches), ``partial`` (the `tickets`), ``random`` or ``occurrence``
        (`size` rows, by default as many as there are tickets).
    settings
        Fields of `TrainConfig`, such as ``learning_rate``, ``epochs`` and ``batch_size``.

    Raises
    ------
    UserError
        When a setting or the method is not known, or no example fits into `max_tokens`.
    """
    loaded = base if isinstance(base, LoadedModel) else load_model(base)
    try:
        config = replace(TrainConfig(), **settings)
    except TypeError as error:
        raise UserError(f"tune knows no such setting: {error}") from error
    examples, _ = encode(loaded.tokenizer, corpus, template=template, max_tokens=max_tokens)
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {max_tokens} tokens: raise max_tokens")
    rows = size if size is not None else 0 if tickets is None else len(tickets)
    chosen = rows_of(method, Choice(loaded, examples, tickets, rows, seed))
    return train_rows(loaded, examples, chosen.ids, config=config, seed=seed, method=method).patch


def certify(
    base: Checkpoint | LoadedModel,
    tuned: RowPatch,
    found: Scan,
    corpus: Corpus,
    *,
    template: str = "alpaca",
    max_tokens: int = 512,
    batch_size: int = 16,
    **settings: Any,
) -> Certificate:
    """Certify the partial transfers of `tuned` over a grid of alpha on `corpus`, and audit the bound.

    Parameters
    ----------
    found
        The scan of `base` against `tuned`.
    settings
        Fields of `CertifyConfig`: ``alphas``, ``tau``, ``positions``.
    """
    loaded = base if isinstance(base, LoadedModel) else load_model(base)
    config = replace(CertifyConfig(), **settings)
    examples, _ = encode(loaded.tokenizer, corpus, template=template, max_tokens=max_tokens)
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {max_tokens} tokens: raise max_tokens")
    alphas = (0.0, *(a for a in config.alphas if a not in {0, 1}), 1.0)
    every = dict(transfer_predictions(loaded, tuned, found, examples, alphas=alphas, known={}, batch_size=batch_size))
    small = [(alpha, every[alpha]) for alpha in config.alphas]
    return certify_predictions(every[0.0], every[1.0], small, found, config=config)
