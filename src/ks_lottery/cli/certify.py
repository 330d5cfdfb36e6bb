"""The command `certify`: when a small model answers like the tuned one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.output import see_it
from ks_lottery.cli.streams import write
from ks_lottery.config.measure_commands import CertifyOptions
from ks_lottery.config.settings import CertifyConfig
from ks_lottery.config.values import shared
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.certification.spec import CertifySpec
    from ks_lottery.config.measure_commands import CertifySettings
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.report.screen import Screen


def run(settings: CertifySettings) -> int:
    """Run the command and return its exit code."""
    if settings.recheck is not None:
        return _recheck(settings, settings.recheck)
    model, tuned_folder, data = _check_given(settings)
    from ks_lottery.certification.certify import certify_with
    from ks_lottery.certification.inputs import certification_manifest, open_patches, saved_certificate, scan_of_patch
    from ks_lottery.certification.preparation import prepare_certification
    from ks_lottery.certification.spec import CertifySpec
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.source import read_text
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.models.tokenized import tokenizer_of
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.work_folder import WorkFolder
    from ks_lottery.tickets.tickets import Tickets

    screen, silent = Screen(total=3), bool(settings.json)
    work = None if settings.out is None else WorkFolder(Path(settings.out))
    with screen.stage("open model, patches and text", silent=silent):
        spec = CertifySpec(
            **shared(settings, CertifyOptions),
            small=open_patches(settings.small),
            tickets=None if settings.tickets is None else Tickets.open(Path(settings.tickets)),
            config=_config(settings),
            calibration=_calibration(settings),
            epsilon=None if settings.choose is None else settings.choose[0],
        )
        corpus = read_text(settings.first_text(data))
        tuned = RowPatch.open(Path(tuned_folder))
        checkpoint = open_checkpoint(model)
        tuned.check_base(checkpoint)
        scan = scan_of_patch(checkpoint, tuned, settings.scan)
        spec = spec.with_prompt(tuned.prompt)
        manifest = certification_manifest(spec, checkpoint, tuned, scan, corpus)
        done = work is not None and work.is_done(manifest)
        tokenized = tokenizer_of(checkpoint, trust_remote_code=settings.trust_remote_code)
        ready = None if done else prepare_certification(spec, tokenized, tuned, scan, corpus)
    if work is not None and done:
        _show(settings, screen, saved_certificate(work.out), spec)
        return 0
    with screen.stage("load model", silent=silent):
        loaded = load_model(
            checkpoint, dtype=settings.dtype, device=settings.device, trust_remote_code=settings.trust_remote_code
        )
    with screen.stage("predictions of every model", silent=silent) as tick:
        certified = certify_with(spec, loaded, tuned, scan, corpus, ready=ready, tick=tick)
    if work is not None:
        with work.publish(manifest) as folder:
            certified.save(folder)
    if certified.overlong and not silent:
        screen.say(f"        {certified.overlong:,} sentences left out as longer than {settings.max_tokens} tokens")
    if not silent:
        screen.say(
            f"        {certified.computed:,} of {certified.passes:,} tokens computed, the rest shared between models"
        )
    _show(settings, screen, certified.certificate, spec)
    return 0


def _show(settings: CertifySettings, screen: Screen, certificate: Certificate, spec: CertifySpec) -> None:
    from ks_lottery.certification.certificate_sections import certificate_sections
    from ks_lottery.report.terminal import print_sections
    from ks_lottery.store.files import to_json

    content = certificate.as_dict()
    if settings.json:
        write(to_json(content))
        return
    title = "Certificate of partial transfers" if spec.transfers else "Certificate of small models"
    print_sections(screen.console, certificate_sections(content, title, rule=settings.rule, examples=settings.examples))
    if settings.out is not None:
        screen.say(f"\nThe certificate and all predictions are written to {settings.out}.")
        screen.say(see_it(settings.out))


def _check_given(settings: CertifySettings) -> tuple[str, str, str]:
    """Return model, tuned and data, which all but --recheck need."""
    needed = {"MODEL": settings.model, "`tuned`": settings.tuned, "`data`": settings.data}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise UserError(f"certify needs {', '.join(missing)}; ks-lottery certify --help lists all settings")
    return str(settings.model), str(settings.tuned), str(settings.data)


def _recheck(settings: CertifySettings, folder: str) -> int:
    """Recompute what a folder guarantees, print old and new, and return 1 where one differs."""
    from ks_lottery.certification.recheck import recheck, recheck_section
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.files import to_json

    given = [name for name in ("model", "tuned", "data", "out", "tickets", "calibration") if getattr(settings, name)]
    if given:
        raise UserError(f"`recheck` reads the files of a folder alone: leave {given[0]} out")
    results = recheck(folder)
    if settings.json:
        write(
            to_json(
                {
                    "rechecked": [
                        {"certificate": r.certificate, "model": r.model, "claim": r.claim, "same": r.same,
                         "differing": r.differing, "saved": dict(r.saved), "computed": dict(r.computed)}
                        for r in results
                    ]
                }
            )
        )  # fmt: skip
    else:
        Screen().show([recheck_section(results)])
    return 0 if all(one.same for one in results) else 1


def _config(settings: CertifySettings) -> CertifyConfig:
    config = CertifyConfig(**shared(settings, CertifyConfig))
    delta = settings.delta if settings.choose is None else settings.choose[1]
    return replace(config, alphas=tuple(dict.fromkeys(config.alphas)), delta=delta)


def _calibration(settings: CertifySettings) -> Corpus | float | None:
    """Return the share or number of sentences to draw, or the text to calibrate on."""
    from ks_lottery.corpus.source import read_text

    if settings.calibration is None:
        return None
    for kind in (int, float):
        try:
            number = kind(settings.calibration)
        except ValueError:
            continue
        if math.isfinite(number):
            if settings.calibration_target is not None:
                raise UserError(
                    "`calibration_target` belongs to a calibration text, and `calibration` is a number here"
                )
            return number
    return read_text(settings.second_text(settings.calibration, settings.calibration_target))
