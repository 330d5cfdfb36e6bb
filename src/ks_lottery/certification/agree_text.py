"""The text that models are compared on: parallel text or plain lines, a part of it drawn, in the same tokens for each model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.certification.agree_spec import KINDS, AgreeSpec
from ks_lottery.certification.calibration import open_texts
from ks_lottery.certification.choice import check_budget
from ks_lottery.config.groups import TextSource
from ks_lottery.corpus.corpus import Corpus, Pair
from ks_lottery.corpus.mixed_templates import with_template
from ks_lottery.corpus.monolingual import is_plain, read_sentences
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.corpus.prompts import orders
from ks_lottery.corpus.source import read_text
from ks_lottery.errors import UserError
from ks_lottery.evaluation.general_text import general_sentences, measured_lines
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.models.same_tokenizer import check_same_tokenizer, check_same_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.certification.calibration import Texts
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.models.opened_model import OpenedModel
    from ks_lottery.models.tokenized import Tokenized

PLAIN = "plain text"
"""Language of the pairs that stand for lines of plain text: their target is empty, and only their source is read."""


def open_agree_text(text: Corpus | TextSource | str | Path | Sequence[str]) -> Corpus:
    """Return parallel text as it is, and plain text as a corpus of lines.

    Parameters
    ----------
    text
        A corpus, parallel or of one language; a file or a dataset, which is plain text, one sentence a line, unless its ending,
        its format or a second file says that it is parallel; or sentences.

    Raises
    ------
    UserError
        When it cannot be read, or holds no sentence.
    """
    if isinstance(text, Corpus):
        return _lines_of(text)
    if isinstance(text, TextSource | str | Path):
        source = text if isinstance(text, TextSource) else TextSource(path=str(text))
        if not is_plain(source) or not Path(source.path).expanduser().exists():
            return _lines_of(read_text(source))
        lines, origin = read_sentences(source, side="source"), source.path
    else:
        lines, origin = general_sentences(text), "the sentences"
    return Corpus(tuple(Pair(line, "") for line in lines), PLAIN, PLAIN, origin)


def _lines_of(corpus: Corpus) -> Corpus:
    """Return a text of one language as lines, with their documents; and parallel text as it is."""
    if not corpus.monolingual:
        return corpus
    pairs = tuple(Pair(pair.target, "", pair.document) for pair in corpus)
    return Corpus(pairs, PLAIN, PLAIN, corpus.origin)


def is_plain_text(corpus: Corpus) -> bool:
    """Say whether a corpus stands for plain text."""
    return corpus.source_language == corpus.target_language == PLAIN


def spec_for(spec: AgreeSpec, models: Sequence[OpenedModel]) -> AgreeSpec:
    """Return the settings with the template that all models are shown: the given one, the reference's own, or the usual one.

    Raises
    ------
    UserError
        When a candidate has a prompt of its own, which is another, or settings do not belong together.
    """
    spec.check()
    reference, *candidates = models
    for model in candidates:
        if spec.template is None and model.prompt is not None and model.prompt != reference.prompt:
            raise UserError(
                f"{model.name} has a prompt of its own, which {reference.name} does not have: all models are shown one prompt, "
                "so give it as `template`"
            )
    return with_template(spec, reference.prompt)


def prepare_agreement(spec: AgreeSpec, models: Sequence[OpenedModel], corpus: Corpus) -> Texts:
    """Check everything that can be checked without weights, and draw the text.

    Parameters
    ----------
    spec
        As `spec_for` returns it.
    models
        The reference, and one or more candidates.

    Raises
    ------
    UserError
        When tokenizers or their tokens of the text differ, the text cannot be measured, or it is too small for what is asked.
    """
    reference, *candidates = models
    for model in candidates:
        check_same_tokenizer(reference.name, reference.tokenizer, model.name, model.tokenizer)
    plain = is_plain_text(corpus)
    texts = open_texts(
        reference.base, corpus, spec.drawn,
        template=spec.shown_as, max_tokens=spec.max_tokens, plain=plain, seed=spec.split_seed,
    )  # fmt: skip
    drawn, pool = texts.calibration, texts.pool
    assert drawn is not None and pool is not None  # noqa: S101, PT018 (a part was drawn)
    ours = [example.sequence for example in drawn.examples]
    for model in candidates:
        if model.base is not reference.base:
            theirs = _measured(model.base, drawn.corpus, spec, plain=plain)
            check_same_tokens(reference.name, ours, model.name, [example.sequence for example in theirs.examples])
    if spec.allowed is not None:
        kind = KINDS[spec.loss]
        check_budget(pool.drawn, spec.allowed, spec.delta, pool=pool, kind=kind, bounding=spec.bound)
    return texts


def _measured(base: Tokenized, corpus: Corpus, spec: AgreeSpec, *, plain: bool) -> MeasuredText:
    if plain:
        return measured_lines(base, corpus, max_tokens=spec.max_tokens)
    return measured_text(base, corpus, template=spec.shown_as, max_tokens=spec.max_tokens)


def prompts_of(model: OpenedModel, text: MeasuredText, spec: AgreeSpec) -> tuple[PromptForm, list[tuple[int, ...]]]:
    """Return how a model is prompted to generate, and the prompts: those of parallel text, or whole lines to continue."""
    corpus = text.corpus
    if is_plain_text(corpus):
        return PromptForm(model.tokenizer, "plain"), [tuple(example.sequence) for example in text.examples]
    form = PromptForm(model.tokenizer, spec.shown_as, (corpus.source_language, corpus.target_language))
    return form, form.prompts(orders(corpus), [pair.source for pair in corpus])


def new_tokens(models: Sequence[OpenedModel], prompts: Sequence[Sequence[int]], limit: int) -> int:
    """Return the most tokens that are generated: `limit`, or what the smallest context holds behind the longest prompt."""
    contexts = [model.checkpoint.context for model in models]
    room = min((context for context in contexts if context is not None), default=None)
    return limit if room is None else max(1, min(limit, room - max(len(prompt) for prompt in prompts)))
