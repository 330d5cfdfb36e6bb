"""Several pairs of languages as one study: all texts are trained on together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ks_lottery.corpus.corpus import Corpus
from ks_lottery.recipes.study import Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.corpus.batches import Example


@dataclass(frozen=True, kw_only=True, eq=False)
class JointStudy(Study):
    """The training texts of several studies of one model, one after the other; each example has the instruction of its pair.

    Parameters
    ----------
    parts
        The studies.
    """

    parts: Sequence[Study]

    @cached_property
    def train_examples(self) -> list[Example]:
        """Training examples of every part."""
        return [example for part in self.parts for example in part.train_examples]

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digests of the model and of the training text; the text to measure on is that of each part."""
        return {name: digest for name, digest in super().inputs.items() if name != self.test_input}


def joint_study(parts: Sequence[Study]) -> JointStudy:
    """Return the study of all texts together.

    Parameters
    ----------
    parts
        Studies of one model, each of another pair, shown in one prompt.
    """
    first = parts[0]
    train = Corpus(
        pairs=tuple(pair for part in parts for pair in part.train),
        source_language="+".join(dict.fromkeys(part.train.source_language for part in parts)),
        target_language="+".join(dict.fromkeys(part.train.target_language for part in parts)),
        origin="+".join(dict.fromkeys(part.train.origin for part in parts)),
    )
    return JointStudy(
        name=first.name, pair="+".join(part.pair for part in parts), checkpoint=first.checkpoint, models=first.models,
        train=train, test=first.test, template=first.template, max_tokens=first.max_tokens, scale=first.scale,
        parts=tuple(parts),
    )  # fmt: skip
