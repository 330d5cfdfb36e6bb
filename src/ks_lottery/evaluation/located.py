"""The library's call `where`: the rows of a patch active in some spans of a text alone, and controls."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Literal

from ks_lottery.checkpoint.added_tokens import refuse_new_tokens
from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.config.groups import ModelOptions
from ks_lottery.config.values import checks_names
from ks_lottery.corpus.mixed_templates import with_template
from ks_lottery.corpus.source import open_corpus
from ks_lottery.errors import UserError, shortened
from ks_lottery.evaluation.controls import controls_of
from ks_lottery.evaluation.effects import effect_of
from ks_lottery.evaluation.gated_runs import COMBINATIONS, predict_spans, shifted, translated_spans
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.patches import predict_patches
from ks_lottery.evaluation.where import EVERYWHERE, NOWHERE, Where
from ks_lottery.evaluation.where_spec import WhereSpec
from ks_lottery.models.load import LoadedModel, load_model, open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TextSource
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.effects import Effect
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.evaluation.predictions import Predictions

    Tick = Callable[[int, int], None]
    Stage = Callable[[str], AbstractContextManager[Tick | None]]

__all__ = ["WhereSpec", "where", "where_with"]


def where_with(
    spec: WhereSpec, loaded: LoadedModel, patch: RowPatch, corpus: Corpus, *, stage: Stage | None = None
) -> Where:
    """Measure in which spans of a text the rows of a patch act.

    Parameters
    ----------
    stage
        Called with the title of a stage, for a context that gives its tick, which takes sentences done and sentences in all.

    Raises
    ------
    UserError
        When the patch does not belong to the model or changes its output side, or the source sentences cannot be located.
    """
    patch.check_base(loaded.checkpoint)
    refuse_new_tokens(
        patch.added, "which the original model cannot read, and where compares the two: evaluate it instead"
    )
    spec = with_template(spec, patch.prompt)
    if patch.side != "input":
        raise UserError(
            f"the patch changes the side {patch.side}, and only rows of the input side act at a position: give a patch that "
            "was tuned with `side=input`"
        )
    if not len(patch):
        raise UserError("the patch changes no row, so that there is nothing to locate: give another patch")
    if corpus.monolingual:
        raise UserError(f"{corpus.origin} is text of one language, without instruction and source: give parallel text")
    text = measured_text(loaded, corpus, template=spec.shown_as, max_tokens=spec.max_tokens, spans=True)
    _check_spans(text, spec)
    with _stage(stage, "spans") as tick:
        shared = predict_spans(loaded, patch, text, spec, tick)
    found = shared.predictions
    bootstrap, whole = spec.bootstrap, (found[EVERYWHERE], found[NOWHERE])
    measure = partial(effect_of, bootstrap=bootstrap)
    gained = measure("", *whole, rows=len(patch)).is_measured
    spans = {
        name: measure(
            name, found[name], found[NOWHERE], rows=len(patch) if active else 0, whole=whole if gained else None
        )
        for name, active in COMBINATIONS.items()
    }
    lengths = [len(e) - 1 for e in text.examples]
    tokens = {
        "pass": sum(lengths) - shared.prefix * max(0, len(lengths) - 1),
        "spans": shared.computed_tokens + shared.prefix_tokens,
        "controls": 0,
    }
    controls: list[Effect] = []
    notes: list[str] = []
    if spec.controlled:
        with _stage(stage, "controls") as tick:
            controls, tokens["controls"], notes = _measure_controls(
                loaded, patch, text, spec, whole if gained else None, found[NOWHERE], tick
            )
    signatures: dict[str, str] = {}
    if spec.translate is not None:
        with _stage(stage, "translate") as tick:
            spans, signatures = translated_spans(loaded, patch, text, spec, spans, tick)
    return Where(
        sentences=len(text.corpus),
        overlong=text.overlong,
        rows=len(patch),
        spans=tuple(spans.values()),
        controls=tuple(controls),
        translated=0 if spec.translate is None else min(spec.translate, len(text.corpus)),
        tokens=tokens,
        signatures=signatures,
        notes=notes,
        by_sentence={name: found[name].by_sentence() for name in COMBINATIONS} if spec.by_sentence else {},
        made_from={
            "base": loaded.checkpoint.describe(), "patch": patch.content, "text": corpus.fingerprint,
        },
        settings=spec.as_dict(),
    )  # fmt: skip


def _stage(stage: Stage | None, title: str) -> AbstractContextManager[Tick | None]:
    return nullcontext(None) if stage is None else stage(title)


def _check_spans(text: MeasuredText, spec: WhereSpec) -> None:
    unknown = [place for place, e in enumerate(text.examples) if e.in_source is None]
    if unknown:
        raise UserError(
            f"template {shortened(spec.shown_as)}: the source of {len(unknown):,} of {len(text.examples):,} sentences cannot "
            f"be located in its prompt, first of sentence {unknown[0] + 1}, since the tokenizer or its chat template changes "
            "the text: choose another `template`"
        )


def _measure_controls(
    loaded: LoadedModel,
    patch: RowPatch,
    text: MeasuredText,
    spec: WhereSpec,
    whole: tuple[Predictions, Predictions] | None,
    original: Predictions,
    tick: Tick | None,
) -> tuple[list[Effect], int, list[str]]:
    """Return the effects of the controls, the tokens that they took, and which there are not."""
    made = controls_of(loaded, patch, text, spec)
    none = patch.restrict(patch.ids[:0])
    runs = [(made.patches, text), *(({name: patch, NOWHERE: none}, other) for name, other in made.texts.items())]
    total = sum(len(patches) * len(measured.examples) for patches, measured in runs)
    effects: list[Effect] = []
    tokens = before = 0
    for patches, measured in runs:
        shared = predict_patches(
            loaded.lm,
            patches,
            measured.examples,
            batch_size=spec.batch_size,
            share_prefix=spec.share_prefix,
            tick=tick and partial(shifted, tick, before, total),
        )
        before += shared.passes
        tokens += shared.computed_tokens + shared.prefix_tokens
        compared = shared.predictions.pop(NOWHERE, original)
        for name, found in shared.predictions.items():
            rows = len(patches[name])
            effects.append(effect_of(name, found, compared, rows=rows, whole=whole, bootstrap=spec.bootstrap))
    return effects, tokens, made.notes


@checks_names
def where(
    base: str | Path | Checkpoint | LoadedModel,
    corpus: Corpus | TextSource | str | Path,
    patch: RowPatch | str | Path,
    *,
    controls: bool = WhereSpec.controls,
    paraphrase: str | None = None,
    translate: int | None = None,
    by_sentence: bool = WhereSpec.by_sentence,
    metrics: Sequence[str] = WhereSpec.metrics,
    max_new_tokens: int = WhereSpec.max_new_tokens,
    template: str | None = None,
    max_tokens: int | None = None,
    batch_size: int = WhereSpec.batch_size,
    share_prefix: bool = WhereSpec.share_prefix,
    resamples: int = WhereSpec.resamples,
    confidence: float = WhereSpec.confidence,
    seed: int = WhereSpec.seed,
    dtype: Literal["auto", "float32", "bfloat16"] = ModelOptions.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = ModelOptions.device,
    trust_remote_code: bool = ModelOptions.trust_remote_code,
    progress: bool = False,
) -> Where:
    """Measure in which part of a text the rows of a patch act: in the instruction, the source, the target, or several.

    The rows are active in some spans of each sentence alone; elsewhere a token looks up the base's row. The instruction is
    all of the prompt that is not the source sentence; what the model generates belongs to the target.

    Parameters
    ----------
    base
        Folder, GGUF file, hub id, an opened checkpoint, or a loaded model, which is used as it is.
    corpus
        A corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise.
    patch
        A row patch of the input side, or its folder.
    controls
        Measure other prompts, some of the rows alone, rows moved as far in random directions, and shuffled rows; off by
        default.
    paraphrase
        A prompt of your own for the controls, which it switches on: an instruction, or a template with ``{source}``. None, the
        default, is none.
    translate
        Number of first sentences that are translated too, greedily, with `metrics` and at most `max_new_tokens` (256) tokens;
        None, the default, translates none.
    by_sentence
        Keep what each sentence adds to accuracy and loss, in each combination of spans; off by default.
    metrics
        ``bleu`` and ``chrf`` (chrF++) by default; also ``spbleu``.
    template, max_tokens
        Prompt: a name of `ks_lottery.config.choices.TEMPLATES`, or a text of your own; None, the default, takes the patch's own
        prompt if it has one, else ``alpaca``; and the longest example: longer ones are left out. None (the default) refuses a
        text with an example beyond the model's context.
    batch_size, share_prefix
        Sentences at a time (16); compute what all prompts begin with once (on).
    resamples, confidence, seed
        Resamples of the bootstrap over sentences (2,000), level of the intervals (0.95), and the seed (0).
    dtype, device, trust_remote_code
        How the model is loaded where it is not loaded yet, as for `load_model`.
    progress
        Show a bar for each stage on standard output; off by default.

    Returns
    -------
    Where
        ``spans`` and ``controls``, an effect each; ``sentence`` says what follows.

    Raises
    ------
    UserError
        When a value is out of range, the patch does not belong to `base` or changes its output side, a sentence does not fit
        the context, or the source sentences cannot be located in the prompts.
    """
    spec = WhereSpec(
        controls=controls, paraphrase=paraphrase, translate=translate, by_sentence=by_sentence, metrics=metrics,
        max_new_tokens=max_new_tokens, template=template, max_tokens=max_tokens, batch_size=batch_size,
        share_prefix=share_prefix, resamples=resamples, confidence=confidence, seed=seed,
    )  # fmt: skip
    corpus = open_corpus(corpus)
    opened = patch if isinstance(patch, RowPatch) else RowPatch.open(patch)
    model = base if isinstance(base, LoadedModel) else open_checkpoint(base)
    opened.check_base(open_checkpoint(model))  # a patch of another base is refused before the model is loaded
    loaded = (
        model
        if isinstance(model, LoadedModel)
        else load_model(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    )
    stage: Stage | None = None
    if progress:
        from ks_lottery.report.screen import Screen

        stage = partial(Screen(total=spec.stages).stage, unit="sentences")
    return where_with(spec, loaded, opened, corpus, stage=stage)
