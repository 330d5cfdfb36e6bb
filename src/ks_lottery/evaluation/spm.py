"""The SentencePiece model by which spBLEU splits words: from sacrebleu's folder, from a given path, or fetched."""

from __future__ import annotations

import contextlib
import posixpath
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacrebleu import utils
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS, TokenizerSPM

from ks_lottery.errors import UserError
from ks_lottery.store.download import DownloadError, download
from ks_lottery.store.files import replacing
from ks_lottery.store.manifest import digest_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKENIZERS = ("flores101", "flores200")
"""Tokenizers of spBLEU, by sacrebleu's names."""


class MissingModelError(UserError):
    """The model of a tokenizer is missing; every other metric can still be computed."""


@dataclass(frozen=True, kw_only=True)
class SpmModel:
    """A SentencePiece model that can be read.

    Parameters
    ----------
    tokenizer
        ``flores101`` or ``flores200``.
    path
        File of the model.
    sha256
        SHA-256 of its bytes, hexadecimal. sacrebleu publishes none to compare with, so the signature names it.
    processor
        The ``SentencePieceProcessor`` of these bytes.
    """

    tokenizer: str
    path: Path
    sha256: str
    processor: Any = field(repr=False, compare=False)

    def splitter(self) -> TokenizerSPM:
        """Return sacrebleu's tokenizer over this model."""
        return _Splitter(self)


class _Splitter(TokenizerSPM):
    """sacrebleu's own, except that it does not load a model."""

    def __init__(self, model: SpmModel) -> None:
        self.name = model.tokenizer
        self.sp = model.processor


def expected_file(tokenizer: str) -> Path:
    """Return where sacrebleu looks for the model: ``models`` in ``$SACREBLEU``, or in ``~/.sacrebleu``."""
    return Path(utils.SACREBLEU_DIR) / "models" / posixpath.basename(SPM_MODELS[tokenizer]["url"])


def find_model(tokenizer: str, given: Mapping[str, Path] | None = None) -> SpmModel:
    """Return the model of a tokenizer.

    Parameters
    ----------
    tokenizer
        One of `TOKENIZERS`.
    given
        Paths of models to use instead of those in sacrebleu's folder, by tokenizer.

    Raises
    ------
    UserError
        When `given` names an unknown tokenizer, or its file does not exist or is no whole model.
    MissingModelError
        When none is given, and the one in sacrebleu's folder is damaged, or absent and cannot be fetched.

    Notes
    -----
    sacrebleu's own download has no limit of time and, when it fails halfway, leaves an empty file that it later reads as the
    model. So the model is fetched here, from sacrebleu's address, and saved in sacrebleu's folder only when it can be read.
    """
    unknown = sorted(set(given or {}) - set(TOKENIZERS))
    if unknown:
        raise UserError(f"{unknown[0]} is no SentencePiece model of spBLEU; there is {', '.join(TOKENIZERS)}")
    advice = f"give that of {tokenizer}, or leave it out"
    if given and tokenizer in given:
        path = Path(given[tokenizer])
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be read (it is not a regular file): {advice}")
        try:
            return _open(tokenizer, path, path.read_bytes())
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist, but should be a SentencePiece model: {advice}") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror or error}): {advice}") from error
        except ValueError as error:
            raise UserError(f"{path} is no whole SentencePiece model ({error}): {advice}") from error
    path, url = expected_file(tokenizer), SPM_MODELS[tokenizer]["url"]
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = None
    except OSError as error:
        raise MissingModelError(
            f"{path} cannot be read ({error.strerror or error}): give the path of the model of {tokenizer}"
        ) from error
    if content is None:
        return _fetch(tokenizer, path, url)
    try:
        return _open(tokenizer, path, content)
    except ValueError as error:
        raise MissingModelError(
            f"{path} is no whole SentencePiece model ({error}): replace it by {url}, or give the path of that of {tokenizer}"
        ) from error


def _open(tokenizer: str, path: Path, content: bytes) -> SpmModel:
    """Open a model; a ValueError says why that fails."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    if not content:
        raise ValueError("it is empty")
    try:
        processor.LoadFromSerializedProto(content)
    except RuntimeError as error:
        raise ValueError("it cannot be parsed") from error
    return SpmModel(tokenizer=tokenizer, path=path, sha256=digest_bytes(content), processor=processor)


def _fetch(tokenizer: str, path: Path, url: str) -> SpmModel:
    answer = fetched(url)
    reason = answer
    if isinstance(answer, bytes):
        try:
            model = _open(tokenizer, path, answer)
        except ValueError as error:
            reason = f"what came is no SentencePiece model: {error}"
        else:
            with (
                contextlib.suppress(UserError),
                replacing(path) as temporary,
            ):  # not saved: it is fetched again next time
                temporary.write_bytes(answer)
            return model
    raise MissingModelError(
        f"there is no {path.name} in {path.parent}, and {url} could not be fetched ({reason}): put that file there under "
        f"that name, or give the path of the model of {tokenizer}"
    )


@cache
def fetched(url: str) -> bytes | str:
    """Return the content of an address, or in a few words why it could not be fetched; a process asks once."""
    try:
        return download(url)
    except DownloadError as error:
        return str(error)
