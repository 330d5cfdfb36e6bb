"""One pool of text, of which a part is drawn at random for calibration: what a guarantee may speak of.

Must never take two texts for one pool because they look alike, nor let a sentence stand on both sides.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ks_lottery.corpus.selection import hash_fraction, sentence_key
from ks_lottery.errors import UserError
from ks_lottery.report.forms import counted
from ks_lottery.stats.risk import smallest_n
from ks_lottery.store.files import read_json
from ks_lottery.store.manifest import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.corpus.corpus import Corpus, Pair
    from ks_lottery.corpus.selection import Split

Unit = Literal["sentence", "document"]

ENOUGH_DOCUMENTS = smallest_n(0.05, 0.05)
"""Documents that calibration must get for whole documents to be drawn: 59, the fewest that can show a loss of at most
0.05 with probability 0.95. With fewer, sentences are drawn, which says something, but of these documents alone."""


@dataclass(frozen=True)
class Pool:
    """What calibration was drawn from, and how.

    Parameters
    ----------
    name
        What the text was read from, as the user named it.
    fingerprint
        SHA-256 of the pool: of the corpus, or of both parts where two were given.
    unit
        What was drawn: sentences, or whole documents.
    units, drawn
        How many of them the pool has, and how many of those are for calibration.
    how
        How the pool was split, in words.
    seed
        Seed of the draw; None where the user's word is all that is known of it.
    dropped
        Pairs left out before, because their source sentence had already occurred.
    counted
        How many units of the whole pool have a position to count: what bounds that know the size of a pool go by. None where
        that is not known.
    """

    name: str
    fingerprint: str
    unit: Unit
    units: int
    drawn: int
    how: str
    seed: int | None = None
    dropped: int = 0
    counted: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Draw:
    """A pool in two parts: text to calibrate on, and the rest, to report on. Both keep the order of the text.

    ``order`` says when each pair of the calibration text was drawn, from 0; pairs of one document have one number.
    """

    calibration: Corpus
    report: Corpus
    pool: Pool
    order: tuple[int, ...]

    @property
    def unit(self) -> Unit:
        """What was drawn."""
        return self.pool.unit

    @property
    def description(self) -> str:
        """How it was drawn, for people."""
        return self.pool.how


def draw(corpus: Corpus, calibration: float, seed: int) -> Draw:
    """Draw a part of a text at random, without replacement, for calibration.

    The pairs whose source sentence had already occurred (in another case or spacing too) are dropped first and counted, so that
    none is on both sides; the pool is what is left. Whole documents are drawn where every pair knows its own and at least
    `ENOUGH_DOCUMENTS` of them get into calibration: their number is fixed before the draw, and that of the sentences
    follows. Otherwise sentences are drawn.

    Parameters
    ----------
    calibration
        A share of the pool, in (0, 1), or a whole number of sentences, at least 1 (of documents, the same share).
    seed
        Seed of the PCG64 generator; the same seed and text give the same draw.

    Raises
    ------
    UserError
        When the number is out of range, or leaves a part empty.
    """
    pool = _distinct(corpus)
    size = len(pool)
    if isinstance(calibration, float) and not 0.0 < calibration < 1.0:
        raise UserError(f"the calibration share is {calibration:g}, but must be above 0 and below 1")
    share = calibration if isinstance(calibration, float) else calibration / max(size, 1)
    wanted = round(share * size)
    if not 1 <= wanted < size:
        raise UserError(
            f"{corpus.origin}: {calibration:g} for calibration of {size} distinct pairs leaves nothing for "
            f"{'the report' if wanted >= 1 else 'calibration'}: give more text or another number"
        )
    generator = np.random.Generator(np.random.PCG64(seed))
    documents = list(dict.fromkeys(pair.document for pair in pool))
    count = round(share * len(documents))
    known = all(documents)
    dropped = len(corpus) - size
    copies = f"; {counted(dropped, 'pair')} with a source sentence that had already occurred dropped" if dropped else ""
    if known and ENOUGH_DOCUMENTS <= count < len(documents):
        turns = {documents[i]: turn for turn, i in enumerate(generator.permutation(len(documents))[:count].tolist())}
        turn_of = [turns.get(pair.document) for pair in pool]
        unit, units, why = "document", len(documents), ""
    else:
        turns_of_pairs = {number: turn for turn, number in enumerate(generator.permutation(size)[:wanted].tolist())}
        turn_of = [turns_of_pairs.get(number) for number in range(size)]
        unit, units, count = "sentence", size, wanted
        why = _why_sentences(documents, share, known=known)
    how = f"{count:,} of its {units:,} {unit}s drawn at random, without replacement, with seed {seed}{why}{copies}"
    drawn, rest = (
        [pair for pair, turn in zip(pool, turn_of, strict=True) if (turn is not None) is side] for side in (True, False)
    )
    return Draw(
        replace(corpus, pairs=tuple(drawn)),
        replace(corpus, pairs=tuple(rest)),
        Pool(
            corpus.origin, replace(corpus, pairs=tuple(pool)).fingerprint, unit, units, count, how, seed, dropped, units,
        ),
        tuple(turn for turn in turn_of if turn is not None),
    )  # fmt: skip


def hash_order(calibration: Corpus, pool: Pool) -> tuple[int, ...]:
    """Return when each sentence of a calibration text was drawn, where a hash drew it: its place by ascending hash."""
    fractions = [hash_fraction(pair.identity, pool.seed or 0) for pair in calibration]
    return tuple(np.argsort(np.argsort(fractions, kind="stable"), kind="stable").tolist())


def _distinct(corpus: Corpus) -> list[Pair]:
    first: dict[str, Pair] = {}
    for pair in corpus.pairs:
        first.setdefault(sentence_key(pair.identity), pair)
    return list(first.values())


def _why_sentences(documents: Sequence[str], share: float, *, known: bool) -> str:
    if not known:
        return " (documents are not known)"
    return (
        f" (too few documents to draw whole documents: {share:.0%} of {len(documents):,} is below {ENOUGH_DOCUMENTS}. So "
        f"sentences were drawn, and the guarantee is valid for these {len(documents):,} documents only)"
    )


def check_pool(calibration: Corpus, report: Corpus, *, same_pool: bool = False) -> Pool:
    """Return the pool of two texts that were given apart, or refuse them.

    They are taken for one pool when they are the files ``text/calibration.jsonl`` and ``text/test.jsonl`` that one run
    left, and hold what its split puts there; or when the user says so.

    Parameters
    ----------
    calibration, report
        Text to calibrate on and text to report on.
    same_pool
        The user's word that both are parts of one text, split at random. Where their documents are known and none is on
        both sides, whole documents are taken to have been drawn; otherwise sentences.

    Raises
    ------
    UserError
        When calibration is empty, when both share a source sentence, or when it is not known that they are one pool.
    """
    if not len(calibration):
        raise UserError(f"{calibration.origin} holds no sentence to calibrate on: give one that does")
    stands = {sentence_key(pair.identity) for pair in report}
    both = [pair.identity for pair in calibration if sentence_key(pair.identity) in stands]
    if both:
        raise UserError(
            f"{len(both):,} of the {len(calibration):,} source sentences of {calibration.origin} are also in "
            f"{report.origin}, the first {_short(both[0])!r}: calibrate on text that is not reported on"
        )
    fingerprint = digest_json([calibration.fingerprint, report.fingerprint])
    name = f"{calibration.origin} and {report.origin}"
    of_run = _of_one_run(calibration, report)
    if of_run is not None:
        rest, seed, known = of_run
        units, drawn = len(calibration) + rest, len(calibration)
        how = f"{drawn:,} of {units:,} held-out sentences of one run, split by a hash of the source sentence with seed {seed}"
        return Pool(name, fingerprint, "sentence", units, drawn, how, seed, counted=units if known else None)
    if same_pool:
        sides = [{pair.document for pair in text} for text in (calibration, report)]
        if "" not in sides[0] | sides[1] and not sides[0] & sides[1]:
            unit: Unit = "document"
            units, drawn = len(sides[0] | sides[1]), len(sides[0])
        else:
            unit, units, drawn = "sentence", len(calibration) + len(report), len(calibration)
        how = f"given as two texts; that its {unit}s were split at random is the user's word"
        return Pool(name, fingerprint, unit, units, drawn, how)
    raise UserError(
        f"it is not known that {calibration.origin} and {report.origin} are random parts of one text, and the guarantee needs "
        "that. Give one text with `calibration` N, or `same_pool` if they are"
    )


def held_out_pool(parts: Split, report: Mapping[str, Any]) -> Pool:
    """Return the pool of a run: what its split keeps from training, of which a part is for calibration.

    A hash of the source sentence decides, which has nothing to do with what models make of it; so calibration is a random part.
    The pool is what calibration was drawn from, before the test text was cut.

    Parameters
    ----------
    report
        What the run says of its text: its origin, its fingerprint, and the seed of its split.
    """
    units, drawn, seed = len(parts.calibration) + len(parts.rest), len(parts.calibration), int(report["split_seed"])
    name = f"the held-out text of {report['origin']}"
    how = f"{drawn:,} of {units:,} held-out sentences, split by a hash of the source sentence with seed {seed}"
    return Pool(name, str(report["fingerprint"]), "sentence", units, drawn, how, seed, counted=units)


def _of_one_run(calibration: Corpus, report: Corpus) -> tuple[int, int, bool] | None:
    """Return what the run of two texts says of its split, where they are its calibration and test text as that left them.

    Returns
    -------
    rest, seed, known
        Sentences of the test text before it was cut, the seed of the split, and whether the run says the former (older ones do
        not); None for any other two texts.
    """
    files = [Path(text.origin).expanduser().resolve() for text in (calibration, report)]
    if [file.name for file in files] != ["calibration.jsonl", "test.jsonl"] or files[0].parent != files[1].parent:
        return None
    if files[0].parent.name != "text" or not (files[0].parent / "report.json").is_file():
        return None
    content = read_json(files[0].parent / "report.json")
    sizes, seed = content.get("split", {}), int(content.get("split_seed", 0))
    # The report may be cut; what is left of a cut calibration text is no random part of it.
    if sizes.get("calibration") != len(calibration) or sizes.get("test", 0) < len(report):
        return None
    # `selection.split` puts the lowest hashes into test, the next into calibration: files that were edited may not.
    last = max((hash_fraction(pair.identity, seed) for pair in report), default=0.0)
    if last >= min(hash_fraction(pair.identity, seed) for pair in calibration):
        return None
    return int(content.get("held_out", sizes)["test"]), seed, "held_out" in content


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
