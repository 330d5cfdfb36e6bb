"""How `where` measures: the one settings class of the library call and the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ks_lottery.config.measure_commands import WhereOptions
from ks_lottery.errors import UserError
from ks_lottery.evaluation.scores import SCORED, check_metrics


@dataclass(frozen=True, kw_only=True)
class WhereSpec(WhereOptions):
    """Settings of `where`.

    Parameters
    ----------
    controls
        Measure other prompts, and other rows or values, too.
    paraphrase
        A prompt of the user's own for the controls: an instruction, or a template with ``{source}``; it switches them on.
    translate
        First sentences that are translated too, greedily; None for none.
    by_sentence
        Keep what each sentence adds to accuracy and loss, in each combination of spans.
    metrics
        Of the translations: keys of `config.choices.METRICS` but ``accuracy``.
    max_new_tokens
        Longest translation in tokens.
    template, max_tokens
        Prompt, None for the patch's own or ``alpaca``; and the longest example, longer ones being left out and counted. None
        refuses text beyond the model's context.
    batch_size, share_prefix
        Sentences at a time; compute what all prompts begin with once.
    resamples, confidence, seed
        Resamples of the bootstrap over sentences, level of the intervals, and the seed, also of random directions and of the
        shuffling.

    Raises
    ------
    UserError
        When a metric does not exist, or a value is out of its range.
    """

    def __post_init__(self) -> None:
        """Check names and ranges."""
        super().__post_init__()
        for name in check_metrics(self.metrics):
            if name not in SCORED:
                raise UserError(f"`metrics` holds {name}, which is measured in any case: leave it out")
        if not self.resamples:
            raise UserError("`resamples` is 0, but what follows depends on the intervals: give 1 or more")
        if self.paraphrase is not None and not self.paraphrase.strip():
            raise UserError("`paraphrase` is empty: give an instruction, or a template with {source}")

    @property
    def controlled(self) -> bool:
        """Whether controls are measured."""
        return self.controls or self.paraphrase is not None

    @property
    def stages(self) -> int:
        """Number of stages that a progress display counts."""
        return 1 + self.controlled + (self.translate is not None)

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The settings ``resamples``, ``confidence`` and ``seed``."""
        return {"confidence": self.confidence, "resamples": self.resamples, "seed": self.seed}

    def as_dict(self) -> dict[str, Any]:
        """Return every setting that the numbers depend on, as plain values."""
        names = (
            "controls", "paraphrase", "translate", "by_sentence", "metrics", "max_new_tokens", "template", "max_tokens",
            "batch_size", "share_prefix", "resamples", "confidence", "seed",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "metrics": list(self.metrics)}
