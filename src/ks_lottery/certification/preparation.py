"""What a certification needs no model for: its settings, small models and texts, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ks_lottery.certification.calibration import open_texts
from ks_lottery.certification.choice import check_budget
from ks_lottery.certification.small_models import candidate_groups, check_patches
from ks_lottery.corpus.mixed_templates import with_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.certification.calibration import Texts
    from ks_lottery.certification.candidates import Candidate
    from ks_lottery.certification.spec import CertifySpec
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.models.tokenized import Tokenized
    from ks_lottery.tickets.scan import Scan


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """A certification before its first prediction.

    Parameters
    ----------
    groups
        Small models of each certificate, by its name.
    texts
        Text to report on and text to calibrate on.
    """

    groups: Mapping[str, Sequence[Candidate]]
    texts: Texts


def prepare_certification(
    spec: CertifySpec, tokenized: Tokenized, tuned: RowPatch, scan: Scan, corpus: Corpus
) -> Preparation:
    """Check everything that can be checked without a model, and return the small models and the texts.

    Parameters
    ----------
    tokenized
        A loaded model, or a checkpoint with its tokenizer alone.
    tuned, scan, corpus
        As for `ks_lottery.certification.certify.certify_with`.

    Raises
    ------
    UserError
        When patches, tickets, text or settings do not belong together, or the calibration text is too small for the choice.
    """
    spec.check()
    spec = with_template(spec, tuned.prompt)
    check_patches(tokenized.checkpoint, tuned, spec)
    groups = candidate_groups(tuned, scan, spec, tokenized.checkpoint)
    texts = open_texts(
        tokenized, corpus, spec.calibration,
        pool=spec.pool, rest=spec.rest, same_pool=spec.same_pool, template=spec.shown_as, max_tokens=spec.max_tokens,
        seed=spec.split_seed,
    )  # fmt: skip
    if texts.pool is not None and spec.epsilon is not None:
        config = spec.config
        check_budget(
            texts.pool.drawn, spec.epsilon, config.delta, pool=texts.pool, kind=spec.loss, bounding=config.bound
        )
    return Preparation(groups=groups, texts=texts)
