"""One model measured on one text: translations and their scores, next-token predictions, language of the outputs.

Must never score a sentence that the model did not translate itself, nor leave a metric out in silence.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.forms import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.errors import UserError
from ks_lottery.evaluation.hypotheses import Hypotheses
from ks_lottery.evaluation.language_check import LanguageCheck, language_share
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.next_token import Predictions, predict
from ks_lottery.evaluation.scores import DEFAULT, SCORED, Scores, check_metrics, score
from ks_lottery.evaluation.spm import find_model
from ks_lottery.evaluation.translate import checked_settings, translate
from ks_lottery.models.equipped import equipped
from ks_lottery.models.load import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.models.equipped import Equipped

    Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What an evaluation is asked for, beside model and text.

    Parameters
    ----------
    metrics
        Of `scores.METRICS`; ``accuracy`` is next-token accuracy and loss, all others score translations.
    language
        Count the outputs that are in the target language.
    positions
        First target positions of a sentence that accuracy and loss count; None for all.
    generation
        Further settings of `generate`.
    spm
        SentencePiece models for spBLEU, by name of the tokenizer.
    resamples, confidence, seed
        Of the bootstrap over sentences.
    """

    metrics: Sequence[str] = DEFAULT
    language: bool = False
    positions: int | None = None
    num_beams: int = 4
    max_new_tokens: int = 256
    generation: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    share_prefix: bool = True
    template: str = "alpaca"
    max_tokens: int | None = None
    spm: Mapping[str, Path] = field(default_factory=dict)
    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 12345

    def __post_init__(self) -> None:
        """Check ranges."""
        check_metrics(self.metrics)
        for name in ("num_beams", "max_new_tokens", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, but must be 1 or more")
        if self.positions is not None and self.positions < 1:
            raise UserError(f"positions is {self.positions}, but must be 1 or more")
        if not 0 < self.confidence < 1:
            raise UserError(f"confidence is {self.confidence:g}, but must be between 0 and 1")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; what was not asked for is None.

    Parameters
    ----------
    hypotheses
        Translations, in the order of `text`.
    scores
        Of the translations.
    predictions, next_token
        Next-token answers, and in sum: ``accuracy`` and ``loss`` (nats a token) with their intervals, and ``positions``.
    language
        In which language the translations are; `references_language` says it of the references, which are no 1 either.
    """

    text: MeasuredText
    hypotheses: Sequence[str] | None
    scores: Scores | None
    predictions: Predictions | None
    next_token: Mapping[str, Any] | None
    language: LanguageCheck | None
    references_language: LanguageCheck | None

    def content(self) -> dict[str, Any]:
        """Return everything in sum, as plain values."""
        return {
            "sentences": len(self.text.corpus),
            "overlong": self.text.overlong,
            "scores": None if self.scores is None else self.scores.content(),
            "next_token": None if self.next_token is None else dict(self.next_token),
            "language": None if self.language is None else asdict(self.language),
            "references_language": None if self.references_language is None else asdict(self.references_language),
        }


def evaluate_model(
    loaded: LoadedModel,
    model: Equipped,
    corpus: Corpus,
    request: Request,
    *,
    folder: Path | None = None,
    stage: Callable[[str], AbstractContextManager[Tick | None]] | None = None,
) -> Evaluation:
    """Measure a model that is ready; see `ks_lottery.evaluate`.

    Parameters
    ----------
    folder
        Where translations are kept batch by batch, so that a broken evaluation goes on; None keeps none.
    stage
        Called with the title of a stage, for a context that gives its tick: sentences done and in all.
    """
    begun = stage or (lambda _: nullcontext(None))
    wanted = check_metrics(request.metrics)
    for tokenizer in request.spm:
        find_model(tokenizer, request.spm)  # a path that holds no model is refused before anything is translated
    scored = tuple(name for name in wanted if name in SCORED)
    text = measured_text(loaded, corpus, template=request.template, max_tokens=request.max_tokens)
    made_from = {"base": loaded.checkpoint.describe(), "made": model.content}
    hypotheses: list[str] | None = None
    found: Scores | None = None
    language = references_language = None
    if scored or request.language:
        with begun("translate") as tick:
            hypotheses = _translations(loaded, model, text, request, folder, tick)
        references = [pair.target for pair in text.corpus]
        if scored:
            found = score(
                hypotheses, references, metrics=scored, spm=request.spm, resamples=request.resamples,
                seed=request.seed, confidence=request.confidence, made_from=made_from,
            )  # fmt: skip
        if request.language:
            language, references_language = (
                language_share(lines, corpus.target_language, confidence=request.confidence)
                for lines in (hypotheses, references)
            )
    predictions: Predictions | None = None
    summed: dict[str, Any] | None = None
    if "accuracy" in wanted:
        examples = [e if request.positions is None else e.cut(request.positions) for e in text.examples]
        about = {"base": loaded.checkpoint.fingerprint, "patch": model.content}
        with begun("next-token predictions") as tick:
            predictions = predict(model.labelled, examples, batch_size=request.batch_size, made_from=about, tick=tick)
        summed = next_token(predictions, request)
    return Evaluation(text, hypotheses, found, predictions, summed, language, references_language)


def next_token(predictions: Predictions, request: Request) -> dict[str, Any]:
    """Sum up predictions, with intervals from resampling sentences."""
    bootstrap: dict[str, Any] = {"confidence": request.confidence, "resamples": request.resamples, "seed": request.seed}
    return {
        "accuracy": predictions.accuracy,
        "accuracy_interval": predictions.interval(**bootstrap),
        "loss": predictions.loss,
        "loss_interval": predictions.loss_interval(**bootstrap),
        "positions": len(predictions),
        "first": request.positions,
        **bootstrap,
    }


def _translations(
    loaded: LoadedModel,
    model: Equipped,
    text: MeasuredText,
    request: Request,
    folder: Path | None,
    tick: Tick | None,
) -> list[str]:
    form = PromptForm(loaded.tokenizer, request.template)
    pairs = text.corpus.pairs
    prompts = form.prompts(orders(text.corpus), [pair.source for pair in pairs])
    new = _new_tokens(loaded, prompts, request.max_new_tokens)
    settings: dict[str, Any] = {
        "num_beams": request.num_beams, "max_new_tokens": new, "batch_size": request.batch_size, "seed": request.seed,
        "share_prefix": request.share_prefix, "generation": dict(request.generation),
    }  # fmt: skip
    checked_settings(model.generator, request.generation, num_beams=request.num_beams, max_new_tokens=new)
    kept: Hypotheses | None = None
    if folder is not None:
        depends = {**settings, "template": request.template, "dtype": str(loaded.lm.dtype).removeprefix("torch.")}
        order = orders(text.corpus)[0] if pairs else ""
        made_from = {"base": loaded.checkpoint.describe(), "made": model.content, "instruction": order}
        kept = Hypotheses(folder, pairs, made_from=made_from, settings=depends)
    hypotheses = translate(
        model.generator,
        form,
        prompts,
        **settings,
        done=None if kept is None else kept.done,
        keep=None if kept is None else kept.keep,
        tick=tick,
    )
    if kept is not None:
        kept.finish()
    return hypotheses


def _new_tokens(loaded: LoadedModel, prompts: Sequence[Sequence[int]], wanted: int) -> int:
    """Return how many tokens may be made: what is asked for, or what the context holds behind the longest prompt."""
    context = loaded.checkpoint.context
    return wanted if context is None else max(1, min(wanted, context - max(len(prompt) for prompt in prompts)))


def evaluate(
    base: Checkpoint | LoadedModel,
    corpus: Corpus,
    made: RowPatch | str | Path | None = None,
    *,
    metrics: Sequence[str] = ("spbleu", "bleu", "chrf", "accuracy"),
    folder: str | Path | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a model on a text: translate it and score the translations, and next-token accuracy and loss.

    Parameters
    ----------
    made
        What tuning made: a row patch, or the folder of a PEFT adapter. None measures `base` as it is.
    metrics
        ``spbleu`` (with the SentencePiece models of FLORES-101 and FLORES-200), ``bleu``, ``chrf`` (chrF++), ``accuracy``.
    folder
        Where translations are kept batch by batch: the same call goes on where it was stopped.
    settings
        Further fields of `evaluation.evaluate.Request`: ``num_beams`` (4), ``max_new_tokens`` (256), ``positions`` (all),
        ``language`` (False), ``generation``, ``spm``, ``resamples``, ``confidence``, ``seed``, ``template``, ...

    Returns
    -------
    Evaluation
        ``hypotheses``; ``scores``, with signatures and intervals, and ``scores.missing``, which says why a metric is not there;
        ``predictions`` and ``next_token``; ``language``.

    Raises
    ------
    UserError
        When a metric or setting does not exist, `made` does not belong to `base`, or a sentence does not fit the context.
    """
    request = Request(metrics=metrics, **settings)
    loaded = base if isinstance(base, LoadedModel) else load_model(base)
    with equipped(loaded, Path(made) if isinstance(made, str) else made, share_prefix=request.share_prefix) as model:
        return evaluate_model(loaded, model, corpus, request, folder=None if folder is None else Path(folder))
