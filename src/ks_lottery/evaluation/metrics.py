"""sacrebleu's metrics, with access to what a bootstrap of sentences needs: per-sentence statistics, and the score of a sum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from ks_lottery.corpus.languages import is_chinese, language_name, same_language
from ks_lottery.evaluation.spm import MissingModelError, find_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ks_lottery.evaluation.spm import SpmModel


_MECAB = {"ja": "ja-mecab", "ko": "ko-mecab"}


class Measure(Metric):
    """A sacrebleu metric, with one reference a sentence."""

    spm: SpmModel | None = None

    unit: str
    """What lengths are counted in."""

    def against(self, references: Sequence[str]) -> None:
        """Prepare the references, once for all hypotheses."""
        self._ref_cache = self._cache_references([list(references)])

    def statistics(self, hypotheses: Sequence[str]) -> list[list[int]]:
        """Return sacrebleu's counts of each sentence, which add up to those of any set of sentences."""
        return self._extract_corpus_statistics(list(hypotheses), None)

    def corpus(self, statistics: list[list[int]]) -> float:
        """Return the score of all sentences together, from 0 to 100."""
        return float(self._aggregate_and_compute(statistics).score)

    def length_ratio(self, statistics: list[list[int]]) -> float | None:
        """Return the length of all hypotheses divided by that of their references, in `unit`; None for empty references.

        sacrebleu's counts of a sentence begin with these two: tokens for BLEU, whose own ratio this is, characters without
        white space for chrF.
        """
        lengths = np.array([counts[:2] for counts in statistics], dtype=np.int64).sum(axis=0)
        return float(lengths[0] / lengths[1]) if lengths[1] else None

    def resampled(self, statistics: list[list[int]], drawn: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the score of each resample.

        Parameters
        ----------
        drawn
            Sentences of each resample, shape (R, n), as returned by `draw`.

        Returns
        -------
        array
            Scores, shape (R,), from float32 sums as in sacrebleu, so that its command line prints the same.
        """
        counts = np.array(statistics, dtype=np.float32)
        return np.array([self._compute_score_from_stats(counts[rows].sum(0)).score for rows in drawn])

    def signature(self, resamples: int = 0, seed: int | None = None) -> str:
        """Return sacrebleu's signature; for spBLEU with ``spm:``, the first 12 digits of the SHA-256 of its model."""
        self.n_bootstrap, self.seed = (resamples, str(seed)) if resamples else (None, None)
        signature = self.get_signature()
        if self.spm is not None:
            signature.update("spm", self.spm.sha256[:12])
        return str(signature)


class MeasuredBleu(BLEU, Measure):
    """BLEU by the tokenizer that sacrebleu chooses for a language, or spBLEU by a SentencePiece model."""

    unit = "tokens"

    def __init__(self, spm: SpmModel | None = None, language: str = "") -> None:
        # force hides a warning on tokenized text, and changes neither score nor signature.
        super().__init__(force=True, tokenize=tokenizer_for(language) if spm is None else "none")
        if spm is not None:
            self.spm = spm
            self.tokenizer = spm.splitter()
            self.tokenizer_signature = self.tokenizer.signature()


class MeasuredChrf(CHRF, Measure):
    """chrF++: chrF with words and pairs of words (Popovic, 2017)."""

    unit = "characters"

    def __init__(self) -> None:
        super().__init__(word_order=2)


def tokenizer_for(language: str) -> str:
    """Return the tokenizer that sacrebleu chooses for BLEU of a language: ``zh``, ``ja-mecab``, ``ko-mecab``, or ``13a``.

    Parameters
    ----------
    language
        Code or English name of the target language. All that is written in Chinese characters counts as Chinese.

    Raises
    ------
    UserError
        When the language is not known.

    Examples
    --------
    >>> [tokenizer_for(language) for language in ("zho_Hans", "yue_Hant", "Japanese", "kor_Hang", "ca", "")]
    ['zh', 'zh', 'ja-mecab', 'ko-mecab', '13a', '13a']
    """
    if language:
        language_name(language)  # an unknown one is refused
    if language and is_chinese(language):
        return "zh"
    return next((name for code, name in _MECAB.items() if language and same_language(language, code)), "13a")


def measure(name: str, spm: Mapping[str, Path] | None = None, language: str = "") -> Measure:
    """Return the metric ``bleu``, ``chrf``, or ``spbleu-`` and a tokenizer of `spm.TOKENIZERS`.

    Parameters
    ----------
    language
        Code or English name of the target language, by which ``bleu`` splits words; by default as European languages.

    Raises
    ------
    MissingModelError, UserError
        As `spm.find_model`; the former also when the tokenizer of the language is not installed.
    """
    if name.startswith("spbleu-"):
        return MeasuredBleu(find_model(name.removeprefix("spbleu-"), spm))
    if name == "chrf":
        return MeasuredChrf()
    try:
        return MeasuredBleu(language=language)
    except RuntimeError as error:  # sacrebleu's, for a package that is not installed
        tokenizer = tokenizer_for(language)
        raise MissingModelError(
            f"BLEU of {language} needs the tokenizer {tokenizer}: pip install 'sacrebleu[{tokenizer[:2]}]', or use chrf"
        ) from error


def draw(n: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw `resamples` times n of n sentences with replacement, as sacrebleu does; the same for the same seed, 0 included.

    Returns
    -------
    array
        Indices, shape (resamples, n); 8 bytes each.

    Notes
    -----
    sacrebleu reads its seed from the environment, takes 0 for "no seed" in its paired test, keeps the counts of all
    resamples in memory, and has 95% intervals only. So we draw here; the tests compare the results with its command line.
    """
    return np.random.default_rng(seed).choice(n, size=(resamples, n), replace=True)


def percentile_interval(values: npt.NDArray[Any], confidence: float) -> tuple[float, float]:
    """Return the ends of sacrebleu's interval: R values in order, without R (1 - confidence) / 2, rounded down, on each side.

    Parameters
    ----------
    values
        Scores, or differences of scores, of the resamples; shape (R,), R at least 1.
    confidence
        In (0, 1); sacrebleu's is 0.95.

    Examples
    --------
    >>> percentile_interval(np.arange(1000.0), 0.95), percentile_interval(np.arange(1000.0), 0.9)
    ((25.0, 974.0), (50.0, 949.0))
    """
    ordered = np.sort(values)
    outside = math.floor(len(ordered) * (1.0 - confidence) / 2.0 + 1e-9)  # 1000 * (1 - 0.9) / 2 falls just below 50
    return float(ordered[outside]), float(ordered[len(ordered) - outside - 1])
