"""Certification as a whole: candidates, one pass over report and calibration text, bound, audit, guarantee or choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.algorithm import certify_predictions
from ks_lottery.certification.audit import worst
from ks_lottery.certification.calibration import choice_of, guarantees_of, open_texts, parted
from ks_lottery.certification.candidates import (
    ORIGINAL,
    TUNED,
    Candidate,
    check_side,
    nested_transfers,
    patched,
    predict_candidates,
    transfer_of,
    transfers,
)
from ks_lottery.certification.choice import check_budget
from ks_lottery.certification.spec import CertifySpec
from ks_lottery.config.groups import ModelOptions
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.config.values import check_names
from ks_lottery.errors import UserError
from ks_lottery.models.load import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ks_lottery.certification.calibration import Texts
    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.tickets.scan import Scan

TRANSFER = "transfer"
"""Name of the certificate of partial transfers."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """The result of a certification.

    Parameters
    ----------
    certificates
        Of the partial transfers (``transfer``), and of the patches: by the patch's name, or ``small`` where there are several.
    predictions
        On the text reported on, by model.
    chosen
        The transfer that was chosen, where one was asked for and found.
    overlong
        Sentences left out as longer than the limit.
    computed, passes
        Tokens that were computed, and those that as many passes as there are models would compute.
    """

    certificates: Mapping[str, Certificate]
    predictions: Mapping[str, Predictions]
    chosen: RowPatch | None
    overlong: int
    computed: int
    passes: int

    @property
    def certificate(self) -> Certificate:
        """The first certificate, which is the only one unless patches and transfers were certified together."""
        return next(iter(self.certificates.values()))

    def save(self, folder: Path) -> None:
        """Write every certificate, the predictions of every model, and the chosen transfer into a folder."""
        for name, certificate in self.certificates.items():
            certificate.save(folder, "certificate" if len(self.certificates) == 1 else name)
        for name, predictions in self.predictions.items():
            predictions.save(folder / "predictions" / f"{name.replace('/', '_')}.parquet")
        if self.chosen is not None:
            self.chosen.save(folder / "chosen")


def certify_with(
    spec: CertifySpec,
    loaded: LoadedModel,
    tuned: RowPatch,
    scan: Scan,
    corpus: Corpus,
    *,
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
    tick
        Called with sentences done and sentences in all.

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, or a guarantee cannot be had.
    """
    spec.check()
    _check_patches(loaded, tuned, spec)
    groups = _candidates(tuned, scan, spec)
    texts = open_texts(
        loaded, corpus, spec.calibration,
        pool=spec.pool, same_pool=spec.same_pool, template=spec.template, max_tokens=spec.max_tokens, seed=spec.seed,
    )  # fmt: skip
    if texts.pool is not None and spec.epsilon is not None:
        check_budget(texts.pool.drawn, spec.epsilon, spec.config.delta, pool=texts.pool, kind=spec.loss)
    parts = [text for text in (texts.report, texts.calibration) if text is not None]
    shared = predict_candidates(
        loaded,
        tuned,
        [candidate for candidates in groups.values() for candidate in candidates],
        [example.cut(spec.config.positions) for part in parts for example in part.examples],
        batch_size=spec.batch_size,
        share_prefix=spec.share_prefix,
        tick=tick,
    )
    sides = {name: parted(every, len(texts.report.examples)) for name, every in shared.predictions.items()}
    reported, calibrated = ({name: side[i] for name, side in sides.items()} for i in (0, 1))
    certificates: dict[str, Certificate] = {}
    chosen: RowPatch | None = None
    for name, candidates in groups.items():
        certificate = _audited(name, candidates, reported, loaded, tuned, scan, texts, spec)
        certificates[name], choice = _guaranteed(certificate, candidates, calibrated, texts, spec)
        chosen = chosen if choice is None else choice.patch
    return Certified(
        certificates=certificates,
        predictions=reported,
        chosen=chosen,
        overlong=texts.overlong,
        computed=shared.computed_tokens,
        passes=shared.tokens,
    )


def _check_patches(loaded: LoadedModel, tuned: RowPatch, spec: CertifySpec) -> None:
    tuned.check_base(loaded.checkpoint)
    for name, patch in spec.small.items():
        patch.check_base(loaded.checkpoint)
        check_side(tuned, patch, name)
    check_side(tuned, tuned, "the tuned patch")
    base = (spec.tickets.made_from.get("base") or {}).get("fingerprint") if spec.tickets is not None else None
    if base not in {None, loaded.checkpoint.fingerprint}:
        raise UserError(f"the tickets were selected on another base than {loaded.checkpoint.name}: give its own")


def _candidates(tuned: RowPatch, scan: Scan, spec: CertifySpec) -> dict[str, list[Candidate]]:
    """Return the small models of each certificate, by its name."""
    groups: dict[str, list[Candidate]] = {}
    alphas = spec.config.alphas
    if spec.transfers and spec.epsilon is not None:
        groups[TRANSFER] = nested_transfers(tuned, scan, alphas, spec.tickets, spec.sizes)
    elif spec.transfers and spec.tickets is not None and not spec.small:
        groups[TRANSFER] = [transfer_of(tuned, spec.tickets)]
    elif spec.transfers:
        groups[TRANSFER] = transfers(tuned, scan, alphas)
    if spec.small:
        name = next(iter(spec.small)) if len(spec.small) == 1 else "small"
        groups[name] = [patched(patch, label, spec.tickets) for label, patch in spec.small.items()]
    missing = [candidate.name for candidates in groups.values() for candidate in candidates if candidate.alpha is None]
    if spec.config.tau != "empirical" and missing:
        raise UserError(
            f"tau {spec.config.tau} is a function of alpha, and the rows of {missing[0]} were not selected by alpha alone: "
            "give tickets that were selected by alpha, or take `tau=empirical`"
        )
    return groups


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
    sources = [pair.source for pair in report.corpus.pairs]
    return replace(
        certificate,
        worst=worst(certificate, report.examples, sources, loaded.tokenizer, most=spec.examples),
        made_from={**certificate.made_from, "text": report.corpus.fingerprint, "tuned_patch": tuned.content},
    )


def _guaranteed(
    certificate: Certificate,
    candidates: Sequence[Candidate],
    answers: Mapping[str, Predictions],
    texts: Texts,
    spec: CertifySpec,
) -> tuple[Certificate, Candidate | None]:
    """Return the certificate with what calibration text guarantees or chooses, and the chosen candidate."""
    if texts.calibration is None or texts.pool is None:
        return certificate, None
    documents = [pair.document for pair in texts.calibration.corpus.pairs]
    delta = spec.config.delta
    if spec.epsilon is None:
        guarantees = guarantees_of(
            candidates, answers, texts.pool, delta=delta, documents=documents, seed=spec.seed
        )  # fmt: skip
        return replace(certificate, guarantees=guarantees), None
    choice = choice_of(
        candidates, answers, texts.pool,
        epsilon=spec.epsilon, delta=delta, loss=spec.loss, documents=documents, seed=spec.seed,
    )  # fmt: skip
    chosen = None if choice.chosen is None else candidates[choice.chosen]
    content = {**choice.as_dict(), "model": None if chosen is None else chosen.name}
    return replace(certificate, choice=content), chosen


def certify(
    base: Checkpoint | LoadedModel,
    tuned: RowPatch,
    scan: Scan,
    corpus: Corpus,
    *,
    small: Mapping[str, RowPatch] | None = None,
    tick: Callable[[int, int], None] | None = None,
    dtype: str = ModelOptions.dtype,
    device: str = ModelOptions.device,
    trust_remote_code: bool = ModelOptions.trust_remote_code,
    **settings: Any,
) -> Certificate:
    """Certify small models against `tuned` on `corpus`: the paper's bound, its audit and, with calibration, a guarantee.

    Parameters
    ----------
    scan
        The scan of `base` against `tuned`.
    small
        Patches to certify as they are, by name, such as partial tuning leaves. Without them partial transfers are certified: of
        the setting ``tickets``, or of the rows of each alpha.
    dtype, device, trust_remote_code
        How the model is loaded where it is not loaded yet.
    settings
        Fields of `CertifySpec` (``tickets``, ``calibration``, ``epsilon``, ``template``, ...) and of `CertifyConfig`
        (``alphas``, ``tau``, ``positions``, ``delta``).

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, or a guarantee cannot be had.
    """
    names, known = CertifyConfig.__dataclass_fields__, CertifySpec.__dataclass_fields__
    if unknown := [name for name in settings if name not in {*names, *known} - {"config"}]:
        check_names("certify", unknown, [*signature(certify).parameters, *known, *names])
    config = replace(CertifyConfig(), **{name: value for name, value in settings.items() if name in names})
    others = {name: value for name, value in settings.items() if name not in names}
    spec = CertifySpec(small=small or {}, config=config, **others)
    loaded = (
        base
        if isinstance(base, LoadedModel)
        else load_model(base, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    )
    return certify_with(spec, loaded, tuned, scan, corpus, tick=tick).certificate
