"""Fetches one file from the network, of bounded size and with limits of time."""

from __future__ import annotations

import http.client
import io
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 64 << 20
"""Bytes that are accepted at most."""

STALL, LIMIT = 5.0, 20.0
"""Seconds without an answer, and in all, after which a download is given up."""


class DownloadError(Exception):
    """A file could not be fetched; the message says why in a few words."""


@dataclass(kw_only=True)
class _Bounds:
    """Stops a download that is too large or takes too long. pooch calls it after each chunk, as a progress bar."""

    content: io.BytesIO
    largest: int
    limit: float
    total: int = 0
    start: float = field(default_factory=time.monotonic)

    def check_size(self) -> None:
        if max(self.total, self.content.tell()) > self.largest:
            raise DownloadError(f"it has more than {self.largest:,} bytes")

    def update(self, _: int) -> None:
        self.check_size()
        if time.monotonic() - self.start > self.limit:
            raise DownloadError(f"not complete within {self.limit:g} s")

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


def download(url: str, *, largest: int = LARGEST, stall: float = STALL, limit: float = LIMIT) -> bytes:
    """Return the content of an address; nothing is written to the disk.

    Parameters
    ----------
    largest
        Bytes that are accepted at most.
    stall, limit
        Seconds without an answer, and in all, after which the download is given up.

    Raises
    ------
    DownloadError
        When the address cannot be reached or answers with an error, or the content is incomplete, too large or too slow.

    Notes
    -----
    The look-up of a name obeys the limits of the system's resolver, not these.
    """
    from pooch import HTTPDownloader

    content = io.BytesIO()
    bounds: Any = _Bounds(content=content, largest=largest, limit=limit)
    try:
        HTTPDownloader(progressbar=bounds, timeout=(stall, stall))(url, content, None)
    except (OSError, ValueError) as error:  # requests raises OSErrors; a header that is no number is a ValueError
        bounds.check_size()
        raise DownloadError(_reason(error, bounds.total, stall)) from error
    return content.getvalue()


def _reason(error: BaseException, total: int, stall: float) -> str:
    """Say in a few words what went wrong: what the server answered, or what the system says of the connection."""
    every = list(causes(error))
    if any(isinstance(cause, TimeoutError) for cause in every):
        return f"no answer within {stall:g} s"
    for cause in every:
        if isinstance(cause, http.client.IncompleteRead) and cause.expected is not None:
            return f"{total - cause.expected:,} of {total:,} bytes came"
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    said = [cause.strerror for cause in every if isinstance(cause, OSError) and cause.strerror]
    return said[0] if said else str(error) or type(error).__name__


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything that led to it, each once."""
    seen: list[BaseException] = [error]
    for cause in seen:
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        for each in inner:
            if isinstance(each, BaseException) and all(each is not before for before in seen):
                seen.append(each)
