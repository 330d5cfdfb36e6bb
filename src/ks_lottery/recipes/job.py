"""One run in progress: its config and folder, and the inputs and saved artifacts that its stages share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.corpus.batches import Example, encode
from ks_lottery.models.load import LoadedModel, load_model
from ks_lottery.models.vocabulary import token_strings, vocabulary_of
from ks_lottery.recipes.method_names import ORIGINAL
from ks_lottery.tickets.scan import Scan
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import RunConfig
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.corpus.selection import Split
    from ks_lottery.store.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run in progress.

    Parameters
    ----------
    report
        What was read, dropped and split of the text.
    general
        Sentences that forgetting is measured on.
    """

    config: RunConfig
    folder: RunFolder
    checkpoint: Checkpoint
    split: Split
    report: dict[str, Any]
    general: list[str]

    @cached_property
    def loaded(self) -> LoadedModel:
        """The original model; loaded when the first stage asks for it."""
        model = self.config.model
        return load_model(
            self.checkpoint, dtype=model.dtype, device=model.device, trust_remote_code=model.trust_remote_code
        )

    @cached_property
    def tokens(self) -> list[str]:
        """Each row's token, safe to print."""
        return token_strings(self.loaded.tokenizer, self.checkpoint.vocabulary)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What kind of text each row's token is."""
        return vocabulary_of(self.loaded.tokenizer, self.checkpoint.vocabulary).kinds_of(self.checkpoint.vocabulary)

    def examples(self, corpus: Corpus) -> list[Example]:
        """Tokenize a part of the text as the config says."""
        text, rows = self.config.text, self.checkpoint.vocabulary
        form: dict[str, Any] = {"template": text.template, "max_tokens": text.max_tokens}
        return encode(self.loaded.tokenizer, corpus, **form, rows=rows, spans=True)[0]

    @cached_property
    def train(self) -> list[Example]:
        """Training examples."""
        return self.examples(self.split.train)

    @cached_property
    def calibration(self) -> list[Example]:
        """Examples that guarantees are calibrated on."""
        return self.examples(self.split.calibration)

    @cached_property
    def test(self) -> list[Example]:
        """Examples that everything is measured on."""
        return self.examples(self.split.test)

    def patch(self, method: str) -> RowPatch:
        """Return the saved patch of a method; that of `ORIGINAL` changes no row."""
        if method == ORIGINAL:
            return RowPatch(
                np.empty(0, dtype=np.int64), self.checkpoint.rows(np.empty(0, np.int64)), self.checkpoint.describe()
            )
        return RowPatch.open(self.folder.method(method))

    @property
    def scan(self) -> Scan:
        """The saved scan."""
        return Scan.open(self.folder.scan)

    @property
    def tickets(self) -> Tickets:
        """The saved tickets."""
        return Tickets.open(self.folder.tickets)
