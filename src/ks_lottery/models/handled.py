"""Which models can be handled: decoders whose embeddings are those that their checkpoint stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from ks_lottery.checkpoint.reader import Checkpoint


def check_decoder(checkpoint: Checkpoint) -> None:
    """Refuse an encoder-decoder, by its config.

    Raises
    ------
    UserError
        When it is one.
    """
    if checkpoint.config.get("is_encoder_decoder"):
        raise UserError(
            f"{checkpoint.name} cannot be handled: it is an encoder-decoder ({checkpoint.config.get('model_type')}), "
            "and the method is that of decoder-only language models"
        )


def check_handled(checkpoint: Checkpoint, lm: Any) -> None:
    """Refuse a model whose embeddings are not those that its checkpoint stores.

    Raises
    ------
    UserError
        When it is one.
    """
    from ks_lottery.models.rows import input_embedding

    stored, reason = checkpoint.units[checkpoint.embedding], ""
    try:
        embedding, head = input_embedding(lm), lm.get_output_embeddings()
        if tuple(embedding.weight.shape) != (stored.count, stored.width):
            reason = f"its input embedding is not {checkpoint.embedding}, which is {stored.count:,} x {stored.width:,}"
        elif checkpoint.head == checkpoint.embedding and head is not None and head.weight is not embedding.weight:
            reason = "its config says that the head is a matrix of its own, but none is stored"
    except TypeError as error:
        reason = str(error)
    if reason:
        raise UserError(f"{checkpoint.name} cannot be handled: {reason}")
