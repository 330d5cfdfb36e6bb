"""Controls of `where`: the patch cut down to some of its rows, or with other values; and the text with another prompt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.prompts import CHAT, TEMPLATES
from ks_lottery.errors import UserError
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.where_sections import DIRECTION, OTHER_ROWS, TEMPLATE_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.evaluation.measured import MeasuredText
    from ks_lottery.evaluation.where_spec import WhereSpec
    from ks_lottery.models.load import LoadedModel

DRAWS = 3
"""Random directions that are drawn."""


@dataclass(kw_only=True)
class Controls:
    """What is measured beside the spans.

    Parameters
    ----------
    patches
        By name, on the text as it is.
    texts
        By name of the prompt, the same sentences with another prompt, for the whole patch and for the original.
    notes
        Controls that there are not, and why, one sentence each.
    """

    patches: dict[str, RowPatch] = field(default_factory=dict)
    texts: dict[str, MeasuredText] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def controls_of(loaded: LoadedModel, patch: RowPatch, text: MeasuredText, spec: WhereSpec) -> Controls:
    """Return the controls of a patch on a text whose examples say which of their tokens are of the source."""
    made = Controls()
    _subsets(loaded, patch, text, spec, made)
    moves = patch.values - loaded.checkpoint.rows(patch.ids)
    for draw in range(DRAWS):
        made.patches[f"{DIRECTION}{draw + 1}"] = random_directions(patch, moves, spec.seed + draw)
    if len(patch) > 1:
        made.patches["shuffled rows"] = shuffled(patch, spec.seed)
    else:
        made.notes.append("No shuffled rows: the patch has one row.")
    _prompts(loaded, text, spec, made)
    return made


def random_directions(patch: RowPatch, moves: torch.Tensor, seed: int) -> RowPatch:
    """Return a patch whose rows moved as far as those of `patch`, each in a direction drawn from all with equal chance.

    Parameters
    ----------
    moves
        Values of the patch minus those of the base, shape (K, d).
    """
    drawn = torch.randn(moves.shape, generator=torch.Generator().manual_seed(seed))
    directions = drawn / drawn.norm(dim=1, keepdim=True)
    values = patch.values - moves + directions * moves.norm(dim=1, keepdim=True)
    return replace(patch, values=values, attribution=None)


def shuffled(patch: RowPatch, seed: int) -> RowPatch:
    """Return a patch with the values of `patch` at other rows: a random cycle, in which no row keeps its own."""
    order = np.random.default_rng(seed).permutation(len(patch))
    source = np.empty(len(patch), dtype=np.int64)
    source[order] = np.roll(order, 1)
    return replace(patch, values=patch.values[torch.from_numpy(source)], attribution=None)


def instruction_tokens(examples: Sequence[Example]) -> set[int]:
    """Return the tokens that are in the instruction of an example; none of one whose source is not known."""
    return {
        token
        for e in examples
        if e.in_source is not None
        for token, here in zip(e.prompt, e.in_source, strict=True)
        if not here
    }


def _subsets(loaded: LoadedModel, patch: RowPatch, text: MeasuredText, spec: WhereSpec, made: Controls) -> None:
    """Add the template rows, as many others, and the row of the beginning-of-sentence token."""
    here = instruction_tokens(text.examples)
    rows = _among(patch, here)
    if len(rows):
        made.patches[TEMPLATE_ROWS] = patch.restrict(rows)
    else:
        made.notes.append("No template rows: none of the rows of the patch is in the instruction.")
    counts = Counter(token for e in text.examples for token in e.sequence[:-1])
    free = _among(patch, set(counts) - here - _every_template(loaded, text.corpus, spec))
    # Those that occur most, so that the control has every chance; ties go to the lower row.
    chosen = sorted(free.tolist(), key=lambda row: (-counts[row], row))[: len(rows)]
    if chosen:
        made.patches[OTHER_ROWS] = patch.restrict(np.array(chosen, dtype=np.int64))
    if len(chosen) < len(rows):
        made.notes.append(
            f"As many rows in no template: {len(chosen):,} of the patch occur in the text, of {len(rows):,} asked for."
        )
    bos = loaded.tokenizer.bos_token_id
    if isinstance(bos, int) and counts[bos] and bos in patch.ids:
        made.patches["BOS row alone"] = patch.restrict(np.array([bos]))
    else:
        made.notes.append("No BOS row: the patch does not change it, or the prompts do not begin with it.")


def _among(patch: RowPatch, tokens: set[int]) -> npt.NDArray[np.int64]:
    return patch.ids[np.isin(patch.ids, np.fromiter(tokens, dtype=np.int64, count=len(tokens)))]


def _every_template(loaded: LoadedModel, corpus: Corpus, spec: WhereSpec) -> set[int]:
    """Return the tokens of all templates that there are, around the first sentence of the text."""
    first = corpus.head(1)
    names = [*TEMPLATES, *([CHAT] if loaded.tokenizer.chat_template else [])]
    tokens: set[int] = set()
    for name, asked in [*((name, first) for name in names), *_paraphrased(first, spec)]:
        try:
            tokens |= instruction_tokens(
                encode(loaded.tokenizer, asked, template=name, max_tokens=2**31, spans=True)[0]
            )
        except UserError:  # a chat template that cannot be used has no tokens to leave out
            continue
    return tokens


def _paraphrased(corpus: Corpus, spec: WhereSpec) -> list[tuple[str, Corpus]]:
    """Return the template and the corpus of the user's own prompt."""
    if spec.paraphrase is None:
        return []
    if "{source}" in spec.paraphrase:
        return [(spec.paraphrase, corpus)]
    return [(spec.shown_as, corpus.with_instruction(spec.paraphrase))]


def _prompts(loaded: LoadedModel, text: MeasuredText, spec: WhereSpec, made: Controls) -> None:
    """Add the text with other prompts."""
    others: list[tuple[str, str, Corpus]] = []
    if spec.template != "plain":
        others.append(("prompt plain", "plain", text.corpus))
    if spec.template != CHAT and loaded.tokenizer.chat_template:
        others.append(("prompt chat", CHAT, text.corpus))
    elif spec.template != CHAT:
        made.notes.append("No prompt chat: the tokenizer has no chat template.")
    others += [("paraphrase", template, corpus) for template, corpus in _paraphrased(text.corpus, spec)]
    for name, template, corpus in others:
        asked: dict[str, Any] = {"template": template, "max_tokens": spec.max_tokens}
        try:
            made.texts[name] = measured_text(loaded, corpus, **asked)
        except UserError as error:
            made.notes.append(f"No {name}: {error}.")
