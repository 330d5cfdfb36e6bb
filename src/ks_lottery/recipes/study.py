"""What the stages of a recipe share: models that are loaded when they are needed, the texts, and how things are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.batches import Example, encode
from ks_lottery.corpus.mixed_templates import is_mixed
from ks_lottery.errors import UserError
from ks_lottery.evaluation.evaluate import predict_general
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.evaluation.general_text import general_sentences
from ks_lottery.models.load import load_tokenizer, open_checkpoint
from ks_lottery.models.tokenized import UnloadedModel
from ks_lottery.models.vocabulary import token_strings
from ks_lottery.store.manifest import digest_json
from ks_lottery.tuning.token_prompt import places_and_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.recipes.one_model import OneModel
    from ks_lottery.recipes.recipe_scale import RecipeScale

BATCH = 32
"""Sentences a batch in which models are measured."""

UNIMPORTANT = ("_name_or_path", "transformers_version")
"""Entries of a model's config that change no number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One model and one pair of languages.

    Parameters
    ----------
    name, pair
        What the user called the model; and the pair, such as ``en-ca``.
    train, test
        Texts to train on and to measure on.
    template, max_tokens
        How they are shown to the model, and the longest example.
    scale
        Settings of a training (`RecipeScale.training_of`), and how translations are made.
    spm
        SentencePiece models that translations are scored with too, by the name of the tokenizer.
    variant
        What names of stages and inputs add, where prompt, training or rows are not those of the recipe (`shown_in`,
        `trained_by`, `called`).
    """

    name: str
    pair: str
    checkpoint: Checkpoint
    models: OneModel
    train: Corpus
    test: Corpus
    template: str
    max_tokens: int
    scale: RecipeScale
    spm: Mapping[str, Path] = field(default_factory=dict[str, Path])
    variant: str = ""

    def shown_in(self, template: str) -> Study:
        """Return the same model and texts in another prompt; with stages of its own, but for what does not depend on it."""
        return replace(self, template=template, variant=f" in prompt {template}")

    def trained_by(self, training: TrainConfig, variant: str) -> Study:
        """Return the same model and texts with one training for every method, under names that end in `variant`."""
        return replace(self, scale=replace(self.scale, training=training, rates={}, preset=None), variant=variant)

    def called(self, variant: str) -> Study:
        """Return the same study with stages of other names, such as for rows that were chosen on another text."""
        return replace(self, variant=variant)

    def titled(self, title: str) -> str:
        """Return what the screen calls a stage."""
        return f"{self.pair}, {self.name.rstrip('/').rsplit('/', maxsplit=1)[-1]}: {title}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: what they imply is made anew, in processes that train."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def before_training(self) -> None:
        """Load the model; or free its memory, where processes of their own load it."""
        if self.models.processes > 1:
            self.models.release()
        else:
            self.models.load(self.checkpoint)

    @property
    def loaded(self) -> LoadedModel:
        """The model; loaded when the first stage asks for it."""
        return self.models.load(self.checkpoint)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, which needs no model."""
        return load_tokenizer(self.checkpoint, trust_remote_code=self.models.trust_remote_code)

    @cached_property
    def tokens(self) -> list[str]:
        """Each row's token, safe to print."""
        return token_strings(self.tokenizer, self.checkpoint.vocabulary)

    @cached_property
    def train_examples(self) -> list[Example]:
        """Training examples; those that are too long are left out."""
        return self._examples(self.train, spans=True)

    @cached_property
    def test_examples(self) -> list[Example]:
        """Examples that are measured on."""
        return self._examples(self.test)

    def _examples(self, corpus: Corpus, *, spans: bool = False) -> list[Example]:
        examples = encode(self.tokenizer, corpus, template=self.template, max_tokens=self.max_tokens, spans=spans)[0]
        if not examples:
            raise UserError(f"{corpus.origin}: no example fits into {self.max_tokens} tokens. Give shorter sentences.")
        return examples

    def own_prompts(self, sizes: Sequence[int]) -> list[int | None]:
        """Return the sizes that a prompt of its own tokens can have (`ks_lottery.tuning.token_prompt`).

        Parameters
        ----------
        sizes
            Numbers of tokens that are asked for.

        Returns
        -------
        list
            Those of them that the template has places for and the vocabulary tokens; None, one token a place, if all places
            can be taken. Empty where the template is a mix of several, or does not show where the source is.
        """
        if is_mixed(self.template):
            return []
        try:
            counts, free = places_and_tokens(UnloadedModel(self.checkpoint, self.tokenizer), self.train, self.template)
        except UserError:  # a chat template that changes the source: no prompt of its own can be made from it
            return []
        places = sum(counts)
        whole = [None] if 0 < places <= len(free) else []
        return [*(size for size in sizes if size <= min(places, len(free)) and not (whole and size == places)), *whole]

    @cached_property
    def general(self) -> list[str]:
        """General text, on which forgetting is measured: the source side of the test text."""
        return general_sentences(self.test)

    @cached_property
    def general_original(self) -> Predictions:
        """What the original model predicts on the general text."""
        spec = EvaluationSpec(metrics=("accuracy",), batch_size=BATCH, max_tokens=self.max_tokens)
        return predict_general(spec, self.loaded, self.general)

    @property
    def prompt(self) -> dict[str, Any]:
        """Settings by which the texts become examples."""
        return {"template": self.template, "max_tokens": self.max_tokens}

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digest of each input by its name: of weights and config, and of each text as tokens, so of the tokenizer too."""
        config = {name: value for name, value in self.checkpoint.config.items() if name not in UNIMPORTANT}
        return {
            self.model_input: digest_json([self.checkpoint.fingerprint, config]),
            self.train_input: _digest(self.train, self.train_examples),
            self.test_input: _digest(self.test, self.test_examples),
        }

    @property
    def model_input(self) -> str:
        """Name of the model as an input."""
        return f"model {self.name}"

    @property
    def train_input(self) -> str:
        """Name of the training text, in tokens of the model, as an input."""
        return f"training text {self.pair}{self.variant} for {self.name}"

    @property
    def test_input(self) -> str:
        """Name of the test text, in tokens of the model, as an input."""
        return f"test text {self.pair}{self.variant} for {self.name}"

    @property
    def model_bytes(self) -> int:
        """Memory of the model in the type that it runs in."""
        parameters = sum(math.prod(tensor.shape) for tensor in self.checkpoint.tensors.values())
        return parameters * (2 if self.models.dtype == "bfloat16" else 4)

    @cached_property
    def reachable(self) -> int:
        """Number of tokens that the training text has, which embed tuning trains a row each of."""
        return len({token for example in self.train_examples for token in example.sequence})


def _digest(corpus: Corpus, examples: Sequence[Example]) -> str:
    return digest_json([corpus.fingerprint, [[example.prompt, example.response] for example in examples]])


def open_study_model(name: str) -> Checkpoint:
    """Open a model of a recipe, and check that it has one embedding.

    Raises
    ------
    UserError
        When it cannot be read.
    """
    checkpoint = open_checkpoint(name)
    _ = checkpoint.embedding
    return checkpoint
