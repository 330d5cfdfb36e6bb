"""What benchmarks of training share: the text, the stock Trainer as the peer, and a clock without the first steps."""

from __future__ import annotations

import importlib
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ks_lottery.corpus.batches import Example

BATCH, SKIP, SEED = 8, 2, 0


def import_before(*modules: str) -> None:
    """Import what either side of a comparison needs: the memory of modules is not the memory of a training."""
    for module in modules:
        importlib.import_module(module)


def news(data: Path | None) -> Any:
    """Return parallel text to train on."""
    from ks_lottery.corpus.gettext import read_catalogs
    from ks_lottery.corpus.readers import read_corpus
    from ks_lottery.corpus.selection import keep_useful, split
    from ks_lottery.store.assets import catalog_files, catalog_root

    if data is None:
        corpus, _ = read_catalogs(catalog_files(), catalog_root(), target_language="ca")
    else:
        name = data / "globalvoices.en-ca.en"
        corpus = read_corpus(name, target=name.with_suffix(".ca"), source_language="en", target_language="ca")
    return split(keep_useful(corpus)[0]).train


class Clock:
    """Makes a callback that notes the time after each step."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        times = self.times = [0.0]

        class Note(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                times[0] = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                times.append(time.perf_counter())

        self.callback = Note()

    def seconds(self) -> float:
        """Return the time of the steps that count."""
        return self.times[-1] - self.times[SKIP]


def padded(features: Sequence[dict[str, Any]]) -> Any:
    """Pad a batch as `DataCollatorForSeq2Seq` would: labels where the tokens are, for a model that shifts them itself."""
    from ks_lottery.corpus.batches import collate

    return collate(features)


def stock(model: Any, examples: Sequence[Example], clock: Clock) -> None:
    """Train with the stock Trainer."""
    from transformers import Trainer, TrainingArguments

    from ks_lottery.corpus.batches import NO_LABEL

    features = [{"input_ids": e.sequence, "labels": [NO_LABEL] * len(e.prompt) + list(e.response)} for e in examples]
    device = str(next(model.parameters()).device.type)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch, per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=1e-2,
            lr_scheduler_type="cosine", weight_decay=0.0, train_sampling_strategy="group_by_length", seed=SEED,
            report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, remove_unused_columns=False,
            use_cpu=device == "cpu", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=features, data_collator=padded, callbacks=[clock.callback])
        trainer.train()
