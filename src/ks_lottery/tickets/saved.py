"""Files of tickets, scans and patches explained and compared, with the token strings and texts that are at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.config.ticket_commands import AlikeSettings, OverlapSettings
from ks_lottery.errors import UserError
from ks_lottery.models.vocabulary import tokens_here, vocabulary_of_source
from ks_lottery.tickets.basis import model_of, open_scan
from ks_lottery.tickets.explain import explain
from ks_lottery.tickets.origin import attribution_beside, origins_beside, recorded, saved_tokens
from ks_lottery.tickets.overlap import check_one_base, side_by_side
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.checkpoint.patch import Side
    from ks_lottery.config.groups import TextSource
    from ks_lottery.tickets.agreement import ComparedTunings
    from ks_lottery.tickets.explain import Explanation
    from ks_lottery.tickets.overlap import SharedRows
    from ks_lottery.tickets.scan import Scan


def explain_saved(
    tickets: str | Path,
    scan: str | Path | None = None,
    *,
    tensor: str | None = None,
    corpus: TextSource | None = None,
    attribution: str | Path | None = None,
    model: str | None = None,
) -> Explanation:
    """Explain the tickets of a file, with what is saved beside it. No model is loaded: a text needs its tokenizer alone.

    Parameters
    ----------
    tickets
        File of the tickets.
    scan
        File of the scan that they are from; by default ``scan.parquet`` beside them.
    tensor
        Tensor that the tickets are rows of, where the scan has several.
    corpus
        Text of the target language to rank tokens by frequency in.
    attribution
        Folder of the embed tuning that recorded lca and gradient, and the origin of rows; by default the one beside the scan,
        where it is there and belongs to the scanned tuning. The origin is also taken from the folder of the tickets.
    model
        Model whose tokenizer reads the corpus; by default the scan's base.

    Raises
    ------
    UserError
        When something is missing, cannot be read, or belongs to another model or tuning than the scan.
    """
    file = Path(tickets)
    opened = Tickets.open(file)
    if not len(opened):
        raise UserError(f"{file} holds no ticket to explain: select with a larger alpha, or by another rule")
    scan_file = file.parent / "scan.parquet" if scan is None else Path(scan)
    if scan is None and not scan_file.is_file():
        raise UserError(f"no scan.parquet lies beside {file}: give the scan that the tickets are from as `scan`")
    part = open_scan(scan_file, tensor)
    tokens = _known_tokens(file, scan_file, part)
    record, notes = _attribution_beside(part, scan_file, attribution)
    given = [] if attribution is None else [Path(attribution)]
    places = [*given, scan_file.parent / "embed", scan_file.parent, file.parent]
    known: dict[str, Any] = {"attribution": record, "tokens": tokens, "origins": origins_beside(part, places)}
    explanation = explain(opened, part, **known)
    if corpus is not None:  # read last: what does not belong together is refused before a long text is read
        counts, about = _frequencies(part, tokens, corpus, model)
        explanation = explain(opened, part, frequencies=counts, **known)
        explanation = replace(explanation, corpus=about)
    return replace(explanation, notes=notes)


def _known_tokens(file: Path, scan_file: Path, scan: Scan) -> dict[int, str]:
    """Return token strings by row from wherever they are kept: the scan, the tickets, or a base that is still there."""
    strings: Sequence[str] | None = saved_tokens(scan_file, scan.parts[0].tensor)
    if strings is None and (listed := Tickets.tokens(file)):
        return listed
    return dict(enumerate(strings or tokens_here(model_of(scan)) or ()))


def _attribution_beside(
    scan: Scan, scan_file: Path, given: str | Path | None
) -> tuple[Attribution | None, tuple[str, ...]]:
    """Open what the tuning recorded: where the caller says, or, if it is there and the scan's, where a run keeps it."""
    if given is not None:
        return recorded(scan, Path(given), str(scan_file)), ()
    place = attribution_beside(scan_file)
    if place is None:
        return None, ()
    try:
        return recorded(scan, place, str(scan_file)), ()
    except UserError as error:
        return None, (f"Without lca and gradient: {error}.",)


def _frequencies(
    scan: Scan, tokens: Mapping[int, str], corpus: TextSource, model: str | None
) -> tuple[Mapping[int, int], dict[str, Any]]:
    """Count the tokens of a text, by the tokenizer of the scan's base."""
    from ks_lottery.corpus.monolingual import read_sentences, token_counts
    from ks_lottery.models.load import load_tokenizer
    from ks_lottery.models.sources import open_unconverted

    name = model_of(scan, model)
    try:
        checkpoint = open_unconverted(name)
    except UserError as error:
        if model is not None:
            raise
        raise UserError(f"{error}; `model` names a model whose tokenizer reads the corpus") from error
    vocabulary = vocabulary_of_source(checkpoint)
    shown = () if vocabulary is None else vocabulary.shown
    other = next((row for row, text in tokens.items() if row < len(shown) and text not in ("", shown[row])), None)
    if other is not None:
        raise UserError(
            f"row {other} is {tokens[other]} in the scan and {shown[other]} in {name}, which is another tokenizer: "
            "give the scan's own as `model`"
        )
    sentences = read_sentences(corpus)
    counts = token_counts(load_tokenizer(checkpoint), sentences)
    return counts, {"text": corpus.path, "sentences": len(sentences), "tokens": counts.total()}


def overlap_saved(
    files: Mapping[str, str | Path],
    *,
    seeds_of: Sequence[str | Path] = OverlapSettings.seeds_of,
    force: bool = OverlapSettings.force,
) -> SharedRows:
    """Compare sets of tickets that were saved.

    Parameters
    ----------
    files
        File of each set, by what it is called.
    seeds_of
        Files of the tickets of two or more training seeds of one setting, for the ceiling of an overlap; none by default.
    force
        Compare by row although the bases differ.

    Raises
    ------
    UserError
        When there are fewer than two files, a file is missing or damaged, there is one seed alone, or, without `force`, the
        sets are of different bases.
    """
    if len(files) < 2:
        raise UserError("`tickets`: one set overlaps with nothing. Give the files of two sets or more.")
    if len({str(file) for file in seeds_of}) != len(seeds_of) or len(seeds_of) == 1:
        raise UserError("`seeds_of` needs the files of two different seeds or more: give one for each training seed")
    paths = {name: Path(file) for name, file in files.items()}
    sets = {name: Tickets.open(file) for name, file in paths.items()}
    strings = {name: Tickets.tokens(file) for name, file in paths.items()}
    seeds = {str(file): Tickets.open(file) for file in seeds_of}
    if not force:
        seed_strings = {str(file): Tickets.tokens(file) for file in seeds_of}
        check_one_base({**sets, **seeds}, {**strings, **seed_strings})
    tokens = {row: token for listed in strings.values() for row, token in listed.items()}
    bases = [str(tickets.made_from["base"].get("name", "")) for tickets in sets.values() if "base" in tickets.made_from]
    if bases and not all(strings.values()):
        tokens = {**dict(enumerate(tokens_here(bases[0]) or ())), **tokens}
    return side_by_side(sets, tokens=tokens, files=paths, seeds=seeds)


def alike_saved(
    embed: str | Path,
    partial: str | Path,
    tickets: str | Path | None = None,
    *,
    level: float = AlikeSettings.level,
    side: Side | None = AlikeSettings.side,
) -> ComparedTunings:
    """Compare two saved tunings, with the token strings that are at hand; see `compare_tunings`."""
    from ks_lottery.tickets.agreement import compare_tunings

    comparison = compare_tunings(embed, partial, tickets, level=level, side=side)
    tokens = {} if tickets is None else Tickets.tokens(tickets)
    if not tokens:
        tokens = dict(enumerate(tokens_here(str(comparison.made_from["base"].get("name", ""))) or ()))
    return replace(comparison, tokens=tokens)
