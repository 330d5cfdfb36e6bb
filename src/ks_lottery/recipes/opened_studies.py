"""Opens the models and texts of recipes, each once, however many recipes need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ks_lottery.recipes.study import Study, open_study_model
from ks_lottery.recipes.study_texts import parse_pair, study_texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.recipe_commands import ReproduceOptions
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.recipes.one_model import OneModel
    from ks_lottery.recipes.recipe_scale import RecipeScale


@dataclass(kw_only=True)
class OpenedStudies:
    """Models and texts that are open.

    Parameters
    ----------
    models
        What loads the models.
    spm
        SentencePiece models that translations are scored with, by the name of the tokenizer.
    """

    models: OneModel
    spm: Mapping[str, Path]
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict[str, "Checkpoint"])
    texts: dict[tuple[str | int | None, ...], tuple[Corpus, Corpus]] = field(
        default_factory=dict[tuple["str | int | None", ...], "tuple[Corpus, Corpus]"]
    )

    def studies(self, options: ReproduceOptions, scale: RecipeScale) -> list[Study]:
        """Return each model with each pair of languages of a recipe.

        Parameters
        ----------
        options
            Of the recipe, with its models and pairs.
        scale
            Size of the recipe.

        Raises
        ------
        UserError
            When a model or a text cannot be read.
        """
        for pair in options.pairs:
            parse_pair(pair)
        texts = {pair: self._text(options, pair, scale) for pair in options.pairs}
        studies: list[Study] = []
        for name in options.model:
            if name not in self.checkpoints:
                self.checkpoints[name] = open_study_model(name)
            for pair, (train, test) in texts.items():
                study = Study(
                    name=name, pair=pair, checkpoint=self.checkpoints[name], models=self.models, train=train, test=test,
                    template=options.template, max_tokens=scale.max_tokens, scale=scale, spm=self.spm,
                )  # fmt: skip
                studies.append(study)
        return studies

    def _text(self, options: ReproduceOptions, pair: str, scale: RecipeScale) -> tuple[Corpus, Corpus]:
        key = (pair, len(options.pairs), scale.max_train, scale.max_test)  # one file may not stand for several pairs
        if key not in self.texts:
            self.texts[key] = study_texts(options, pair, scale)
        return self.texts[key]
