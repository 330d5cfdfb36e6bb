"""One model measured on one text: translations and their scores, next-token predictions, language of the outputs."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.config.groups import ModelOptions
from ks_lottery.config.values import checks_names
from ks_lottery.corpus.cleaned import open_cleaned
from ks_lottery.corpus.mixed_templates import with_template
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.evaluation.against import others_of
from ks_lottery.evaluation.evaluation import Evaluation, claimed_folder
from ks_lottery.evaluation.evaluation_checks import check_before, check_evaluation
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.evaluation.general_text import forgetting, general_sentences, general_text
from ks_lottery.evaluation.next_token import predict
from ks_lottery.evaluation.translated import compared, scored, translations
from ks_lottery.models.equipped import check_adapter, equipped, is_patch, open_on, saved_product
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.load import LoadedModel, load_model
from ks_lottery.models.tokenized import tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import TextSource
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.general_text import GeneralText
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.equipped import AdapterInMemory

    Tick = Callable[[int, int], None]
    Stage = Callable[[str], AbstractContextManager[Tick | None]]

__all__ = ["EvaluationSpec", "evaluate", "evaluate_with", "predict_general"]


def evaluate_with(
    spec: EvaluationSpec,
    loaded: LoadedModel,
    corpus: Corpus,
    product: RowPatch | str | Path | None = None,
    *,
    general: Sequence[str] | None = None,
    general_original: Predictions | None = None,
    folder: str | Path | None = None,
    stage: Stage | None = None,
    text: MeasuredText | None = None,
) -> Evaluation:
    """Put the product of a tuning on a model and measure it on a text.

    Parameters
    ----------
    product
        A row patch, or the folder of a patch or of a PEFT adapter. None measures the model as it is.
    general
        Sentences of general text (`general_sentences`), on which forgetting is measured; None measures none.
    general_original
        What `predict_general` returned for the same model and sentences, so that several products are measured against one pass
        of the original; None (the default) measures the original here.
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
    opened, loaded = open_on(product, loaded)
    text = text or check_evaluation(spec, loaded, corpus, opened, folder)
    others = others_of(spec.against, translated=bool(spec.scored), predicted=spec.predicts)
    folder = None if folder is None else Path(folder)
    general_of = None if general is None else general_text(loaded, general, max_tokens=spec.max_tokens)
    measured: dict[str, Any] = {}
    general_tuned: Predictions | None = None
    with ExitStack() as claim:
        with equipped(loaded, opened, share_prefix=spec.share_prefix) as model:
            spec = with_template(spec, model.prompt)
            made_from = {"base": loaded.checkpoint.describe(), "made": model.content, "text": corpus.fingerprint}
            claim.enter_context(claimed_folder(folder, made_from))
            if spec.translates:
                with _stage(stage, "translate") as tick:
                    outputs = translations(loaded, model, text, spec, folder, tick)
                measured |= scored(outputs, text, spec, made_from)
            origin = {"base": loaded.checkpoint.fingerprint, "patch": model.content}
            if spec.predicts:
                examples = [e if spec.positions is None else e.cut(spec.positions) for e in text.examples]
                with _stage(stage, "next-token predictions") as tick:
                    predictions = _predictions(model.labelled, examples, spec, origin, tick)
                end = PromptForm(loaded.tokenizer, "plain" if corpus.monolingual else spec.shown_as).end
                measured |= {"predictions": predictions, "next_token": summary(predictions, spec, end)}
            if general_of is not None:
                with _stage(stage, "general text") as tick:
                    general_tuned = _predictions(model.labelled, general_of.examples, spec, origin, tick)
        if general_of is not None and general_tuned is not None:
            original = general_tuned if opened is None else general_original
            if original is None:
                with _stage(stage, "general text, original model") as tick:
                    original = _general_predictions(spec, loaded, general_of, tick)
            measured["forgetting"] = forgetting(general_of, general_tuned, original, opened, bootstrap=spec.bootstrap)
    measured["comparison"] = compared(measured, str(folder or "this"), others, spec, corpus.target_language)
    return Evaluation(
        sentences=len(text.corpus), overlong=text.overlong, **measured, made_from=made_from, settings=spec.as_dict()
    )


def predict_general(spec: EvaluationSpec, loaded: LoadedModel, general: Sequence[str]) -> Predictions:
    """Predict general text with the original model, once for several calls of `evaluate_with`.

    Parameters
    ----------
    loaded
        The model without anything that tuning made.
    general
        Sentences, as for `evaluate_with`.

    Raises
    ------
    UserError
        When the text cannot be measured; see `ks_lottery.evaluation.general_text.general_text`.
    """
    return _general_predictions(spec, loaded, general_text(loaded, general, max_tokens=spec.max_tokens), None)


def _general_predictions(
    spec: EvaluationSpec, loaded: LoadedModel, text: GeneralText, tick: Tick | None
) -> Predictions:
    base = LabelledLanguageModel(loaded.lm, share_prefix=spec.share_prefix)
    made_from = {"base": loaded.checkpoint.fingerprint, "patch": ""}
    return _predictions(base, text.examples, spec, made_from, tick)


def _stage(stage: Stage | None, title: str) -> AbstractContextManager[Tick | None]:
    return nullcontext(None) if stage is None else stage(title)


def _predictions(
    labelled: LabelledLanguageModel,
    examples: Sequence[Example],
    spec: EvaluationSpec,
    made_from: dict[str, Any],
    tick: Tick | None,
) -> Predictions:
    return predict(labelled, examples, batch_size=spec.batch_size, made_from=made_from, tick=tick)


def summary(predictions: Predictions, spec: EvaluationSpec, end: int) -> dict[str, Any]:
    """Return accuracy and loss of predictions, with intervals from resampled sentences (None without resamples).

    Parameters
    ----------
    end
        Token that ends a response. ``without_end`` has the same figures without the positions at which it is to be predicted;
        None where there are no others.
    """
    rest = predictions.without_ends(end)
    return {
        **_figures(predictions, spec),
        "without_end": _figures(rest, spec) if len(rest) else None,
        "first": spec.positions,
        **spec.bootstrap,
    }


def _figures(predictions: Predictions, spec: EvaluationSpec) -> dict[str, Any]:
    return {
        "accuracy": predictions.accuracy,
        "accuracy_interval": predictions.interval(**spec.bootstrap) if spec.resamples else None,
        "loss": predictions.loss,
        "loss_interval": predictions.loss_interval(**spec.bootstrap) if spec.resamples else None,
        "positions": len(predictions),
    }


@checks_names
def evaluate(
    base: str | Path | Checkpoint | LoadedModel,
    corpus: Corpus | TextSource | str | Path,
    product: RowPatch | AdapterInMemory | str | Path | None = None,
    *,
    metrics: Sequence[str] = EvaluationSpec.metrics,
    general: Corpus | TextSource | str | Path | Sequence[str] | None = None,
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
        A corpus; or a file or a dataset, English to Catalan unless a `TextSource` says otherwise, which is cleaned as a run
        does unless that has ``clean=False``.
    product
        What tuning made: a row patch, an adapter, or the folder of a patch or of a PEFT adapter. None (the default) measures
        `base` as it is.
    metrics
        ``spbleu`` (with the SentencePiece models of FLORES-101 and FLORES-200), ``bleu``, ``chrf`` (chrF++), ``accuracy``; all
        by default.
    general
        General text, on which forgetting is measured: sentences, a file of one sentence a line, or parallel text, of which the
        source side counts. None (the default) measures none.
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
        Prompt: a name of `ks_lottery.config.choices.TEMPLATES`, a mix, a text of your own, or None (the default) for the
        patch's own, else ``alpaca``;
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
        ``first_line``, the same scores of the first lines alone; ``ended``, the share of outputs that ended by themselves;
        ``predictions`` and ``next_token``; ``forgetting``; ``language``; ``comparison``.

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
    corpus = open_cleaned(corpus)
    general = None if general is None else general_sentences(general)
    stages = spec.translates + spec.predicts + (general is not None) * (1 + (product is not None))
    stage = _bars(stages) if progress else None
    check_before(spec, corpus)
    with saved_product(product) as saved:
        if isinstance(saved, str | Path) and not is_patch(saved):
            check_adapter(Path(saved).expanduser())
        tokenized = tokenizer_of(base, trust_remote_code=trust_remote_code)
        opened, tokenized = open_on(saved, tokenized)
        text = check_evaluation(spec, tokenized, corpus, opened, folder, general)
        model = base if isinstance(base, LoadedModel) else tokenized.checkpoint
        loaded = load_model(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        return evaluate_with(spec, loaded, corpus, opened, general=general, folder=folder, stage=stage, text=text)


def _bars(stages: int) -> Stage:
    from ks_lottery.report.screen import Screen

    return partial(Screen(total=stages).stage, unit="sentences")
