"""The settings of `ks_lottery.tune` by name and type, so that an editor completes them whatever the method returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import TrainerCallback

    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.config.settings import TextSource
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.tickets.tickets import Tickets

RowMethod = Literal[
    "embed", "partial", "frequency", "occurrence", "random", "random-reachable", "token-prompt", "new-tokens", "frozen"
]
AdapterMethod = Literal["lora", "qlora", "prefix", "prompt"]


class TuneKeywords(TypedDict, total=False):
    """Settings of `ks_lottery.tune`, which says what each is; a test compares the two."""

    tickets: Tickets | str | Path | None
    by: str | None
    size: int | None
    tokens: int | str | Sequence[str]
    count: int | None
    init: str
    description: str | None
    also_rows: Tickets | str | Path | None
    target_text: Sequence[str] | None
    side: Side
    layers: str | None
    quantize: str | None
    template: str
    max_tokens: int
    preset: str | None
    validation: Corpus | TextSource | str | Path | Sequence[Example] | None
    folder: str | Path | None
    save_every: int
    evaluate_every: int
    patience: int
    report_to: Sequence[str]
    fsdp: bool
    callbacks: Sequence[TrainerCallback]
    seed: int
    dtype: Literal["auto", "float32", "bfloat16"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    trust_remote_code: bool
    learning_rate: float | None
    embed_learning_rate: float | None
    epochs: float | None
    embed_epochs: float | None
    batch_size: int
    gradient_accumulation: int
    warmup_ratio: float
    max_grad_norm: float
    weight_decay: float
    share_prefix: bool
    gradient_checkpointing: bool
    progress: bool
