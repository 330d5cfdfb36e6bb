"""Certification as a whole: candidates, one pass over report and calibration text, bound, audit, guarantee or choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ks_lottery.certification.algorithm import certify_predictions
from ks_lottery.certification.audit import worst
from ks_lottery.certification.calibration import Calibration, parted
from ks_lottery.certification.candidates import ORIGINAL, TUNED, Candidate, predict_candidates
from ks_lottery.certification.certified import Certified
from ks_lottery.certification.inputs import open_small, scan_of_patch
from ks_lottery.certification.preparation import prepare_certification
from ks_lottery.certification.spec import CertifySpec
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.groups import ModelOptions, TextSource
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.config.values import checks_names
from ks_lottery.corpus.source import open_corpus
from ks_lottery.models.load import LoadedModel, load_model, open_checkpoint
from ks_lottery.models.tokenized import tokenizer_of
from ks_lottery.report.progress import progress_bar
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.certification.calibration import Texts
    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.certification.pool import Pool
    from ks_lottery.certification.preparation import Preparation
    from ks_lottery.certification.units import Kind
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.predictions import Predictions


def certify_with(
    spec: CertifySpec,
    loaded: LoadedModel,
    tuned: RowPatch,
    scan: Scan,
    corpus: Corpus,
    *,
    ready: Preparation | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Certified:
    """Certify, audit and, with calibration text, guarantee: the one path of library, command and run.

    Parameters
    ----------
    tuned
        The patch of embed tuning.
    scan
        `loaded` against `tuned`.
    corpus
        The text reported on.
    ready
        What `prepare_certification` returned for the same things, where the caller has checked them before.
    tick
        Called with sentences done and sentences in all.

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, or a guarantee cannot be had.
    """
    ready = ready or prepare_certification(spec, loaded, tuned, scan, corpus)
    groups, texts, config = ready.groups, ready.texts, spec.config
    examples = [example.cut(config.positions) for example in texts.report.examples]
    if texts.calibration is not None:
        first = config.calibration_positions
        examples += [e if first is None else e.cut(first) for e in texts.calibration.examples]
    shared = predict_candidates(
        loaded,
        tuned,
        [candidate for candidates in groups.values() for candidate in candidates],
        examples,
        batch_size=spec.batch_size,
        share_prefix=spec.share_prefix,
        tick=tick,
    )
    sides = {name: parted(every, len(texts.report.examples)) for name, every in shared.predictions.items()}
    reported = {name: report for name, (report, _) in sides.items()}
    calibration = _calibration({name: part for name, (_, part) in sides.items() if name != ORIGINAL}, texts, spec)
    certificates: dict[str, Certificate] = {}
    chosen: RowPatch | None = None
    for name, candidates in groups.items():
        certificate = _audited(name, candidates, reported, loaded, tuned, scan, texts, spec)
        certificates[name], choice = _guaranteed(certificate, candidates, calibration)
        chosen = chosen if choice is None else choice.patch
    return Certified(
        certificates=certificates,
        predictions=reported,
        calibration=calibration,
        chosen=chosen,
        overlong=texts.overlong,
        computed=shared.computed_tokens,
        passes=shared.tokens,
    )


def _audited(
    name: str,
    candidates: Sequence[Candidate],
    answers: Mapping[str, Predictions],
    loaded: LoadedModel,
    tuned: RowPatch,
    scan: Scan,
    texts: Texts,
    spec: CertifySpec,
) -> Certificate:
    """Return the certificate of some candidates with its audit and the worst examples, without guarantees."""
    smalls = [candidate.answered(answers[candidate.name]) for candidate in candidates]
    report = texts.report
    certificate = certify_predictions(
        answers[ORIGINAL], answers[TUNED], smalls, scan, config=spec.config, name=name
    )  # fmt: skip
    sources = [pair.identity for pair in report.corpus.pairs]
    return replace(
        certificate,
        worst=worst(certificate, report.examples, sources, loaded.tokenizer, most=spec.examples),
        made_from={**certificate.made_from, "text": report.corpus.fingerprint, "tuned_patch": tuned.content},
    )


def _calibration(answers: Mapping[str, Predictions], texts: Texts, spec: CertifySpec) -> Calibration | None:
    """Return the answers on calibration text with all that guarantees depend on; None where there is no such text."""
    if texts.calibration is None or texts.pool is None:
        return None
    corpus, config = texts.calibration.corpus, spec.config
    return Calibration(
        answers=answers,
        pool=texts.pool,
        order=texts.order,
        documents=[pair.document for pair in corpus] if texts.pool.unit == "document" else [],
        positions=config.calibration_positions,
        delta=config.delta,
        epsilon=spec.epsilon,
        loss=spec.loss,
        bounding=config.bound,
        seed=spec.split_seed,
        text=corpus.fingerprint,
    )


def _guaranteed(
    certificate: Certificate, candidates: Sequence[Candidate], calibration: Calibration | None
) -> tuple[Certificate, Candidate | None]:
    """Return the certificate with what calibration text guarantees or chooses, and the chosen candidate."""
    if calibration is None:
        return certificate, None
    first = "all" if calibration.positions is None else calibration.positions
    certificate = replace(certificate, counted={**certificate.counted, "guarantee": first})
    if calibration.epsilon is None:
        return replace(certificate, guarantees=calibration.guarantees([one.name for one in candidates])), None
    choice = calibration.choice({one.name: len(one.patch) for one in candidates})
    chosen = None if choice.chosen is None else candidates[choice.chosen]
    content = {
        **choice.as_dict(),
        "models": [one.name for one in candidates],
        "model": None if chosen is None else chosen.name,
    }
    return replace(certificate, choice=content), chosen


@checks_names
def certify(
    base: str | Path | Checkpoint | LoadedModel,
    tuned: RowPatch | str | Path,
    scan: Scan | str | Path | None,
    corpus: Corpus | TextSource | str | Path,
    *,
    small: Mapping[str, RowPatch | str | Path] | RowPatch | str | Path | None = None,
    transfer: bool = CertifySpec.transfer,
    tickets: Tickets | str | Path | None = None,
    alphas: Sequence[float] = CertifyConfig.alphas,
    tau: Literal["empirical", "exact", "table"] = CertifyConfig.tau,
    positions: int = CertifyConfig.positions,
    calibration_positions: int | None = None,
    delta: float = CertifyConfig.delta,
    bound: Literal["finite", "independent"] = CertifyConfig.bound,
    calibration: Corpus | TextSource | str | Path | float | None = None,
    same_pool: bool = CertifySpec.same_pool,
    pool: Pool | None = None,
    rest: Corpus | None = None,
    epsilon: float | None = None,
    loss: Kind = CertifySpec.loss,
    sizes: Sequence[int] = (),
    template: str | None = None,
    max_tokens: int | None = None,
    batch_size: int = CertifySpec.batch_size,
    share_prefix: bool = CertifySpec.share_prefix,
    split_seed: int = CertifySpec.split_seed,
    examples: int = CertifySpec.examples,
    progress: bool = False,
    tick: Callable[[int, int], None] | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = ModelOptions.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = ModelOptions.device,
    trust_remote_code: bool = ModelOptions.trust_remote_code,
) -> Certificate:
    """Certify small models against `tuned` on `corpus`: the paper's bound, its audit and, with calibration, a guarantee.

    Parameters
    ----------
    base
        Folder, GGUF file, hub id, an opened checkpoint, or a loaded model, which is used as it is.
    tuned
        The patch of embed tuning, or its folder.
    scan
        The scan of `base` against `tuned`, or its file; None scans now.
    corpus
        The text reported on: a corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise.
    small
        Patches to certify as they are, such as partial tuning leaves, by name; or one patch or folder. Without them partial
        transfers are certified: of `tickets`, or of the rows of each alpha.
    transfer
        Certify partial transfers beside `small`; they are certified anyway where no `small` is given.
    tickets
        Rows of the transfer, or their file; with `small`, what its rows were selected by.
    alphas, tau, positions
        Grid of significance levels, each in [0, 1] (0 .. 1); kind of tau that is shown (``empirical``); first target positions
        of a sentence that count for the bound and its audit (20).
    calibration_positions, delta, bound
        First target positions that count for a guarantee (None, the default: whole sentences); probability that it fails, in
        (0, 1) (0.05); and how it is computed, ``finite`` (by the size of the pool, the default) or ``independent``.
    calibration
        Text to calibrate a guarantee on; or the share (a float below 1) or number (an int) of sentences of `corpus` that are
        drawn for it; None (the default) for no guarantee.
    same_pool
        Your word that `corpus` and the calibration text are one text, split at random; off by default.
    pool, rest
        What the calibration text was drawn from, where that is known; and the pool beside it, where `corpus` is only a part of
        that.
    epsilon, loss, sizes
        Choose the smallest ticket set whose loss of agreement is at most `epsilon`, with probability 1 - `delta`; the loss is
        the ``share`` of positions answered differently (the default) or whether ``any`` is; with `tickets`, numbers of first
        tickets to choose among.
    template, max_tokens
        Prompt: a name of `ks_lottery.config.choices.TEMPLATES`, a mix, a text of your own, or None (the default) for the
        patch's own, else ``alpaca``;
        and the longest example: None (the default) refuses a text beyond the model's context, else longer ones are left out.
    batch_size, share_prefix
        Sentences at a time (16); compute what all prompts begin with once (on).
    split_seed
        Seed of the draw of calibration sentences (0), which no training seed touches.
    examples
        Number of the worst examples that the certificate keeps (10).
    dtype, device, trust_remote_code
        How the model is loaded where it is not loaded yet, as for `load_model`.
    progress
        Show a bar on standard output; off by default.
    tick
        Called with sentences done and sentences in all.

    Returns
    -------
    Certificate
        Of the transfers or of `small`; the first of the two where both were asked for.

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, a value is out of range, or a guarantee cannot be had.
    """
    spec = CertifySpec(
        small=open_small(small), transfer=transfer,
        tickets=Tickets.open(tickets) if isinstance(tickets, str | Path) else tickets,
        config=CertifyConfig(
            alphas=tuple(alphas), tau=tau, positions=positions, calibration_positions=calibration_positions, delta=delta,
            bound=bound,
        ),
        calibration=calibration if calibration is None or isinstance(calibration, int | float) else open_corpus(calibration),
        same_pool=same_pool, pool=pool, rest=rest, epsilon=epsilon, loss=loss, sizes=tuple(sizes), template=template,
        max_tokens=max_tokens, batch_size=batch_size, share_prefix=share_prefix, split_seed=split_seed, examples=examples,
    )  # fmt: skip
    corpus = open_corpus(corpus)
    tuned = tuned if isinstance(tuned, RowPatch) else RowPatch.open(tuned)
    checkpoint = open_checkpoint(base)
    tuned.check_base(checkpoint)
    if not isinstance(scan, Scan):
        scan = scan_of_patch(checkpoint, tuned, scan)
    ready = prepare_certification(spec, tokenizer_of(base, trust_remote_code=trust_remote_code), tuned, scan, corpus)
    loaded = (
        base
        if isinstance(base, LoadedModel)
        else load_model(checkpoint, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    )
    with progress_bar("predictions of every model", show=progress, unit="sentences") as bar:
        return certify_with(spec, loaded, tuned, scan, corpus, ready=ready, tick=tick or bar).certificate
