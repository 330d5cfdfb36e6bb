"""One model measured on one text: translations and their scores, next-token predictions, language of the outputs."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.config.groups import ModelOptions
from ks_lottery.config.values import checks_names
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.corpus.source import open_corpus
from ks_lottery.evaluation.comparison import compare
from ks_lottery.evaluation.evaluation import Evaluation, claimed_folder
from ks_lottery.evaluation.evaluation_checks import check_evaluation
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.evaluation.hypotheses import Hypotheses, read_hypotheses
from ks_lottery.evaluation.language_check import language_share
from ks_lottery.evaluation.next_token import predict
from ks_lottery.evaluation.scores import score
from ks_lottery.evaluation.translate import checked_settings, translate
from ks_lottery.models.equipped import equipped, open_product, saved_product
from ks_lottery.models.load import LoadedModel, load_model
from ks_lottery.models.tokenized import tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TextSource
    from ks_lottery.corpus.corpus import Corpus, Pair
    from ks_lottery.evaluation.comparison import Comparison
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.equipped import AdapterInMemory, Equipped

    Tick = Callable[[int, int], None]
    Stage = Callable[[str], AbstractContextManager[Tick | None]]

__all__ = ["EvaluationSpec", "evaluate", "evaluate_with"]


def evaluate_with(
    spec: EvaluationSpec,
    loaded: LoadedModel,
    corpus: Corpus,
    product: RowPatch | str | Path | None = None,
    *,
    folder: str | Path | None = None,
    stage: Stage | None = None,
    text: MeasuredText | None = None,
) -> Evaluation:
    """Put the product of a tuning on a model and measure it on a text.

    Parameters
    ----------
    product
        A row patch, or the folder of a patch or of a PEFT adapter. None measures the model as it is.
    folder
        Where translations are saved batch by batch, so that the same call resumes; None saves none.
    stage
        Called with the title of a stage, for a context that gives its tick, which takes sentences done and sentences in all.
    text
        What `check_evaluation` returned for the same things, where the caller has checked them before.

    Raises
    ------
    UserError
        When a setting cannot be used, the product does not belong to the model, a sentence does not fit the context, or the
        folder has other content.
    """
    opened = open_product(product, loaded.checkpoint)
    text = text or check_evaluation(spec, loaded, corpus, opened, folder)
    others = {str(name): read_hypotheses(Path(name)) for name in spec.against}
    folder = None if folder is None else Path(folder)
    with ExitStack() as held:
        model = held.enter_context(equipped(loaded, opened, share_prefix=spec.share_prefix))
        spec = spec.with_prompt(model.prompt)
        made_from = {"base": loaded.checkpoint.describe(), "made": model.content, "text": corpus.fingerprint}
        held.enter_context(claimed_folder(folder, made_from))
        measured: dict[str, Any] = {}
        if spec.translates:
            with _stage(stage, "translate") as tick:
                hypotheses = _translations(loaded, model, text, spec, folder, tick)
            measured |= _scored(hypotheses, text, spec, made_from)
            measured["comparison"] = _compared(measured, str(folder or "this"), others, spec, corpus.target_language)
        if spec.predicts:
            with _stage(stage, "next-token predictions") as tick:
                predictions = _predictions(loaded, model, text, spec, tick)
            measured |= {"predictions": predictions, "next_token": summary(predictions, spec)}
    return Evaluation(
        sentences=len(text.corpus), overlong=text.overlong, **measured, made_from=made_from, settings=spec.as_dict()
    )


def _stage(stage: Stage | None, title: str) -> AbstractContextManager[Tick | None]:
    return nullcontext(None) if stage is None else stage(title)


def _scored(
    hypotheses: Sequence[str], text: MeasuredText, spec: EvaluationSpec, made_from: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of an `Evaluation` that come from translations."""
    pairs = _translated(text, spec)
    references = [pair.target for pair in pairs]
    measured: dict[str, Any] = {
        "sources": [pair.source for pair in pairs], "references": references, "hypotheses": hypotheses,
    }  # fmt: skip
    if spec.scored:
        origin = {name: made_from[name] for name in ("base", "made")}
        measured["scores"] = score(
            hypotheses, references, metrics=spec.scored, spm=spec.spm, target_language=text.corpus.target_language,
            made_from=origin, **spec.bootstrap,
        )  # fmt: skip
    if spec.language:
        for name, lines in (("language", hypotheses), ("references_language", references)):
            measured[name] = language_share(lines, text.corpus.target_language, confidence=spec.confidence)
    return measured


def _compared(
    measured: Mapping[str, Any], name: str, others: Mapping[str, Sequence[Mapping[str, str]]], spec: EvaluationSpec, to: str
) -> Comparison | None:  # fmt: skip
    """Compare the translations with those of other evaluations; None without others."""
    if not others:
        return None
    systems = {name: measured["hypotheses"]}
    references = {name: measured["references"]}
    for other, rows in others.items():
        systems[other] = [row["hypothesis"] for row in rows]
        references[other] = [row["reference"] for row in rows]
    return compare(systems, references, metrics=spec.scored, spm=spec.spm, target_language=to, **spec.bootstrap)


def _predictions(
    loaded: LoadedModel, model: Equipped, text: MeasuredText, spec: EvaluationSpec, tick: Tick | None
) -> Predictions:
    examples = [e if spec.positions is None else e.cut(spec.positions) for e in text.examples]
    made_from = {"base": loaded.checkpoint.fingerprint, "patch": model.content}
    return predict(model.labelled, examples, batch_size=spec.batch_size, made_from=made_from, tick=tick)


def summary(predictions: Predictions, spec: EvaluationSpec) -> dict[str, Any]:
    """Return accuracy and loss of predictions, with intervals from resampled sentences (None without resamples)."""
    bootstrap = spec.bootstrap
    return {
        "accuracy": predictions.accuracy,
        "accuracy_interval": predictions.interval(**bootstrap) if spec.resamples else None,
        "loss": predictions.loss,
        "loss_interval": predictions.loss_interval(**bootstrap) if spec.resamples else None,
        "positions": len(predictions),
        "first": spec.positions,
        **bootstrap,
    }


def _translated(text: MeasuredText, spec: EvaluationSpec) -> tuple[Pair, ...]:
    """Return the pairs that are translated."""
    return text.corpus.pairs[: spec.translations]


def _translations(
    loaded: LoadedModel,
    model: Equipped,
    text: MeasuredText,
    spec: EvaluationSpec,
    folder: Path | None,
    tick: Tick | None,
) -> list[str]:
    form = PromptForm(loaded.tokenizer, spec.shown_as)
    pairs = _translated(text, spec)
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
    hypotheses = translate(model.generator, form, prompts, **settings, done=journal.done, keep=journal.keep, tick=tick)
    journal.finish()
    return hypotheses


def _new_tokens(loaded: LoadedModel, prompts: Sequence[Sequence[int]], limit: int) -> int:
    """Return the most new tokens: `limit`, or what the context holds behind the longest prompt."""
    context = loaded.checkpoint.context
    return limit if context is None else max(1, min(limit, context - max(len(prompt) for prompt in prompts)))


@checks_names
def evaluate(
    base: str | Path | Checkpoint | LoadedModel,
    corpus: Corpus | TextSource | str | Path,
    product: RowPatch | AdapterInMemory | str | Path | None = None,
    *,
    metrics: Sequence[str] = EvaluationSpec.metrics,
    folder: str | Path | None = None,
    language: bool = EvaluationSpec.language,
    positions: int | None = None,
    translations: int | None = None,
    num_beams: int = EvaluationSpec.num_beams,
    max_new_tokens: int = EvaluationSpec.max_new_tokens,
    generation: Mapping[str, Any] | None = None,
    batch_size: int = EvaluationSpec.batch_size,
    share_prefix: bool = EvaluationSpec.share_prefix,
    template: str | None = None,
    max_tokens: int | None = None,
    spm: Mapping[str, str | Path] | None = None,
    against: Sequence[str | Path] = (),
    resamples: int = EvaluationSpec.resamples,
    confidence: float = EvaluationSpec.confidence,
    seed: int = EvaluationSpec.seed,
    dtype: Literal["auto", "float32", "bfloat16"] = ModelOptions.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = ModelOptions.device,
    trust_remote_code: bool = ModelOptions.trust_remote_code,
    progress: bool = False,
) -> Evaluation:
    """Measure a model on a text: translate it and score the translations, and next-token accuracy and loss.

    Parameters
    ----------
    base
        Folder, GGUF file, hub id, an opened checkpoint, or a loaded model, which is used as it is.
    corpus
        A corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise.
    product
        What tuning made: a row patch, an adapter, or the folder of a patch or of a PEFT adapter. None (the default) measures
        `base` as it is.
    metrics
        ``spbleu`` (with the SentencePiece models of FLORES-101 and FLORES-200), ``bleu``, ``chrf`` (chrF++), ``accuracy``; all
        by default.
    folder
        Where translations are saved batch by batch: the same call resumes where it was stopped. None (the default) saves none.
    language
        Count the outputs that are in the target language; off by default.
    positions, translations
        First target positions of a sentence that accuracy and loss count, and first sentences that are translated; all by
        default.
    num_beams, max_new_tokens, generation
        Beams of the search (4; 1 is greedy), the longest translation in tokens (256), and further settings of `generate`.
    batch_size, share_prefix
        Sentences at a time (16); compute what all prompts begin with once (on).
    template, max_tokens
        Prompt: ``alpaca``, ``plain``, ``chat``, a text of your own, or None (the default) for the patch's own, else ``alpaca``;
        and the longest example: None (the default) refuses a text beyond the model's context, else longer ones are left out.
    spm
        SentencePiece models for spBLEU by name of the tokenizer, ``flores101`` or ``flores200``; by default they are fetched.
    against
        Folders of other evaluations of the same text, to compare with by a paired bootstrap.
    resamples, confidence, seed
        Resamples of the bootstrap over sentences (2,000; 0 for no intervals), level of the intervals (0.95), and the seed (0).
    dtype, device, trust_remote_code
        How the model is loaded where it is not loaded yet, as for `load_model`.
    progress
        Show a bar for each stage on standard output; off by default.

    Returns
    -------
    Evaluation
        ``hypotheses``; ``scores``, with signatures and intervals, and ``scores.missing``, which says why a metric is not there;
        ``predictions`` and ``next_token``; ``language``; ``comparison``.

    Raises
    ------
    UserError
        When a metric does not exist, a value is out of range, `product` does not belong to `base`, or a sentence does not fit
        the context.
    """
    spec = EvaluationSpec(
        metrics=metrics, language=language, positions=positions, translations=translations, num_beams=num_beams,
        max_new_tokens=max_new_tokens, generation=generation or {}, batch_size=batch_size, share_prefix=share_prefix,
        template=template, max_tokens=max_tokens, spm={name: Path(file) for name, file in (spm or {}).items()},
        against=against, resamples=resamples, confidence=confidence, seed=seed,
    )  # fmt: skip
    corpus = open_corpus(corpus)
    stage = _bars(spec) if progress else None
    with saved_product(product) as saved:
        tokenized = tokenizer_of(base, trust_remote_code=trust_remote_code)
        opened = open_product(saved, tokenized.checkpoint)
        text = check_evaluation(spec, tokenized, corpus, opened, folder)
        model = base if isinstance(base, LoadedModel) else tokenized.checkpoint
        loaded = load_model(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        return evaluate_with(spec, loaded, corpus, opened, folder=folder, stage=stage, text=text)


def _bars(spec: EvaluationSpec) -> Stage:
    from ks_lottery.report.screen import Screen

    return partial(Screen(total=spec.translates + spec.predicts).stage, unit="sentences")
