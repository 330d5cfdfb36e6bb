"""What an evaluation measures, and how: the one settings class of the library call, the command and the stages of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.config.measure_commands import EvaluateOptions
from ks_lottery.errors import UserError
from ks_lottery.evaluation.against import check_other
from ks_lottery.evaluation.scores import SCORED, check_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAVED = (
    "metrics", "language", "positions", "translations", "num_beams", "max_new_tokens", "generation", "batch_size",
    "share_prefix", "template", "max_tokens", "resamples", "confidence", "seed",
)  # fmt: skip
"""Settings that the numbers depend on, in the order in which they are saved."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec(EvaluateOptions):
    """Settings of an evaluation.

    Parameters
    ----------
    metrics
        Keys of `config.choices.METRICS`: ``accuracy`` is next-token accuracy and loss, all others score translations.
    language
        Count the outputs that are in the target language.
    positions
        First target positions of a sentence that accuracy and loss count; None for all.
    translations
        First sentences that are translated and scored; None for all. Accuracy and loss count every sentence.
    num_beams, max_new_tokens
        Beams of the search (1 is greedy), and the longest translation in tokens. The paper's setting is 4 and 256.
    generation
        Further settings of `generate`, such as ``length_penalty``.
    batch_size
        Sentences at a time.
    share_prefix
        Compute what all prompts begin with once.
    template
        Prompt: one of `ks_lottery.config.choices.TEMPLATES`, or a text of your own; None for the patch's own or ``alpaca``.
    max_tokens
        Longest example; longer ones are left out and counted. None refuses a text with an example beyond the model's context.
    spm
        SentencePiece models for spBLEU, by name of the tokenizer.
    against
        Folders of other evaluations of the same text, which this one is compared with by a paired bootstrap.
    resamples, confidence, seed
        Number of resamples of the bootstrap over sentences (0 for no intervals), level of the intervals, and the seed, which
        also decides what ``do_sample`` draws.

    Raises
    ------
    UserError
        When a metric does not exist, a value is out of its range, or a folder of `against` has no translations.
    """

    language: bool = False
    spm: Mapping[str, Path] = field(default_factory=dict)
    against: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        """Check names, ranges and folders."""
        super().__post_init__()
        check_metrics(self.metrics)
        for folder in self.against:
            check_other(Path(folder), translated=bool(self.scored))
        if self.against and not self.resamples:
            raise UserError("`against` compares by a bootstrap, and `resamples` is 0: give 1 or more")

    @property
    def scored(self) -> tuple[str, ...]:
        """Metrics that score translations."""
        return tuple(name for name in check_metrics(self.metrics) if name in SCORED)

    @property
    def translates(self) -> bool:
        """Whether sentences are translated."""
        return bool(self.scored) or self.language

    @property
    def predicts(self) -> bool:
        """Whether next tokens are predicted."""
        return "accuracy" in self.metrics

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The settings ``resamples``, ``confidence`` and ``seed``."""
        return {"confidence": self.confidence, "resamples": self.resamples, "seed": self.seed}

    def as_dict(self) -> dict[str, Any]:
        """Return every setting that the numbers depend on, as plain values; paths are left out."""
        settings = {name: getattr(self, name) for name in SAVED}
        return {**settings, "metrics": list(self.metrics), "generation": dict(self.generation)}
