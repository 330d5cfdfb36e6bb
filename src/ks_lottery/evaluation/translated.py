"""Translations of a text by the model that is measured, and what they are scored by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.evaluation.against import compare_with_each
from ks_lottery.evaluation.hypotheses import Hypotheses
from ks_lottery.evaluation.language_check import language_share
from ks_lottery.evaluation.outputs import Output, ended_share
from ks_lottery.evaluation.scores import score
from ks_lottery.evaluation.translate import checked_settings, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ks_lottery.corpus.corpus import Pair
    from ks_lottery.evaluation.against import OtherEvaluation
    from ks_lottery.evaluation.comparison import Comparison
    from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.models.equipped import Equipped
    from ks_lottery.models.load import LoadedModel

    Tick = Callable[[int, int], None]


def scored(
    outputs: Sequence[Output], text: MeasuredText, spec: EvaluationSpec, made_from: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of an `Evaluation` that come from translations."""
    pairs = translated_pairs(text, spec)
    hypotheses = [output.sentence for output in outputs]
    references = [pair.target for pair in pairs]
    measured: dict[str, Any] = {
        "sources": [pair.source for pair in pairs], "references": references, "hypotheses": hypotheses,
        "outputs": outputs, "ended": ended_share(outputs, spec.confidence if spec.resamples else None),
    }  # fmt: skip
    if spec.scored:
        origin = {name: made_from[name] for name in ("base", "made")}
        settings: dict[str, Any] = {
            "metrics": spec.scored, "spm": spec.spm, "target_language": text.corpus.target_language, "made_from": origin,
            **spec.bootstrap,
        }  # fmt: skip
        measured["scores"] = score(hypotheses, references, **settings)
        measured["first_line"] = score([output.first_line for output in outputs], references, **settings)
    if spec.language:
        for name, lines in (("language", hypotheses), ("references_language", references)):
            measured[name] = language_share(lines, text.corpus.target_language, confidence=spec.confidence)
    return measured


def compared(
    measured: Mapping[str, Any], name: str, others: Mapping[str, OtherEvaluation], spec: EvaluationSpec, to: str
) -> Comparison | None:  # fmt: skip
    """Compare what was measured with other evaluations; None without others."""
    if not others:
        return None
    texts = (measured["hypotheses"], measured["references"]) if spec.scored else None
    return compare_with_each(
        name, texts, measured.get("predictions"), others, metrics=spec.scored, spm=spec.spm, target_language=to,
        **spec.bootstrap,
    )  # fmt: skip


def translated_pairs(text: MeasuredText, spec: EvaluationSpec) -> tuple[Pair, ...]:
    """Return the pairs that are translated."""
    return text.corpus.pairs[: spec.translations]


def translations(
    loaded: LoadedModel,
    model: Equipped,
    text: MeasuredText,
    spec: EvaluationSpec,
    folder: Path | None,
    tick: Tick | None,
) -> list[Output]:
    """Translate the pairs that are to be translated; with `folder`, an earlier call is resumed there."""
    form = PromptForm(loaded.tokenizer, spec.shown_as, (text.corpus.source_language, text.corpus.target_language))
    pairs = translated_pairs(text, spec)
    instructions = orders(text.corpus)[: len(pairs)]
    prompts = form.prompts(instructions, [pair.source for pair in pairs])
    new = _new_tokens(loaded, prompts, spec.max_new_tokens)
    settings: dict[str, Any] = {
        "num_beams": spec.num_beams, "max_new_tokens": new, "batch_size": spec.batch_size, "seed": spec.seed,
        "share_prefix": spec.share_prefix, "generation": dict(spec.generation),
    }  # fmt: skip
    checked_settings(model.generator, spec.generation, num_beams=spec.num_beams, max_new_tokens=new)
    if folder is None:
        return translate(model.generator, form, prompts, **settings, tick=tick)
    depends = {**settings, "template": spec.template, "dtype": str(loaded.lm.dtype).removeprefix("torch.")}
    made_from = {"base": loaded.checkpoint.describe(), "made": model.content, "instruction": instructions[0]}
    journal = Hypotheses(folder, pairs, made_from=made_from, settings=depends)
    outputs = translate(model.generator, form, prompts, **settings, done=journal.done, keep=journal.keep, tick=tick)
    journal.finish()
    return outputs


def _new_tokens(loaded: LoadedModel, prompts: Sequence[Sequence[int]], limit: int) -> int:
    """Return the most new tokens: `limit`, or what the context holds behind the longest prompt."""
    context = loaded.checkpoint.context
    return limit if context is None else max(1, min(limit, context - max(len(prompt) for prompt in prompts)))
