"""The examples of a tuning: a text in tokens, or examples as they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.batches import check_rows, encode
from ks_lottery.corpus.corpus import Corpus
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.corpus.batches import Example
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tuning.tune_spec import TuneSpec


def encoded(loaded: LoadedModel, corpus: Corpus | Sequence[Example], spec: TuneSpec) -> Sequence[Example]:
    """Return the examples of a text that fit into ``spec.max_tokens``; given examples as they are.

    Raises
    ------
    UserError
        When there is none, or one has a token without a row.
    """
    rows = loaded.checkpoint.vocabulary
    if not isinstance(corpus, Corpus):
        if not corpus:
            raise UserError("there is no example: give at least one")
        check_rows([example.sequence for example in corpus], rows, "examples")
        return corpus
    spans = spec.kind == "rows"
    more: dict[str, Any] = {"template": spec.template, "max_tokens": spec.max_tokens, "rows": rows, "spans": spans}
    examples, _ = encode(loaded.tokenizer, corpus, **more)
    if not examples:
        raise UserError(f"no example of {corpus.origin} fits into {spec.max_tokens} tokens: raise `max_tokens`")
    return examples
