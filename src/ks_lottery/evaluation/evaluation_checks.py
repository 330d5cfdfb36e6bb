"""What an evaluation needs no model for: its text, folder and settings, checked before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.corpus.mixed_templates import with_template
from ks_lottery.evaluation.evaluation import check_folder
from ks_lottery.evaluation.general_text import general_text
from ks_lottery.evaluation.hypotheses import read_hypotheses
from ks_lottery.evaluation.language_check import check_language
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.spm import find_model
from ks_lottery.evaluation.translate import checked_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.models.tokenized import Tokenized


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
        know the language, a sentence does not fit the context, or a folder has other content.
    """
    checkpoint = tokenized.checkpoint
    for tokenizer in spec.spm:
        find_model(tokenizer, spec.spm)
    for name in spec.against:
        read_hypotheses(Path(name))
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
    return measured_text(
        tokenized,
        corpus,
        template=with_template(spec, getattr(product, "prompt", None)).shown_as,
        max_tokens=spec.max_tokens,
    )
