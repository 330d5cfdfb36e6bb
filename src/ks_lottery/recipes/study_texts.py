"""The texts of a recipe, for each pair of languages: one to train on, and another one to measure on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ks_lottery.config.choices import CATALOGS
from ks_lottery.config.groups import TextSource
from ks_lottery.corpus.selection import hold_out, keep_useful, sentence_key
from ks_lottery.corpus.source import read_text
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.config.recipe_commands import ReproduceOptions
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.recipes.recipe_scale import RecipeScale

HELD_OUT = 0.2
"""Share of the training text that is measured on where no other text is given."""


def parse_pair(pair: str) -> tuple[str, str]:
    """Return source and target language of a pair such as ``en-ca`` or ``en-zh-Hans``.

    Raises
    ------
    UserError
        When it is no pair.
    """
    source, dash, target = pair.partition("-")
    if not (source and dash and target):
        raise UserError(f"`pairs`: {pair!r} is no pair of languages. Give SOURCE-TARGET, such as en-ca.")
    return source, target


def study_texts(options: ReproduceOptions, pair: str, scale: RecipeScale) -> tuple[Corpus, Corpus]:
    """Read the text to train on, cleaned as a run does, and the text to measure on, cut to the scale.

    Raises
    ------
    UserError
        When a text cannot be read, one file stands for several pairs, or the two texts share a source sentence.
    """
    train, report = keep_useful(read_text(_source(options.train, "train", pair, options.pairs)))
    if not len(train):
        raise UserError(f"{train.origin}: no usable pair ({report.sentence()}). Give another text.")
    if options.data is None:
        train, test = hold_out(train, HELD_OUT)
    else:
        test = read_text(_source(options.data, "data", pair, options.pairs))
        check_apart(train, test)
    train = train if scale.max_train is None else train.head(scale.max_train)
    return train, test if scale.max_test is None else test.head(scale.max_test)


def _source(name: str, parameter: str, pair: str, pairs: Sequence[str]) -> TextSource:
    source, target = parse_pair(pair)
    path = re.sub(r"\{(source|target)\}", lambda match: source if match[1] == "source" else target, name)
    if path == name and len(pairs) > 1 and name != CATALOGS:
        raise UserError(
            f"`{parameter}`: {name} is one text, but there are {len(pairs)} pairs. Write {{target}} into its name where the "
            "language is."
        )
    return TextSource(path=path, source_language=source, target_language=target)


def check_apart(train: Corpus, test: Corpus) -> None:
    """Refuse a test text that has a source sentence of the training text.

    Raises
    ------
    UserError
        Naming the first such sentence.
    """
    known = {sentence_key(pair.source) for pair in train}
    both = [pair.source for pair in test if sentence_key(pair.source) in known]
    if both:
        raise UserError(
            f"`data`: {len(both):,} of {len(test):,} source sentences of {test.origin} are in the training text too, the first "
            f"is {both[0][:60]!r}. Give a text that was not trained on."
        )
