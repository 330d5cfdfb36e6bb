"""A row patch as a LoRA: K new rows are exactly a LoRA of rank K on the embedding, with a one-hot matrix A."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ks_lottery.config.choices import MOST_RANK
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint


@dataclass(frozen=True, eq=False)
class RowLora:
    """What is added to one embedding matrix: ``rows.T @ moves``, of shape (V, d).

    Parameters
    ----------
    rows
        Which rows get how much of each move, shape (r, V). One-hot, and in bfloat16, which is exact, where r = K; float32
        where the rank is smaller.
    moves
        What is added, shape (r, d), float32.
    error
        Norm of what is lost, divided by the norm of new minus old values (Frobenius): 0 where r = K.
    """

    rows: torch.Tensor
    moves: torch.Tensor
    error: float

    @property
    def rank(self) -> int:
        """Rank r."""
        return len(self.moves)

    @property
    def size(self) -> int:
        """Bytes of both matrices."""
        return self.rows.nbytes + self.moves.nbytes


def check_rank(patch: RowPatch, rank: int | None) -> int:
    """Return the rank that a patch gets.

    Raises
    ------
    UserError
        When the patch changes no row, `rank` is out of range, or the patch needs a higher rank than vLLM loads and no lower one
        is asked for.
    """
    if rank is not None and not 1 <= rank <= MOST_RANK:
        raise UserError(f"`rank` is {rank}, but must be from 1 to {MOST_RANK}")
    if len(patch) == 0:
        raise UserError("the patch changes no row: there is nothing to export")
    if rank is None and len(patch) > MOST_RANK:
        raise UserError(
            f"the patch changes {len(patch):,} rows, so that its LoRA is of rank {len(patch):,}, and vLLM loads at most "
            f"{MOST_RANK}: export it as merged, gguf or peft, or give `rank` for an approximation whose error is reported"
        )
    return min(rank or len(patch), len(patch), patch.values.shape[1])


def row_lora(
    checkpoint: Checkpoint, patch: RowPatch, side: Literal["input", "output"], rank: int | None
) -> RowLora | None:
    """Return the LoRA of one side; None where the patch leaves that side alone.

    Parameters
    ----------
    rank
        Rank of a truncated singular value decomposition of new minus old values, the nearest matrix of that rank; None, or
        one of at least K, for the exact LoRA.
    """
    values = patch.values_of(side)
    if values is None:
        return None
    moves = values - checkpoint.rows(patch.ids, side)
    ids, count = torch.from_numpy(patch.ids), checkpoint.vocabulary
    if rank is None or rank >= len(ids):
        rows = torch.zeros((len(ids), count), dtype=torch.bfloat16)
        rows[torch.arange(len(ids)), ids] = 1
        return RowLora(rows, moves.contiguous(), 0.0)
    u, s, v = torch.linalg.svd(moves.double(), full_matrices=False)
    kept = min(rank, len(s))
    rows = torch.zeros((kept, count))
    rows[:, ids] = u[:, :kept].T.float()
    near = (s[:kept, None] * v[:kept]).float()
    lost = torch.linalg.norm(moves.double() - rows[:, ids].T.double() @ near.double())
    return RowLora(rows, near.contiguous(), float(lost / torch.linalg.norm(moves.double()).clamp_min(1e-300)))
