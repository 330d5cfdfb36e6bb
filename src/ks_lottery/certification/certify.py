"""Certification whole: candidates, one pass each over report and calibration text, bound, audit, guarantee or choice.

Must never let a sentence count for a guarantee that it also reports on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.certification.algorithm import certify_predictions
from ks_lottery.certification.audit import worst
from ks_lottery.certification.candidates import (
    ORIGINAL,
    TUNED,
    Candidate,
    check_side,
    patched,
    predict_candidates,
    transfer_of,
    transfers,
)
from ks_lottery.certification.choice import Choice, check_budget, choose
from ks_lottery.certification.guarantee import guarantee
from ks_lottery.certification.pool import Pool, check_pool, draw
from ks_lottery.certification.units import check_asked, drawn_documents, unit_losses
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.errors import UserError
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.next_token import COLUMNS, Predictions
from ks_lottery.models.load import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.certification.units import Kind
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.tickets.scan import Scan
    from ks_lottery.tickets.tickets import Tickets


@dataclass(frozen=True)
class Request:
    """What a certification is asked for, beside model, tuned patch and text.

    Parameters
    ----------
    small
        Patches to certify as they are, by name; without any, partial transfers are.
    tickets
        Rows of the transfer; without them each alpha of `config` has its own. With `small`: how its rows were selected.
    config
        Grid of alpha, kind of tau that is shown, first positions that count.
    calibration
        Text to calibrate a guarantee on, or the share or number of sentences of the text that are drawn for it; None for none.
    same_pool
        The user's word that text and calibration text are parts of one text, split at random.
    delta
        Probability that a guarantee fails.
    epsilon
        With it the smallest ticket set is chosen whose loss of agreement is at most this, with probability 1 - delta.
    loss
        Of the choice: ``share`` of positions answered differently, or whether ``any`` is.
    sizes
        With tickets and `epsilon`: numbers of first tickets to choose among; by default all, half, a quarter, ... of them.
    """

    small: Mapping[str, RowPatch] = field(default_factory=dict)
    tickets: Tickets | None = None
    config: CertifyConfig = field(default_factory=CertifyConfig)
    calibration: Corpus | float | None = None
    same_pool: bool = False
    delta: float = 0.05
    epsilon: float | None = None
    loss: Kind = "share"
    sizes: Sequence[int] = ()
    template: str = "alpaca"
    max_tokens: int | None = None
    batch_size: int = 16
    share_prefix: bool = True
    seed: int = 0
    examples: int = 10


@dataclass(frozen=True)
class Certified:
    """What a certification leaves.

    Parameters
    ----------
    predictions
        On the text reported on, by model.
    chosen
        The transfer that was chosen, where one was asked for and found.
    overlong
        Sentences left out as longer than the limit.
    computed, passes
        Tokens that were computed, and those that as many passes as there are models would compute.
    """

    certificate: Certificate
    predictions: Mapping[str, Predictions]
    chosen: RowPatch | None
    overlong: int
    computed: int
    passes: int


def certify_text(
    loaded: LoadedModel,
    tuned: RowPatch,
    scan: Scan,
    corpus: Corpus,
    request: Request,
    *,
    tick: Callable[[int, int], None] | None = None,
) -> Certified:
    """Certify, audit and, with calibration text, guarantee; see `ks_lottery.certify`.

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, or a guarantee cannot be had.
    """
    _check(loaded, tuned, request)
    candidates = _candidates(tuned, scan, request)
    report, calibration, pool = _texts(loaded, corpus, request)
    if pool is not None and request.epsilon is not None:
        check_budget(pool.drawn, request.epsilon, request.delta, pool=pool, kind=request.loss)
    positions = request.config.positions
    examples = [e.cut(positions) for text in (report, calibration) if text is not None for e in text.examples]
    shared = predict_candidates(
        loaded, tuned, candidates, examples,
        batch_size=request.batch_size, share_prefix=request.share_prefix, tick=tick,
    )  # fmt: skip
    cut = len(report.examples)
    parts = {name: parted(found, cut) for name, found in shared.predictions.items()}
    answers = {name: first for name, (first, _) in parts.items()}
    smalls = [one.answered(answers[one.name]) for one in candidates]
    name = "small" if request.small else "transfer"
    found = certify_predictions(answers[ORIGINAL], answers[TUNED], smalls, scan, config=request.config, name=name)
    shown = worst(
        found, report.examples, [p.source for p in report.corpus.pairs], loaded.tokenizer, most=request.examples
    )
    guarantees: list[dict[str, Any]] = []
    choice: Choice | None = None
    chosen: Candidate | None = None
    if calibration is not None and pool is not None:
        held = {name: second for name, (_, second) in parts.items()}
        documents = [pair.document for pair in calibration.corpus.pairs]
        if request.epsilon is None:
            guarantees = guarantees_of(
                candidates, held, pool, delta=request.delta, documents=documents, seed=request.seed
            )
        else:
            choice = _choice(candidates, held, pool, documents, request)
            chosen = None if choice.chosen is None else candidates[choice.chosen]
    found = replace(
        found,
        worst=shown,
        guarantees=guarantees,
        choice=None if choice is None else {**choice.as_dict(), "model": None if chosen is None else chosen.name},
        made_from={**found.made_from, "text": report.corpus.fingerprint, "tuned_patch": tuned.content},
    )
    overlong = report.overlong + (0 if calibration is None else calibration.overlong)
    patch = None if chosen is None else chosen.patch
    return Certified(found, answers, patch, overlong, shared.computed_tokens, shared.tokens)


def _check(loaded: LoadedModel, tuned: RowPatch, request: Request) -> None:
    tuned.check_base(loaded.checkpoint)
    for name, patch in request.small.items():
        patch.check_base(loaded.checkpoint)
        check_side(tuned, patch, name)
    check_side(tuned, tuned, "the tuned patch")
    base = (request.tickets.made_from.get("base") or {}).get("fingerprint") if request.tickets is not None else None
    if base not in {None, loaded.checkpoint.fingerprint}:
        raise UserError(f"the tickets were selected on another base than {loaded.checkpoint.name}: give its own")
    check_asked("delta", request.delta)
    if request.epsilon is not None:
        check_asked("epsilon", request.epsilon)
        if request.small:
            raise UserError("choosing a ticket set works on transfers; a partially tuned model is certified as it is")
        if request.calibration is None:
            raise UserError("choosing a ticket set needs calibration text: give --calibration, or a share of the text")
    if request.sizes and (request.tickets is None or request.epsilon is None):
        raise UserError("sizes are numbers of first tickets to choose among: give --tickets and --choose with them")


def _candidates(tuned: RowPatch, scan: Scan, request: Request) -> list[Candidate]:
    if request.small:
        candidates = [patched(patch, name, request.tickets) for name, patch in request.small.items()]
    elif request.epsilon is not None:
        candidates = _nested(tuned, scan, request)
    elif request.tickets is not None:
        candidates = [transfer_of(tuned, request.tickets)]
    else:
        candidates = transfers(tuned, scan, request.config.alphas)
    missing = [one.name for one in candidates if one.alpha is None]
    if request.config.tau != "empirical" and missing:
        raise UserError(
            f"tau {request.config.tau} is a function of alpha, and the rows of {missing[0]} were not selected by alpha alone: "
            "give tickets that select --alpha wrote, or take --tau empirical"
        )
    return candidates


def _nested(tuned: RowPatch, scan: Scan, request: Request) -> list[Candidate]:
    """Return transfers from the largest set of rows to the smallest, each a proper part of the one before it."""
    if request.tickets is None:
        every = transfers(tuned, scan, sorted(request.config.alphas, reverse=True))
    else:
        tickets = request.tickets
        halves = [len(tickets) >> k for k in range(len(tickets).bit_length())]
        sizes = sorted({min(n, len(tickets)) for n in request.sizes or halves if n > 0}, reverse=True)
        every = [transfer_of(tuned, tickets.head(n), f"{n:,} tickets") for n in sizes]
    kept: list[Candidate] = []
    for one in every:
        if not kept or len(one.patch) < len(kept[-1].patch):
            kept.append(one)
    if not kept:
        raise UserError("there is no ticket set to choose from: give alphas or tickets that select rows")
    return kept


def _texts(
    loaded: LoadedModel, corpus: Corpus, request: Request
) -> tuple[MeasuredText, MeasuredText | None, Pool | None]:
    def measured(part: Corpus) -> MeasuredText:
        return measured_text(loaded, part, template=request.template, max_tokens=request.max_tokens)

    given = request.calibration
    if given is None:
        return measured(corpus), None, None
    if isinstance(given, int | float):
        drawn = draw(corpus, given, request.seed)
        return measured(drawn.report), measured(drawn.calibration), drawn.pool
    pool = check_pool(given, corpus, same_pool=request.same_pool)
    return measured(corpus), measured(given), pool


def parted(found: Predictions, cut: int) -> tuple[Predictions, Predictions]:
    """Cut predictions after the first `cut` sentences; the sentences of each part are numbered from 0."""
    first = found.sentence < cut
    sides: list[Predictions] = []
    for keep, less in ((first, 0), (~first, cut)):
        columns = {name: getattr(found, name)[keep] for name in COLUMNS}
        columns["sentence"] = columns["sentence"] - less
        sides.append(Predictions(**columns, made_from=found.made_from))
    return sides[0], sides[1]


def guarantees_of(
    candidates: Sequence[Candidate],
    held: Mapping[str, Predictions],
    pool: Pool,
    *,
    delta: float,
    documents: Sequence[str] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the guarantees of each candidate, from predictions on calibration text by model; see `guarantee`."""
    tuned = held[TUNED]
    return [
        {"model": one.name, **bound.as_dict()}
        for one in candidates
        for bound in guarantee(
            held[one.name].first == tuned.first, held[one.name].correct, tuned.sentence,
            delta=delta, documents=documents, pool=pool, seed=seed,
        )
    ]  # fmt: skip


def _choice(
    candidates: Sequence[Candidate],
    held: Mapping[str, Predictions],
    pool: Pool,
    documents: Sequence[str],
    request: Request,
) -> Choice:
    tuned, grouped = held[TUNED], drawn_documents(pool, documents)
    losses = [
        unit_losses(
            held[one.name].first != tuned.first, tuned.sentence, kind=request.loss, documents=grouped, seed=request.seed
        )
        for one in candidates
    ]
    assert request.epsilon is not None  # noqa: S101 (asked for by the caller)
    sizes = [len(one.patch) for one in candidates]
    return choose(losses, sizes, request.epsilon, request.delta, pool=pool, kind=request.loss)


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
