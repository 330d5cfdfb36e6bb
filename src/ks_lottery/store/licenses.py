"""Terms of use of embedded models: shown, accepted once by the user, and the acceptance kept in the cache."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import AssetNotice, UserError
from ks_lottery.store.assets import cache_folder
from ks_lottery.store.files import read_json, to_json, write_text
from ks_lottery.store.manifest import FORMAT, digest_file

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

ACCEPT = "KS_LOTTERY_ACCEPT_LICENSE"
"""Variable of the environment that names the licenses which the user accepts, separated by commas."""

KIND = "license-acceptance"


@dataclass(frozen=True, kw_only=True)
class License:
    """Terms of use that a user has to accept.

    Parameters
    ----------
    name
        What `ACCEPT` calls it.
    title, dated, address
        Title of the text, the date that it bears, and where its publisher has it.
    sha256
        Digest of the text; another text has to be accepted anew.
    points
        What a user has to know first, as the end of a sentence; it does not replace the text.
    notice
        What has to accompany copies of the model and what is made from it.
    """

    name: str
    title: str
    dated: str
    address: str
    sha256: str
    points: str
    notice: str

    def __str__(self) -> str:
        return f"{self.title} of {self.dated} ({self.address}; SHA-256 {self.sha256})"

    @property
    def record(self) -> Path:
        """File of the acceptance, in the cache."""
        return cache_folder() / "licenses" / f"{self.name}-{self.sha256[:16]}.json"


GEMMA = License(
    name="gemma",
    title="Gemma Terms of Use",
    dated="2025-03-24",
    address="ai.google.dev/gemma/terms",
    sha256="152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
    points="use only within the Gemma Prohibited Use Policy (ai.google.dev/gemma/prohibited_use_policy) and the law; "
    "whoever gets the model or something made from it from you has to get these terms, their restrictions and a notice, "
    "and files that were changed have to say so; no warranty",
    notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
)
"""The terms of Gemma 3, as the wheel of its metadata has them."""

LICENSES = {GEMMA.name: GEMMA}
"""Name of a license to the license."""


def acceptance(terms: License) -> dict[str, Any] | None:
    """Return the record of the user's acceptance of this text; None where there is none, or it is damaged."""
    try:
        record = read_json(terms.record, KIND)
    except UserError:
        return None
    return record if record.get("sha256") == terms.sha256 else None


def accept(terms: License, text: Path, model: str) -> None:
    """Record that the user accepts terms, where `ACCEPT` says so.

    Parameters
    ----------
    text
        The terms, as they came with the model.
    model
        What the user calls the model.

    Raises
    ------
    UserError
        When it does not say so, the text is not the one that is pinned, or the record cannot be written.
    """
    if terms.name not in os.environ.get(ACCEPT, "").replace(",", " ").split():
        raise UserError(
            f"{model} has terms of use, which were not accepted here: read the {terms.title} in {text} (in short: "
            f"{terms.points}), and accept them once with --accept-license, or with {ACCEPT}={terms.name} in the environment"
        )
    digest = digest_file(text)
    if digest != terms.sha256:
        raise UserError(f"{text} was changed: remove its folder {text.parent}, so that it is fetched again")
    record = {
        "kind": KIND,
        "format": FORMAT,
        "license": terms.name,
        "title": terms.title,
        "dated": terms.dated,
        "address": terms.address,
        "sha256": digest,
        "text": str(text),
        "model": model,
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(terms.record, to_json(record))  # a damaged record is replaced
    warnings.warn(
        AssetNotice(f"{terms.title} of {terms.dated} accepted for {model} (text: {text}; recorded in {terms.record})"),
        stacklevel=2,
    )


@contextmanager
def accepting(*, every: bool) -> Generator[None]:
    """Accept, inside a block, the terms of every embedded model that is opened there; without `every` change nothing."""
    before = os.environ.get(ACCEPT)
    if every:
        os.environ[ACCEPT] = ",".join(LICENSES)
    try:
        yield
    finally:
        if every and before is None:
            del os.environ[ACCEPT]
        elif every and before is not None:
            os.environ[ACCEPT] = before
