"""Rows of the embedding as something trainable: put into a model, and taken out as a patch."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import RowPatch
from ks_lottery.models.language_model import LabelledLanguageModel
from ks_lottery.models.sides import base_values, installed_rows
from ks_lottery.tuning.trainable import Trainable
from ks_lottery.tuning.trainer import whole

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy as np
    import numpy.typing as npt

    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.models.load import LoadedModel


@contextmanager
def row_trainable(
    loaded: LoadedModel,
    ids: npt.NDArray[np.int64],
    *,
    side: Side = "input",
    share_prefix: bool = True,
    described: Mapping[str, Any] | None = None,
    record: bool = False,
) -> Generator[Trainable[RowPatch]]:
    """Put trainable rows into a model inside a block; afterwards it is as it was.

    They start from the base's values, and are float32 whatever the precision of the frozen body.

    Parameters
    ----------
    ids
        Rows, shape (K,), ascending.
    described
        Settings that the patch's manifest holds.
    record
        Let the patch carry what each row contributed (`AttributionRecorder`); on the input side.
    """
    from ks_lottery.tuning.recorder import AttributionRecorder

    start, settings = base_values(loaded, ids, side), dict(described or {})
    values: Any = start["values"]
    count = loaded.checkpoint.vocabulary
    with installed_rows(loaded.lm, ids, values, side, start["output_values"], count) as rows:
        model = LabelledLanguageModel(loaded.lm, share_prefix=share_prefix)
        recorder = AttributionRecorder(rows.embedding, model) if record and rows.embedding is not None else None

        def collect() -> RowPatch:
            copies = [whole(parameter).float() for parameter in rows.parameters()]
            patch = RowPatch(
                ids=ids,
                values=copies[0],
                base=loaded.checkpoint.describe(),
                settings=settings,
                side=side,
                output_values=copies[1] if len(copies) > 1 else None,
            )
            if recorder is None:
                return patch
            made_from = {"base": dict(patch.base), "patch": patch.content}
            return replace(patch, attribution=recorder.attribution(ids, made_from=made_from, settings=settings))

        yield Trainable(model=model, collect=collect, callbacks=() if recorder is None else (recorder,))
