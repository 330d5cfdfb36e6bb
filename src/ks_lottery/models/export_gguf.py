"""Writes a patch for llama.cpp: the base's GGUF file with the new rows, or llama.cpp's own form of a LoRA."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ks_lottery.checkpoint.added_tokens import refuse_new_tokens
from ks_lottery.checkpoint.gguf_file import NewTensor, type_name, with_rows, write_gguf
from ks_lottery.checkpoint.gguf_rows import EMBEDDING, HEAD
from ks_lottery.checkpoint.gguf_tokens import longer_vocabulary
from ks_lottery.config.job_commands import ExportSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.models.export_parts import (
    chat_template_of,
    check_fits,
    is_tied,
    notes_on_tokens,
    opened,
    work_of,
    write_terms,
)
from ks_lottery.models.gguf_base import base_gguf, checked_gguf
from ks_lottery.models.load import load_tokenizer
from ks_lottery.models.low_rank import check_rank, row_lora
from ks_lottery.models.model_card import card
from ks_lottery.models.prompt_template import modelfile

if TYPE_CHECKING:
    from ks_lottery.checkpoint.gguf_file import Rewritten
    from ks_lottery.checkpoint.gguf_header import GgufHeader
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.models.export_parts import Base

MODEL_FILE, ADAPTER_FILE, UNTIED_FILE = "model.gguf", "adapter.gguf", "base-untied.gguf"

BIAS = "output.bias"

CHAT_KEY = "tokenizer.chat_template"

ONE_MATRIX = {"gemma", "gemma2", "command-r", "cohere2", "cohere2moe", "openelm"}
"""Architectures for which llama.cpp reads no head beside the embedding."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """Content of a GGUF file that is to be written: what replaces tensors of the base, or comes beside them."""

    header: GgufHeader
    tensors: dict[str, NewTensor]
    rows: dict[Literal["input", "output"], torch.Tensor]
    notes: list[str]
    texts: dict[str, str] = field(default_factory=dict[str, str])
    values: dict[str, bytes] = field(default_factory=dict[str, bytes])


@checks_names
def to_gguf(
    checkpoint: Base, patch: RowPatch | str | Path, folder: str | Path, *, force: bool = ExportSettings.force
) -> Path:
    """Write a GGUF file for llama.cpp with the new rows inside.

    From a base that is a GGUF file the new one differs in the changed rows of the matrix alone, which get its quantisation;
    where the package gguf has no quantiser for it, the matrix becomes F16, and the README says so. A tied base gets its
    matrix a second time, as the head, where the patch changes one side. A base of safetensors is converted first, in its own
    type, by llama.cpp's script, which is fetched through pip.

    Parameters
    ----------
    checkpoint
        The base: a GGUF file, a folder, a hub id, an opened checkpoint, or a loaded model.
    patch
        The patch, or its folder.
    folder
        Where to write ``model.gguf``; new, empty, or the same export, which is then left as it is.
    force
        Accept a patch of another base; off by default.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        When the patch belongs to another base, llama.cpp cannot have the model with these rows, the base cannot be converted,
        or `folder` holds something else.
    """
    checkpoint, patch, folder = opened(checkpoint, patch, folder)
    tied = is_tied(checkpoint)
    check_fits(checkpoint, patch, tied=tied, force=force)
    work, about = work_of(checkpoint, patch, folder, "gguf")
    if work.is_done(about):
        return folder
    with base_gguf(checkpoint) as file:
        written = _with_patch(checked_gguf(file, checkpoint), patch, tied=tied)
        template, _ = chat_template_of(checkpoint, patch)
        if template is not None:
            written = replace(written, texts={CHAT_KEY: template})
        written.notes.extend(notes_on_tokens(checkpoint, patch))
        with work.publish({**about, "notes": written.notes}) as temporary:
            write_gguf(written.header, temporary / MODEL_FILE, written.tensors, written.texts, written.values)
            if template is not None and patch.prompt is not None:
                end = str(load_tokenizer(checkpoint).eos_token)
                (temporary / "Modelfile").write_text(modelfile(patch.prompt, MODEL_FILE, end), encoding="utf-8")
            commands = f"llama-server -m {MODEL_FILE}\n"
            text = card(checkpoint, patch, "gguf", notes=written.notes, commands=commands, exact=False)
            (temporary / "README.md").write_text(text, encoding="utf-8")
            write_terms(checkpoint, temporary)
    return folder


@checks_names
def to_gguf_lora(
    checkpoint: Base,
    patch: RowPatch | str | Path,
    folder: str | Path,
    *,
    rank: int | None = ExportSettings.rank,
    force: bool = ExportSettings.force,
) -> Path:
    """Write a LoRA in llama.cpp's own file format, for ``llama-server -m BASE --lora adapter.gguf``.

    llama.cpp stops with an assertion when a LoRA is on the embedding of a file whose head is its embedding. For a tied base the
    folder therefore also has ``base-untied.gguf``: the base, bit for bit, with its matrix a second time as the head.

    Parameters
    ----------
    checkpoint
        The base: a GGUF file, a folder, a hub id, an opened checkpoint, or a loaded model.
    patch
        The patch, or its folder.
    folder
        Where to write ``adapter.gguf``; new, empty, or the same export, which is then left as it is.
    rank
        Rank of an approximation, at most 512; None (the default) for the exact LoRA. Its relative error is in the README.
    force
        Accept a patch of another base; off by default.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        As `to_gguf`; also when the patch is empty, or has more than 512 rows and no `rank` is given.
    """
    checkpoint, patch, folder = opened(checkpoint, patch, folder)
    tied = is_tied(checkpoint)
    check_fits(checkpoint, patch, tied=tied, force=force)
    refuse_new_tokens(patch.added, "and a LoRA for llama.cpp has no vocabulary: export it as gguf or merged")
    used = check_rank(patch, rank)
    work, about = work_of(checkpoint, patch, folder, "gguf-lora", **({} if rank is None else {"rank": rank}))
    if work.is_done(about):
        return folder
    sides = {side: row_lora(checkpoint, patch, side, rank) for side in ("input", "output")}
    loras = {side: lora for side, lora in sides.items() if lora is not None}
    size, error = sum(lora.size for lora in loras.values()), max(lora.error for lora in loras.values())
    notes = [f"A LoRA of rank {used}: {size:,} bytes, most of them its matrix that picks rows."]
    if error:
        notes.append(f"Its rank is too low for the rows: it loses {error:.2%} of their change (Frobenius norm).")
    with base_gguf(checkpoint) as file:
        header = checked_gguf(file, checkpoint)
        untied = HEAD in header.tensors
        if not untied:
            _check_head(header)
            notes.append(
                f"The base is tied, and llama.cpp stops with a LoRA on a tied base: use it with {UNTIED_FILE} alone, which is "
                "the base with its matrix a second time."
            )
        base = Path(checkpoint.name).name if untied and checkpoint.name.endswith(".gguf") else "BASE.gguf"
        commands = f"llama-server -m {base if untied else UNTIED_FILE} --lora {ADAPTER_FILE}\n"
        with work.publish({**about, "notes": notes}) as temporary:
            if not untied:
                write_gguf(header, temporary / UNTIED_FILE, {HEAD: NewTensor.copy_of(header.tensors[EMBEDDING])})
            _write_adapter(temporary / ADAPTER_FILE, header.architecture, loras, used)
            text = card(checkpoint, patch, "gguf-lora", notes=notes, commands=commands, exact=False)
            (temporary / "README.md").write_text(text, encoding="utf-8")
            write_terms(checkpoint, temporary)
    return folder


def _with_patch(header: GgufHeader, patch: RowPatch, *, tied: bool) -> Written:
    """Return what replaces the two matrices of a file."""
    tensors: dict[str, NewTensor] = {}
    made: dict[Any, torch.Tensor] = {}
    notes: list[str] = []
    own_head = HEAD in header.tensors
    added = patch.added
    count = None if added is None else added.rows
    if not own_head and not tied:
        raise UserError(f"{header.file} has no {HEAD}, but the base has a head of its own: export it as merged")
    if not own_head and patch.side != "both" and len(patch):
        _check_head(header)
        tensors[HEAD], more = _kept(header, EMBEDDING, patch)
        notes += more
        notes.append(
            f"The base is tied; its matrix is in the file a second time, as {HEAD}, for the side that keeps it."
        )
    for side, name in (("input", EMBEDDING), ("output", HEAD)):
        values = patch.values_of("input" if side == "input" else "output")
        if values is None or not len(patch) or (name == HEAD and name not in header.tensors and name not in tensors):
            continue
        source = name if name in header.tensors else EMBEDDING
        new = with_rows(header, source, patch.ids, values.numpy(), count)
        tensors[name] = new.tensor
        made[side] = torch.from_numpy(new.rows)
        notes += [*new.notes, _rounding(name, values, new)]
    for name in (EMBEDDING, HEAD):
        if added is not None and added.grows and name in header.tensors and name not in tensors:
            tensors[name], more = _kept(header, name, patch)
            notes += more
    if added is not None and added.grows and BIAS in header.tensors:
        raise UserError(f"{header.file} has a bias of its head, which cannot grow: export it as merged")
    values = {} if added is None else longer_vocabulary(header, added)
    return Written(header=header, tensors=tensors, rows=made, notes=notes, values=values)


def _kept(header: GgufHeader, name: str, patch: RowPatch) -> tuple[NewTensor, tuple[str, ...]]:
    """Return a matrix whose rows stay as they are, and what to know of it; rows for new tokens are their mean."""
    if patch.added is None or not patch.added.grows:
        return NewTensor.copy_of(header.tensors[name]), ()
    width = header.tensors[name].shape[1]
    longer = with_rows(header, name, patch.ids[:0], np.empty((0, width), dtype=np.float32), patch.added.rows)
    return longer.tensor, longer.notes


def _rounding(name: str, values: torch.Tensor, new: Rewritten) -> str:
    lost = float(torch.linalg.norm(torch.from_numpy(new.rows) - values) / torch.linalg.norm(values).clamp_min(1e-30))
    kind = type_name(new.tensor.kind)
    return (
        f"{len(values):,} rows of {name} are new, in {kind}, whose rounding changes them by {lost:.1e} of their norm."
    )


def _check_head(header: GgufHeader) -> None:
    if header.architecture in ONE_MATRIX:
        raise UserError(
            f"llama.cpp reads one matrix for embedding and head of a {header.architecture} model, and the patch changes one "
            "side: export it as merged"
        )


def _write_adapter(out: Path, architecture: str, loras: dict[Any, Any], rank: int) -> None:
    """Write the file: on the embedding llama.cpp wants both matrices the other way round."""
    from gguf import GGUFType, GGUFWriter

    writer: Any = GGUFWriter(out, architecture)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    for side, lora in loras.items():
        rows = lora.rows.T.contiguous()
        picks = rows.float().numpy() if lora.error else rows.to(torch.float16).numpy()
        moves = lora.moves.contiguous().numpy()
        name = EMBEDDING if side == "input" else HEAD
        a, b = (picks, np.ascontiguousarray(moves.T)) if side == "input" else (moves, picks)
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
