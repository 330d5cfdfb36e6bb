"""The main job: config in, run folder out; the same command resumes where an earlier one stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ks_lottery.config.groups import TextSource
from ks_lottery.corpus.mixed_templates import resolved_template
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.source import load_text
from ks_lottery.evaluation.general_text import general_sentences, general_text
from ks_lottery.models.load import open_checkpoint
from ks_lottery.models.tokenized import tokenizer_of
from ks_lottery.recipes.executor import execute
from ks_lottery.recipes.job import Job
from ks_lottery.recipes.run_stages import main_recipe
from ks_lottery.store.files import read_json
from ks_lottery.store.run_folder import RunFolder
from ks_lottery.store.work_folder import other_threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ks_lottery.config.settings import EvaluateConfig, RunConfig
    from ks_lottery.corpus.selection import Split
    from ks_lottery.recipes.stage import Recipe
    from ks_lottery.report.screen import Screen


def run(
    config: RunConfig, path: Path, screen: Screen, recipe_of: Callable[[Job], Recipe] = main_recipe
) -> dict[str, Any]:
    """Do the main job, or what is missing of it, and return its summary.

    Parameters
    ----------
    path
        Folder of the run; made by an earlier call with the same config, or new.
    screen
        Where progress is shown.
    recipe_of
        Makes the recipe of a job; by default the main job.

    Raises
    ------
    UserError
        For bad input, a folder of another config, a full disk, or when another process works in the folder.
    """
    folder = RunFolder(path)
    config = replace(config, text=replace(config.text, template=resolved_template(config.text.template)))
    with screen.stage("open model and text"):
        job = _prepare(config, folder)
    recipe = recipe_of(job)
    screen.total = len(recipe.stages)
    with folder.locked():
        threads = torch.get_num_threads()
        names = {"model": "model", "text": "corpus", "general text": "general"}
        inputs = {name: recipe.inputs[each] for name, each in names.items()}
        inputs |= {} if recipe_of is main_recipe else {"recipe": recipe.name}
        before = folder.claim(config, inputs, threads)
        if before != threads and not folder.summary.is_file():
            screen.say(f"        {other_threads(before, threads)}")
        execute(recipe, folder, screen)
    return read_json(path / "summary.json")


def _prepare(config: RunConfig, folder: RunFolder) -> Job:
    """Read the text, then open the model, which may have to be fetched first; check both before anything is written."""
    folder.check(config)
    split, report = load_text(config.text)
    general = general_of(config.evaluate, split)
    checkpoint = open_checkpoint(config.model.name)
    _ = checkpoint.embedding
    tokenized = tokenizer_of(checkpoint, trust_remote_code=config.model.trust_remote_code)
    PromptForm(tokenized.tokenizer, config.text.template)
    if general:
        general_text(tokenized, general, max_tokens=config.text.max_tokens)
    return Job(config=config, folder=folder, checkpoint=checkpoint, split=split, report=report, general=general)


def general_of(config: EvaluateConfig, split: Split) -> list[str]:
    """Return the general text of a run: what ``evaluate.general`` names, else the source side of its test pairs.

    Pairs without a source, and text of one language, have no such side: forgetting is then not measured, and the list is empty.

    Raises
    ------
    UserError
        When the text cannot be read.
    """
    if config.general is None:
        return general_sentences(split.test) if all(pair.source for pair in split.test) else []
    return general_sentences(TextSource(path=config.general, format=config.general_format))
