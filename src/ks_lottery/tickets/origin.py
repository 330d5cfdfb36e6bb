"""What belongs to a saved scan: the tensor whose rows are tokens, their strings, and what the scanned tuning recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.attribution import ATTRIBUTION_FILE, Attribution
from ks_lottery.errors import UserError
from ks_lottery.store.files import read_table
from ks_lottery.store.schema import MAKE_AGAIN
from ks_lottery.tickets.span_counts import SPANS_FILE, SpanCounts
from ks_lottery.tickets.tickets import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.tickets.scan import Scan


def tokens_part(scan: Scan, tensor: str | None = None) -> Scan:
    """Return the part of a scan whose rows can be tickets: `tensor`, its only tensor, or the one whose rows are tokens.

    Raises
    ------
    UserError
        When it has no such tensor, or several.
    """
    if tensor is not None:
        return scan.only(tensor)
    if len(scan.parts) == 1:
        return scan
    vocabularies = [part.tensor for part in scan.parts if scan.is_vocabulary(part)]
    if len(vocabularies) != 1:
        raise UserError(f"the scan has {len(scan.parts)} tensors: choose one (tensor), such as {scan.parts[0].tensor}")
    return scan.only(vocabularies[0])


def saved_tokens(file: str | Path, tensor: str) -> list[str] | None:
    """Return the token strings that `Scan.save` wrote for one tensor; None where it had none to write."""
    columns, _ = read_table(Path(file), "scan")
    if "token" not in columns:
        return None
    if "tensor" not in columns:
        raise UserError(f"{file} has no column tensor: {MAKE_AGAIN}")
    strings = [str(text) for text in columns["token"][columns["tensor"] == tensor]]
    return strings if any(strings) else None


def attribution_beside(file: Path) -> Path | None:
    """Return the folder that a run keeps the attribution of a scanned tuning in, if it is there."""
    places = (file.parent / "embed", file.parent)
    return next((place for place in places if (place / ATTRIBUTION_FILE).is_file()), None)


def origins_beside(scan: Scan, places: Sequence[Path]) -> SpanCounts | None:
    """Open the first counts of spans that there are in some folders, of a text that the scan's base was tuned on."""
    for place in places:
        if (place / SPANS_FILE).is_file():
            counts = SpanCounts.open(place)
            here, there = fingerprint(scan.made_from, "base"), fingerprint(counts.made_from, "base")
            if None in (here, there) or here == there:
                return counts
    return None


def recorded(scan: Scan, place: Path, scan_name: str) -> Attribution:
    """Open an attribution, and refuse that of another tuning than the one that was scanned.

    Raises
    ------
    UserError
        When there is none, or it is another tuning's.
    """
    attribution = Attribution.open(place)
    for what in ("patch", "base"):
        here, there = fingerprint(scan.made_from, what), fingerprint(attribution.made_from, what)
        if here is not None and here != there:
            raise UserError(f"{place} is the attribution of another tuning than {scan_name}: give its own")
    return attribution


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """Say by what two artifacts cannot belong together, as far as both manifests speak of it.

    Returns
    -------
    str or None
        ``base`` (another base model), ``patch`` (another tuning), ``compared`` (other bytes of a tensor were compared), or
        None.
    """
    for what in ("base", "patch"):
        here, there = fingerprint(first, what), fingerprint(second, what)
        if None not in (here, there) and here != there:
            return what
    here, there = first.get("compared", {}), second.get("compared", {})
    return "compared" if any(here[tensor] != there[tensor] for tensor in set(here) & set(there)) else None
