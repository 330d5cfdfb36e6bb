"""The command `agree`: how often models answer like a reference, guaranteed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.cli.streams import write
from ks_lottery.config.measure_commands import AgreeOptions
from ks_lottery.config.values import shared

if TYPE_CHECKING:
    from ks_lottery.certification.agreed import Agreed
    from ks_lottery.config.measure_commands import AgreeSettings
    from ks_lottery.report.screen import Screen


def run(settings: AgreeSettings) -> int:
    """Run the command and return its exit code: 1 where what was asked for is not guaranteed."""
    from ks_lottery.certification.agree import RESERVED, agree_with, agreement_manifest
    from ks_lottery.certification.agree_spec import AgreeSpec
    from ks_lottery.certification.agree_text import open_agree_text, prepare_agreement, spec_for
    from ks_lottery.certification.agreed import Agreed
    from ks_lottery.models.opened_model import open_models
    from ks_lottery.report.screen import Screen
    from ks_lottery.store.work_folder import WorkFolder

    epsilon, delta = (None, settings.delta) if settings.choose is None else settings.choose
    spec = replace(AgreeSpec(**shared(settings, AgreeOptions), epsilon=epsilon), delta=delta)
    count = 1 + len(settings.candidates)
    screen, silent = Screen(total=1 + count * (1 + spec.generate)), bool(settings.json)
    work = None if settings.out is None else WorkFolder(Path(settings.out))
    how = {"dtype": settings.dtype, "device": settings.device}
    with screen.stage("open models and text", silent=silent):
        corpus = open_agree_text(settings.first_text(settings.data))
        models = open_models(
            [settings.reference, *settings.candidates],
            base=settings.base, reserved=RESERVED, trust_remote_code=settings.trust_remote_code,
        )  # fmt: skip
        spec = spec_for(spec, models)
        manifest = agreement_manifest(spec, models, corpus, how)
        done = work is not None and work.is_done(manifest)
        texts = None if done else prepare_agreement(spec, models, corpus)
    if work is not None and done:
        return _show(settings, screen, Agreed.open(work.out))
    agreed = agree_with(
        spec, models, corpus, texts=texts, how=how, trust_remote_code=settings.trust_remote_code,
        stage=partial(screen.stage, silent=silent, unit="sentences"),
    )  # fmt: skip
    if work is not None:
        with work.publish(manifest) as folder:
            agreed.save(folder)
    if agreed.overlong and not silent:
        screen.say(f"        {agreed.overlong:,} sentences left out as longer than {settings.max_tokens} tokens")
    return _show(settings, screen, agreed)


def _show(settings: AgreeSettings, screen: Screen, agreed: Agreed) -> int:
    from ks_lottery.store.files import to_json

    if settings.json:
        write(to_json(agreed.as_dict()))
    else:
        screen.show(agreed.sections())
        if settings.out is not None:
            screen.say(f"\nWritten to {settings.out}, with every answer.")
    return 0 if agreed.passed else 1
