"""Certification as a whole: candidates, one pass over report and calibration text, bound, audit, guarantee or choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.algorithm import certify_predictions
from ks_lottery.certification.audit import worst
from ks_lottery.certification.calibration import CALIBRATION_FOLDER, Calibration, open_texts, parted
from ks_lottery.certification.candidates import (
    ORIGINAL,
    TUNED,
    Candidate,
    candidate_groups,
    check_side,
    predict_candidates,
)
from ks_lottery.certification.choice import check_budget
from ks_lottery.certification.spec import CertifySpec
from ks_lottery.config.settings import CertifyConfig
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


@dataclass(frozen=True, kw_only=True)
class Certified:
    """The result of a certification.

    Parameters
    ----------
    certificates
        Of the partial transfers (``transfer``), and of the patches: by the patch's name, or ``small`` where there are several.
    predictions
        On the text reported on, by model.
    calibration
        What was answered on the calibration text, where there is one.
    chosen
        The transfer that was chosen, where one was asked for and found.
    overlong
        Sentences left out as longer than the limit.
    computed, passes
        Tokens that were computed, and those that as many passes as there are models would compute.
    """

    certificates: Mapping[str, Certificate]
    predictions: Mapping[str, Predictions]
    calibration: Calibration | None
    chosen: RowPatch | None
    overlong: int
    computed: int
    passes: int

    @property
    def certificate(self) -> Certificate:
        """The first certificate, which is the only one unless patches and transfers were certified together."""
        return next(iter(self.certificates.values()))

    def save(self, folder: Path) -> None:
        """Write every certificate, the predictions of every model on both texts, and the chosen transfer into a folder."""
        for name, certificate in self.certificates.items():
            certificate.save(folder, "certificate" if len(self.certificates) == 1 else name)
        for name, predictions in self.predictions.items():
            predictions.save(folder / "predictions" / f"{name.replace('/', '_')}.parquet")
        if self.calibration is not None:
            self.calibration.save(folder / CALIBRATION_FOLDER)
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
    groups = candidate_groups(tuned, scan, spec, loaded.checkpoint)
    texts = open_texts(
        loaded, corpus, spec.calibration,
        pool=spec.pool, rest=spec.rest, same_pool=spec.same_pool, template=spec.template, max_tokens=spec.max_tokens,
        seed=spec.split_seed,
    )  # fmt: skip
    config = spec.config
    if texts.pool is not None and spec.epsilon is not None:
        check_budget(
            texts.pool.drawn, spec.epsilon, config.delta, pool=texts.pool, kind=spec.loss, bounding=config.bound
        )
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


def _check_patches(loaded: LoadedModel, tuned: RowPatch, spec: CertifySpec) -> None:
    tuned.check_base(loaded.checkpoint)
    for name, patch in spec.small.items():
        patch.check_base(loaded.checkpoint)
        check_side(tuned, patch, name)
    check_side(tuned, tuned, "the tuned patch")
    base = (spec.tickets.made_from.get("base") or {}).get("fingerprint") if spec.tickets is not None else None
    if base not in {None, loaded.checkpoint.fingerprint}:
        raise UserError(f"the tickets were selected on another base than {loaded.checkpoint.name}: give its own")


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


def certify(
    base: Checkpoint | LoadedModel,
    tuned: RowPatch,
    scan: Scan,
    corpus: Corpus,
    *,
    small: Mapping[str, RowPatch] | None = None,
    tick: Callable[[int, int], None] | None = None,
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
    settings
        Fields of `CertifySpec` (``tickets``, ``calibration``, ``epsilon``, ``template``, ...) and of `CertifyConfig`
        (``alphas``, ``tau``, ``positions``, ``calibration_positions``, ``delta``, ``bound``).

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, or a guarantee cannot be had.
    """
    names = CertifyConfig.__dataclass_fields__
    config = replace(CertifyConfig(), **{name: value for name, value in settings.items() if name in names})
    others: dict[str, Any] = {"small": small or {}, "transfer": not small, "config": config}
    others |= {name: value for name, value in settings.items() if name not in names}
    unknown = sorted(set(others) - set(CertifySpec.__dataclass_fields__))
    if unknown:
        raise UserError(f"certify knows no setting {unknown[0]}")
    spec = CertifySpec(**others)
    loaded = base if isinstance(base, LoadedModel) else load_model(base)
    return certify_with(spec, loaded, tuned, scan, corpus, tick=tick).certificate
