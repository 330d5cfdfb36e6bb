"""The library's calls for scanning and certifying, for people who write Python; the commands call them too.

Must never do what the pipeline does not: both call the same functions below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.certification.procedure import Request, certify_text
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config import CertifyConfig
from ks_lottery.corpus.batches import encode
from ks_lottery.errors import UserError
from ks_lottery.evaluation.evaluate import Request as EvaluationRequest
from ks_lottery.evaluation.evaluate import evaluate_model
from ks_lottery.models.equipped import equipped
from ks_lottery.models.load import LoadedModel, load_model
from ks_lottery.models.sources import open_source
from ks_lottery.models.tokens import check_same, read_vocabulary
from ks_lottery.scanning import scan as scan_sources
from ks_lottery.tuning.gradients import row_gradients as gradients_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.checkpoint.source import Source
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.evaluate import Evaluation
    from ks_lottery.models.tokens import Vocabulary
    from ks_lottery.scans import Scan
    from ks_lottery.tickets import Tickets


def row_gradients(
    base: Checkpoint | LoadedModel,
    corpus: Corpus,
    *,
    template: str = "alpaca",
    max_tokens: int = 512,
    batch_size: int = 8,
) -> Attribution:
    """Return the summed gradient norm of each row that `corpus` reaches, at the original model, with nothing trained.

    See `ks_lottery.tuning.gradients.row_gradients` for the formula; `select_by_attribution` turns it into tickets.

    Raises
    ------
    UserError
        When no example fits into `max_tokens`.
    """
    loaded = base if isinstance(base, LoadedModel) else load_model(base)
    examples, _ = encode(loaded.tokenizer, corpus, template=template, max_tokens=max_tokens)
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {max_tokens} tokens: raise max_tokens")
    return gradients_of(loaded, examples, batch_size=batch_size)


@dataclass(frozen=True)
class Compared:
    """A scan, the token strings of its rows where a tokenizer was there, and the rows that one side alone has.

    ``only`` has, by ``base`` and ``tuned``, a row and its token string (empty where that is not known) for each such row.
    """

    scan: Scan
    tokens: tuple[str, ...] | None
    only: Mapping[str, Sequence[tuple[int, str]]]


def compare(
    base: str | Path | Source,
    tuned: str | Path | Source | RowPatch,
    *,
    units: str = "embedding",
    tensors: str | None = None,
    ignore_tokenizer: bool = False,
    tick: Callable[[int, int], None] | None = None,
) -> Compared:
    """Open two models, check that their ids mean the same, and scan them; see `scan`."""
    before = open_source(base) if isinstance(base, str | Path) else base
    if isinstance(before, RowPatch):
        raise UserError(f"{base} is a row patch: give its base first, and the patch as the second")
    after = open_source(tuned, before) if isinstance(tuned, str | Path) else tuned
    vocabulary = other = read_vocabulary(before.folder)
    if not isinstance(after, RowPatch) and after.folder != before.folder:
        other = read_vocabulary(after.folder)
        if not ignore_tokenizer:
            check_same(vocabulary, other, (before.name, after.name))
    found = scan_sources(before, after, units=units, tensors=tensors, tick=tick)
    known = [part for part in found.parts if found.is_vocabulary(part)]
    rows = max((part.count for part in known), default=0)
    tokens = None if vocabulary is None else _strings(vocabulary, range(rows))
    only = {
        side: [*zip(more, _strings(strings, more), strict=True)]
        for side, strings, count in (("base", vocabulary, "removed"), ("tuned", other, "added"))
        for more in [range(rows, rows + max((getattr(part, count) for part in known), default=0))]
    }
    return Compared(found, tokens, only)


def _strings(vocabulary: Vocabulary | None, rows: range) -> tuple[str, ...]:
    """Return the token string of each row, for rows beyond the tokenizer's an empty one."""
    shown = () if vocabulary is None else vocabulary.shown
    return tuple(shown[row] if row < len(shown) else "''" for row in rows)


def scan(
    base: str | Path | Source,
    tuned: str | Path | Source | RowPatch,
    *,
    units: str = "embedding",
    tensors: str | None = None,
    ignore_tokenizer: bool = False,
) -> Scan:
    """Test what fine-tuning changed: each unit of `base` against the same unit of `tuned` (section 3.1 of the paper).

    A unit is a row of a matrix, one output unit, or a vector as a whole; its coordinates are the sample. The KS count and p
    are exact at any width, under any ties.

    Parameters
    ----------
    base, tuned
        Folder or file of safetensors, pickled tensors (``.bin``, tensors alone are unpickled), GGUF file, hub id, or an opened
        `Checkpoint`. `tuned` may be a PEFT adapter over `base` (LoRA, trainable tokens) or a `RowPatch` too.
    units
        ``embedding``, ``output``, ``matrix-rows`` or ``all``.
    tensors
        Glob pattern for the names of tensors.
    ignore_tokenizer
        Compare by id although the two tokenizers mean different strings by the same ids.

    Returns
    -------
    Scan
        One entry a unit. Rows that only one side has are listed in its parts and not compared. Independent checkpoints are
        rounded to the coarser of their types first; patches and adapters are compared in float32.

    Raises
    ------
    UserError
        When one of the two cannot be read, they do not fit each other, or a unit holds NaN.
    """
    return compare(base, tuned, units=units, tensors=tensors, ignore_tokenizer=ignore_tokenizer).scan


def certify(
    base: Checkpoint | LoadedModel,
    tuned: RowPatch,
    found: Scan,
    corpus: Corpus,
    *,
    small: Mapping[str, RowPatch] | None = None,
    tickets: Tickets | None = None,
    calibration: Corpus | float | None = None,
    same_pool: bool = False,
    delta: float = 0.05,
    epsilon: float | None = None,
    loss: Literal["share", "any"] = "share",
    sizes: Sequence[int] = (),
    template: str = "alpaca",
    max_tokens: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    tick: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Certificate:
    """Certify small models against `tuned` on `corpus`: the paper's bound, its audit and, with calibration, a guarantee.

    Parameters
    ----------
    found
        The scan of `base` against `tuned`.
    small
        Patches to certify as they are, by name, such as partial tuning leaves. Without them partial transfers are certified: of
        `tickets`, or of the rows of each alpha.
    tickets
        Rows of the transfer; with `small`, what its rows were selected by.
    calibration
        A share (a float in (0, 1)) or a number (an int) of sentences of `corpus`, drawn at random, or a text, for
        guarantees at confidence 1 - `delta`: see `certification.guarantee.guarantee`. Two texts must be parts of one pool.
    same_pool
        Your word that both texts are parts of one, split at random.
    epsilon
        Choose the smallest ticket set whose loss of agreement is at most this with probability 1 - `delta`
        (`certification.choice.choose`).
    loss
        Of that choice: ``share`` of positions answered differently, or whether ``any`` is.
    sizes
        With `tickets` and `epsilon`: numbers of first tickets to choose among.
    max_tokens
        Longest example; longer ones are left out. Without it, text that does not fit the model's context is refused.
    settings
        Fields of `CertifyConfig`: ``alphas``, ``tau``, ``positions``.

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, or a guarantee cannot be had.
    """
    loaded = base if isinstance(base, LoadedModel) else load_model(base)
    request = Request(
        small=small or {}, tickets=tickets, config=replace(CertifyConfig(), **settings), calibration=calibration,
        same_pool=same_pool, delta=delta, epsilon=epsilon, loss=loss, sizes=sizes, template=template,
        max_tokens=max_tokens, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    return certify_text(loaded, tuned, found, corpus, request, tick=tick).certificate


def evaluate(
    base: Checkpoint | LoadedModel,
    corpus: Corpus,
    made: RowPatch | str | Path | None = None,
    *,
    metrics: Sequence[str] = ("spbleu", "bleu", "chrf", "accuracy"),
    folder: str | Path | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a model on a text: translate it and score the translations, and next-token accuracy and loss.

    Parameters
    ----------
    made
        What tuning made: a row patch, or the folder of a PEFT adapter. None measures `base` as it is.
    metrics
        ``spbleu`` (with the SentencePiece models of FLORES-101 and FLORES-200), ``bleu``, ``chrf`` (chrF++), ``accuracy``.
    folder
        Where translations are kept batch by batch: the same call goes on where it was stopped.
    settings
        Further fields of `evaluation.evaluate.Request`: ``num_beams`` (4), ``max_new_tokens`` (256), ``positions`` (all),
        ``language`` (False), ``generation``, ``spm``, ``resamples``, ``confidence``, ``seed``, ``template``, ...

    Returns
    -------
    Evaluation
        ``hypotheses``; ``scores``, with signatures and intervals, and ``scores.missing``, which says why a metric is not there;
        ``predictions`` and ``next_token``; ``language``.

    Raises
    ------
    UserError
        When a metric or setting does not exist, `made` does not belong to `base`, or a sentence does not fit the context.
    """
    request = EvaluationRequest(metrics=metrics, **settings)
    loaded = base if isinstance(base, LoadedModel) else load_model(base)
    with equipped(loaded, Path(made) if isinstance(made, str) else made, share_prefix=request.share_prefix) as model:
        return evaluate_model(loaded, model, corpus, request, folder=None if folder is None else Path(folder))
