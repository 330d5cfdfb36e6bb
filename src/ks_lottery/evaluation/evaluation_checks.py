"""What an evaluation needs no model for: its text, folder and settings, checked before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.corpus.mixed_templates import with_template
from ks_lottery.errors import UserError
from ks_lottery.evaluation.against import OtherEvaluation
from ks_lottery.evaluation.comparison import check_same_references
from ks_lottery.evaluation.evaluation import check_folder
from ks_lottery.evaluation.evaluation_sections import TITLES
from ks_lottery.evaluation.general_text import general_text
from ks_lottery.evaluation.language_check import check_language
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.scores import fingerprint, missing_metrics
from ks_lottery.evaluation.spm import find_model
from ks_lottery.evaluation.translate import checked_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.models.tokenized import Tokenized


def check_before(spec: EvaluationSpec, corpus: Corpus) -> dict[str, str]:
    """Check everything that needs neither a model nor its tokenizer, before either is opened.

    Returns
    -------
    dict
        Name of a metric that cannot be computed, to one sentence that says why.

    Raises
    ------
    UserError
        When a text of one language is to be translated, a SentencePiece model that was given cannot be used, no metric that was
        asked for can be computed, the language check is not installed or does not know the language, or a folder of `against`
        has no translations of this text.
    """
    if corpus.monolingual and spec.translates:
        raise UserError(
            f"{corpus.origin} is text of one language, from which nothing is translated: give `metrics` accuracy alone, or "
            "parallel text"
        )
    for tokenizer in spec.spm:
        find_model(tokenizer, spec.spm)
    missing = missing_metrics(spec.scored, spec.spm, corpus.target_language)
    if missing and len(missing) == len(spec.scored) and not spec.predicts:
        name, reason = next(iter(missing.items()))
        raise UserError(f"{TITLES[name]} cannot be computed, and no other metric was asked for: {reason}")
    if spec.language:
        check_language(corpus.target_language)
    check_against(spec, corpus, whole=spec.max_tokens is None)
    return missing


def check_against(spec: EvaluationSpec, corpus: Corpus, *, whole: bool = True) -> None:
    """Refuse to compare with translations of another text.

    Parameters
    ----------
    whole
        Off where longer pairs are still to be left out of `corpus`: then only the files are checked.
    """
    for name in spec.against:
        other = OtherEvaluation.open(Path(name), translated=bool(spec.scored), predicted=spec.predicts)
        references = other.references
        if whole and references is not None:
            own = [pair.target for pair in corpus.pairs[: spec.translations]]
            check_same_references({"this text": fingerprint(own), str(name): fingerprint(references)})


def check_evaluation(
    spec: EvaluationSpec,
    tokenized: Tokenized,
    corpus: Corpus,
    product: RowPatch | Path | None = None,
    folder: str | Path | None = None,
    general: Sequence[str] | None = None,
) -> MeasuredText:
    """Check everything that can be checked without a model, and return the text in tokens.

    Parameters
    ----------
    tokenized
        A loaded model, or a checkpoint with its tokenizer alone.
    product
        A row patch, or the folder of an adapter.
    folder
        Where the evaluation is written; None for nowhere.
    general
        Sentences of general text; None for none.

    Raises
    ------
    UserError
        When a setting of `generate` or a SentencePiece model cannot be used, the language check is not installed or does not
        know the language, a sentence does not fit the context, a folder of `against` has translations of another text, or a
        folder has other content.
    """
    checkpoint = tokenized.checkpoint
    for tokenizer in spec.spm:
        find_model(tokenizer, spec.spm)
    if spec.language:
        check_language(corpus.target_language)
    if spec.translates and "auto_map" not in checkpoint.config:  # a model with code of its own may take more settings
        checked_settings(None, spec.generation, num_beams=spec.num_beams, max_new_tokens=spec.max_new_tokens)
    if folder is not None:
        made_from = {"base": checkpoint.describe(), "text": corpus.fingerprint}
        if not isinstance(product, Path):  # what an adapter holds is known when PEFT has loaded it
            made_from["made"] = "" if product is None else product.content
        check_folder(Path(folder), made_from)
    if general is not None:
        general_text(tokenized, general, max_tokens=spec.max_tokens)
    text = measured_text(
        tokenized,
        corpus,
        template=with_template(spec, getattr(product, "prompt", None)).shown_as,
        max_tokens=spec.max_tokens,
    )
    check_against(spec, text.corpus)
    return text
