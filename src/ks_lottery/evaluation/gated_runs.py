"""The passes of `where`: predictions and translations of one text, with the rows active in each combination of spans."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ks_lottery.config.choices import SPANS
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.corpus.source_span import source_tokens
from ks_lottery.evaluation.patches import Gate, predict_patches
from ks_lottery.evaluation.scores import score
from ks_lottery.evaluation.translate import translate
from ks_lottery.evaluation.where import EVERYWHERE, NOWHERE
from ks_lottery.models.gate import gated, marked
from ks_lottery.models.sides import installed_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.evaluation.effects import Effect
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.evaluation.patches import Shared
    from ks_lottery.evaluation.where_spec import WhereSpec
    from ks_lottery.models.load import LoadedModel

    Tick = Callable[[int, int], None]

COMBINATIONS = {
    NOWHERE: (),
    **{" and ".join(spans): spans for count in range(1, len(SPANS)) for spans in itertools.combinations(SPANS, count)},
    EVERYWHERE: tuple(SPANS),
}
"""Name of each combination of spans to its spans."""

RUN_ORDER = sorted(COMBINATIONS, key=lambda name: [span in COMBINATIONS[name] for span in SPANS])
"""The combinations in an order in which each shares as much as can be with the one before it: its beginning."""


def _gate(sources: Sequence[Sequence[bool]], active: Sequence[str]) -> Gate:
    """Return a gate that is open in some spans; `sources` has a mask for each prompt."""
    within, without = "source" in active, "instruction" in active
    return Gate(prompts=[[within if here else without for here in mask] for mask in sources], rest="target" in active)


def predict_spans(
    loaded: LoadedModel, patch: RowPatch, text: MeasuredText, spec: WhereSpec, tick: Tick | None = None
) -> Shared:
    """Predict a text whose examples know their source, with the rows of a patch active in each combination of spans."""
    sources = [e.in_source or () for e in text.examples]
    return predict_patches(
        loaded.lm,
        {name: patch if COMBINATIONS[name] else patch.restrict(patch.ids[:0]) for name in RUN_ORDER},
        text.examples,
        batch_size=spec.batch_size,
        share_prefix=spec.share_prefix,
        gates={name: _gate(sources, COMBINATIONS[name]) for name in RUN_ORDER},
        tick=tick,
    )


def translated_spans(
    loaded: LoadedModel,
    patch: RowPatch,
    text: MeasuredText,
    spec: WhereSpec,
    spans: Mapping[str, Effect],
    tick: Tick | None,
) -> tuple[dict[str, Effect], dict[str, str]]:
    """Add scores and the ended share of greedy translations to the effects, and return the signatures."""
    pairs = text.corpus.pairs[: spec.translate]
    form = PromptForm(loaded.tokenizer, spec.shown_as, (text.corpus.source_language, text.corpus.target_language))
    told, sources = orders(text.corpus)[: len(pairs)], [pair.source for pair in pairs]
    prompts = form.prompts(told, sources)
    masks = [mask or () for mask in source_tokens(form, told, sources, prompts)]
    context = loaded.checkpoint.context
    room = spec.max_new_tokens if context is None else context - max(len(prompt) for prompt in prompts)
    settings: dict[str, Any] = {
        "num_beams": 1, "max_new_tokens": max(1, min(spec.max_new_tokens, room)), "batch_size": spec.batch_size,
        "share_prefix": spec.share_prefix, "seed": spec.seed,
    }  # fmt: skip
    translated: dict[str, Effect] = {}
    signatures: dict[str, str] = {}
    for number, (name, effect) in enumerate(spans.items()):
        gate = _gate(masks, COMBINATIONS[name])
        within = tick and partial(shifted, tick, number * len(pairs), len(spans) * len(pairs))
        with ExitStack() as held:
            asked = prompts
            if COMBINATIONS[name]:
                held.enter_context(installed_patch(loaded.lm, patch))
                held.enter_context(gated(loaded.lm, rest=gate.rest))
                both = zip(prompts, gate.prompts, strict=True)
                asked = [marked(prompt, active, rest=gate.rest) for prompt, active in both]
            outputs = translate(loaded.lm, form, asked, **settings, tick=within)
        scored = score(
            [output.sentence for output in outputs],
            [pair.target for pair in pairs],
            metrics=spec.metrics,
            target_language=text.corpus.target_language,
            resamples=0,
            seed=spec.seed,
        )
        signatures = {metric: value.signature for metric, value in scored.metrics.items()} | scored.missing
        translated[name] = replace(
            effect,
            ended=sum(output.ended for output in outputs) / len(outputs),
            scores={metric: value.score for metric, value in scored.metrics.items()},
        )
    return translated, signatures


def shifted(tick: Tick, before: int, total: int, done: int, _: int) -> None:
    """Tick for one of several passes: `before` sentences were done by those before it, of `total` in all."""
    tick(before + done, total)
