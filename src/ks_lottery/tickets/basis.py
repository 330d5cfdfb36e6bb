"""What a selector looks at beside a saved scan: opens the attribution, or the text and the tokenizer that it needs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.config.choices import ATTRIBUTIONS, MEASURED, SCORES
from ks_lottery.config.ticket_commands import SelectSettings
from ks_lottery.errors import UserError
from ks_lottery.models.vocabulary import tokens_here
from ks_lottery.tickets.origin import attribution_beside, recorded, tokens_part
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.selectors import Basis, check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerBase

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.config.groups import TextSource
    from ks_lottery.corpus.batches import Example

    _Stage = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def open_scan(file: str | Path, tensor: str | None = None) -> Scan:
    """Open the part of a saved scan whose rows can be tickets; see `tokens_part`."""
    return tokens_part(Scan.open(file), tensor)


def basis_of(
    by: str,
    scan: Scan,
    file: str | Path,
    *,
    size: int | None = None,
    alpha: float | None = None,
    interval: tuple[float, float] | None = None,
    correction: str = SelectSettings.correction,
    without: str | None = SelectSettings.without,
    seed: int = SelectSettings.seed,
    corpus: TextSource | None = None,
    template: str = SelectSettings.template,
    attribution: str | Path | None = None,
    model: str | None = None,
    stage: _Stage | None = None,
) -> Basis:
    """Open what a selector needs beside a saved scan.

    Parameters
    ----------
    by
        Selector, one of `ks_lottery.config.choices.RANKINGS`.
    scan, file
        The scan, and its file: a run keeps the attribution beside it.
    without
        Rows that are left out, one of `ks_lottery.config.choices.EXCLUSIONS`; None for none.
    corpus
        Text that frequency, occurrence, template and random-reachable look at, and whose template `without` leaves out; the
        gradients are measured there, on the original model.
    attribution
        Folder of the embed tuning that recorded lca and gradient; by default the one beside the scan.
    model
        Model whose tokenizer reads the corpus; by default the scan's base.
    stage
        Shows the measuring of gradients, such as `Screen.stage`: called with a title, it gives a context manager that yields
        a function of what is done and what there is to do.

    Raises
    ------
    UserError
        When something is missing, cannot be read, or belongs to another model or tuning than the scan.
    """
    basis = Basis(
        vocabulary=len(scan), size=size, seed=seed, scan=scan, alpha=alpha, interval=interval, correction=correction,
        without=without,
    )  # fmt: skip
    if by not in SCORES:
        check_size(by, size)
    if by in ATTRIBUTIONS:
        # With `without`, the corpus may be there for its template alone.
        only_template = without is not None and (by not in MEASURED or attribution is not None)
        read = None if only_template else corpus
        basis = replace(
            basis, attribution=_attribution_for(by, scan, Path(file), read, template, attribution, model, stage)
        )
    if corpus is None or (without is None and by in (*SCORES, *ATTRIBUTIONS)):
        return basis
    from ks_lottery.corpus.monolingual import read_sentences, token_counts
    from ks_lottery.models.load import load_tokenizer
    from ks_lottery.models.rows import reachable_rows
    from ks_lottery.models.sources import open_unconverted

    checkpoint = open_unconverted(model_of(scan, model))
    tokenizer = load_tokenizer(checkpoint)
    if by == "frequency":
        basis = replace(basis, frequencies=token_counts(tokenizer, read_sentences(corpus)))
    if by == "frequency" and without is None:
        return basis

    @cache
    def examples() -> Sequence[Example]:
        return _examples(tokenizer, corpus, template, spans="template" in (by, without))

    def reachable() -> npt.NDArray[np.int64]:
        return reachable_rows([e.sequence for e in examples()], checkpoint.padding)

    return replace(basis, examples=examples, reachable=reachable)


def _attribution_for(
    by: str,
    scan: Scan,
    file: Path,
    corpus: TextSource | None,
    template: str,
    attribution: str | Path | None,
    model: str | None,
    stage: _Stage | None,
) -> Attribution | None:
    """Open what embed tuning recorded, or measure gradients of the original model over a text."""
    if corpus is None:
        place = attribution_beside(file) if attribution is None else Path(attribution)
        return None if place is None else recorded(scan, place, str(file))
    if by not in MEASURED:
        raise UserError(f"{by} is recorded by embed tuning, not read from a text: give `attribution`, not `corpus`")
    if attribution is not None:
        raise UserError(f"{by} needs `attribution` (what was recorded) or `corpus` (original model), not both")
    from ks_lottery.models.gradients import gradients_of
    from ks_lottery.models.load import load_model, open_checkpoint

    loaded = load_model(open_checkpoint(model_of(scan, model)))
    base = scan.made_from["base"].get("fingerprint", loaded.checkpoint.fingerprint)
    if base != loaded.checkpoint.fingerprint:
        raise UserError(f"{loaded.checkpoint.name} is not the base of {file}: give the model that is")
    examples = _examples(loaded.tokenizer, corpus, template)
    if not examples:
        raise UserError(f"no example of {corpus.path} fits into 512 tokens")
    if stage is None:
        return gradients_of(loaded, examples)
    with stage("gradients of the original model") as tick:
        return gradients_of(loaded, examples, tick=tick)


def model_of(scan: Scan, model: str | None = None) -> str:
    """Return the name of a scan's base, or `model` where that is given."""
    return model or str(scan.made_from.get("base", {}).get("name", ""))


def _examples(
    tokenizer: PreTrainedTokenizerBase, corpus: TextSource, template: str, *, spans: bool = False
) -> list[Example]:
    from ks_lottery.corpus.batches import encode
    from ks_lottery.corpus.source import read_text

    return encode(tokenizer, read_text(corpus), template=template, spans=spans)[0]


def tokens_of_base(scan: Scan, model: str | None = None) -> list[str] | None:
    """Return the token string of each row of a scan; None where the model has no tokenizer on this machine."""
    shown = tokens_here(model_of(scan, model))
    return None if shown is None else [*shown, *["''"] * (len(scan) - len(shown))]
