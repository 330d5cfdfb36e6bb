"""The SentencePiece model that spBLEU splits words with: found in sacrebleu's folder, given as a path, or fetched.

Must never put another model in its place, keep a file that came in part, or wait long for a network that is not there.
"""

from __future__ import annotations

import contextlib
import http.client
import posixpath
import threading
import urllib.request
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacrebleu import utils
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS, TokenizerSPM

from ks_lottery.errors import UserError
from ks_lottery.store.files import digest_bytes, replacing

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKENIZERS = ("flores101", "flores200")
"""The models that spBLEU is known with, by sacrebleu's names."""

LARGEST = 64 << 20
"""Bytes that are read from the network at most; the models have about 5 million."""

STALL, LIMIT = 5.0, 20.0
"""Seconds without a byte, and in all, after which a fetch is given up."""


class MissingModelError(UserError):
    """The model of a tokenizer is not at hand; every other metric can still be computed."""


@dataclass(frozen=True)
class SpmModel:
    """A SentencePiece model that can be read.

    Parameters
    ----------
    tokenizer
        Which one it serves as: ``flores101`` or ``flores200``.
    path
        Where it came from, and would be looked for again.
    sha256
        SHA-256 of its bytes, hexadecimal. sacrebleu states none that it could be held against, so it is named instead.
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
    """sacrebleu's own, except that it does not go and look for its model."""

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
        Paths of models that are to be used instead of those in sacrebleu's folder, by tokenizer.

    Raises
    ------
    UserError
        When `given` names a tokenizer that is not known, or its file does not exist or is no whole model.
    MissingModelError
        When none is given, and the one in sacrebleu's folder is damaged, or absent and not to be fetched in `LIMIT` seconds.

    Notes
    -----
    sacrebleu's own download waits without a limit and, when it fails halfway, leaves an empty file that it then takes for the
    model. So it is fetched here, from sacrebleu's address and into sacrebleu's folder, and put there only when it can be read.
    """
    unknown = sorted(set(given or {}) - set(TOKENIZERS))
    if unknown:
        raise UserError(f"{unknown[0]} is no SentencePiece model of spBLEU; there is {', '.join(TOKENIZERS)}")
    advice = f"give that of {tokenizer}, or leave it out"
    if given and tokenizer in given:
        path = Path(given[tokenizer])
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
        return _open(tokenizer, path, path.read_bytes())
    except FileNotFoundError:
        return _fetch(tokenizer, path, url)
    except OSError as error:
        raise MissingModelError(
            f"{path} cannot be read ({error.strerror or error}): give the path of the model of {tokenizer}"
        ) from error
    except ValueError as error:
        raise MissingModelError(
            f"{path} is no whole SentencePiece model ({error}): replace it by {url}, or give the path of that of {tokenizer}"
        ) from error


def _open(tokenizer: str, path: Path, content: bytes) -> SpmModel:
    """Open a model; a ValueError says why it cannot be."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    if not content:
        raise ValueError("it is empty")
    try:
        processor.LoadFromSerializedProto(content)
    except RuntimeError as error:
        raise ValueError("it cannot be parsed") from error
    return SpmModel(tokenizer, path, digest_bytes(content), processor)


def _fetch(tokenizer: str, path: Path, url: str) -> SpmModel:
    answer = fetched(url)
    reason = answer
    if isinstance(answer, bytes):
        try:
            model = _open(tokenizer, path, answer)
        except ValueError as error:
            reason = f"what came is no SentencePiece model: {error}"
        else:
            with contextlib.suppress(UserError), replacing(path) as temporary:  # else it is fetched again the next time
                temporary.write_bytes(answer)
            return model
    raise MissingModelError(
        f"there is no {path.name} in {path.parent}, and {url} could not be fetched ({reason}): put that file there under "
        f"that name, or give the path of the model of {tokenizer}"
    )


@cache
def fetched(url: str) -> bytes | str:
    """Return what stands at an address, or in a few words why it could not be fetched; asked once a process.

    Nothing is written here. The fetch runs beside this thread, because a look-up of a name heeds no time limit.
    """
    answers: list[bytes | str] = []

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=STALL) as response:  # noqa: S310 - sacrebleu's own address, https
                content, promised = response.read(LARGEST + 1), response.headers.get("Content-Length")
            if len(content) > LARGEST:
                answers.append(f"it has more than {LARGEST:,} bytes")
            elif promised is not None and int(promised) != len(content):  # a bounded read does not say so
                answers.append(f"{len(content):,} of {int(promised):,} bytes came")
            else:
                answers.append(content)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            answers.append(str(getattr(reason, "strerror", None) or reason or type(error).__name__))

    thread = threading.Thread(target=fetch, name="spm-fetch", daemon=True)
    thread.start()
    thread.join(LIMIT)
    return answers[0] if answers else f"no answer within {LIMIT:g} s"
