"""The demo: the main job on the embedded model and text, at a size that a laptop finishes in minutes.

Must never differ from a run of the same config through `ks-lottery run`.
"""

from __future__ import annotations

from ks_lottery.config.job_commands import DemoSettings
from ks_lottery.config.settings import CertifyConfig, EvaluateConfig, RunConfig, TextConfig, TrainConfig
from ks_lottery.errors import UserError

BUDGETS: dict[str, RunConfig] = {
    "default": RunConfig(
        text=TextConfig(max_train=180, max_test=64),
        train=TrainConfig(learning_rate=1.5e-2, epochs=1.0, batch_size=4),
        certify=CertifyConfig(alphas=(0.05, 0.2, 0.5, 1.0)),
        evaluate=EvaluateConfig(translations=6, num_beams=4, max_new_tokens=40, where_sentences=20),
    ),
    "smoke": RunConfig(
        text=TextConfig(max_train=40, max_test=16),
        train=TrainConfig(learning_rate=3e-2, epochs=1.0, batch_size=4),
        certify=CertifyConfig(alphas=(0.05, 0.5, 1.0)),
        evaluate=EvaluateConfig(translations=2, num_beams=1, max_new_tokens=24, where_sentences=8, resamples=500),
    ),
}
"""Budget to config. The scale is not the paper's: d = 576 makes the test blind to what lr 2e-5 moves (docs/method.md)."""


def demo_config(
    target_language: str = DemoSettings.target_language,
    budget: str = DemoSettings.budget,
    seed: int = DemoSettings.seed,
) -> RunConfig:
    """Return the config of the demo.

    Parameters
    ----------
    target_language
        Language to translate to, a code that the catalogs have.
    budget
        ``default``: 4 to 6 minutes on two cores; ``smoke``: 1 to 2 minutes, to see that everything works.
    """
    if budget not in BUDGETS:
        raise UserError(f"budget {budget} is not known; there are {', '.join(BUDGETS)}")
    from dataclasses import replace

    base = BUDGETS[budget]
    return replace(base, text=replace(base.text, target_language=target_language), seed=seed)
