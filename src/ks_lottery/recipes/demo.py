"""The demos: a job on an embedded model and text, at a size that a laptop finishes in minutes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import DEFAULT_MODEL, GEMMA_MODEL
from ks_lottery.config.job_commands import DemoSettings
from ks_lottery.config.settings import CertifyConfig, EvaluateConfig, ModelConfig, RunConfig, TextConfig, TrainConfig
from ks_lottery.errors import UserError
from ks_lottery.recipes.few_rows import few_rows_recipe
from ks_lottery.recipes.few_rows_sections import few_rows_sections
from ks_lottery.recipes.run_stages import main_recipe
from ks_lottery.recipes.summary_sections import run_sections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ks_lottery.recipes.job import Job
    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.report.section import Section


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What a demo does.

    Parameters
    ----------
    budgets
        Budget to config.
    recipe, sections
        The job, and what is shown of its summary.
    """

    budgets: Mapping[str, RunConfig]
    recipe: Callable[[Job], Recipe]
    sections: Callable[[Mapping[str, Any], str], list[Section]]


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
"""The main job on the default model. The scale is not the paper's: d = 576 makes the test blind to what lr 2e-5 moves
(docs/method.md)."""

GEMMA_BUDGETS: dict[str, RunConfig] = {
    "default": RunConfig(
        model=ModelConfig(name=GEMMA_MODEL),
        text=TextConfig(max_train=160, max_test=40),
        train=TrainConfig(learning_rate=5e-3, epochs=1.0, batch_size=8),
        evaluate=EvaluateConfig(translations=16, num_beams=1, max_new_tokens=40),
    ),
    "smoke": RunConfig(
        model=ModelConfig(name=GEMMA_MODEL),
        text=TextConfig(max_train=64, max_test=16),
        train=TrainConfig(learning_rate=1e-2, epochs=1.0, batch_size=8),
        evaluate=EvaluateConfig(translations=4, num_beams=1, max_new_tokens=24, resamples=500),
    ),
}
"""The short job on Gemma 3 270M."""

DEMOS = {
    DEFAULT_MODEL.removeprefix("asset:"): Demo(budgets=BUDGETS, recipe=main_recipe, sections=run_sections),
    GEMMA_MODEL.removeprefix("asset:"): Demo(budgets=GEMMA_BUDGETS, recipe=few_rows_recipe, sections=few_rows_sections),
}
"""Model to its demo. That of the default model must never differ from a run of the same config through `ks-lottery run`."""


def demo_of(model: str) -> Demo:
    """Return the demo of an embedded model, with or without ``asset:`` before its name.

    Raises
    ------
    UserError
        When there is none.
    """
    demo = DEMOS.get(model.removeprefix("asset:"))
    if demo is None:
        raise UserError(f"model {model} has no demo; there are {', '.join(DEMOS)}")
    return demo


def demo_config(
    target_language: str = DemoSettings.target_language,
    budget: str = DemoSettings.budget,
    seed: int = DemoSettings.seed,
    model: str = DemoSettings.model,
) -> RunConfig:
    """Return the config of a demo.

    Parameters
    ----------
    target_language
        Language to translate to, a code that the catalogs have.
    budget
        ``default`` or ``smoke``, to see that everything works; `ks_lottery.config.choices.BUDGETS` has their times.
    model
        ``smollm2-135m-instruct``: the main job; ``gemma3-270m``: the short job.
    """
    budgets = demo_of(model).budgets
    if budget not in budgets:
        raise UserError(f"budget {budget} is not known; there are {', '.join(budgets)}")
    base = budgets[budget]
    return replace(base, text=replace(base.text, target_language=target_language), seed=seed)
