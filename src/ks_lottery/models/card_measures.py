"""What was measured of a patch in the run that it is in, for its model card: text, scores, ends, forgetting, guarantees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.errors import UserError
from ks_lottery.models.card_names import short_name
from ks_lottery.report.forms import percent_down
from ks_lottery.report.section import Column, Section
from ks_lottery.store.files import read_json
from ks_lottery.store.run_folder import CONFIG_FILE, RunFolder
from ks_lottery.store.schema import is_number

if TYPE_CHECKING:
    from pathlib import Path

METRICS = {
    "spbleu-flores101": "spBLEU (FLORES-101)", "spbleu-flores200": "spBLEU (FLORES-200)", "bleu": "BLEU", "chrf": "chrF++",
}  # fmt: skip
"""Metric of translations to what a card calls it."""

BOUNDED = {"all_agree", "agreement", "accuracy", "accuracy_change", "generated"}
"""Guarantees that a card knows."""


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """The figures of one patch in a finished run.

    Parameters
    ----------
    method
        Folder of the patch in the run, which is what the run calls it.
    config
        Settings of the run.
    summary
        Figures of the whole run; empty where it is not finished.
    evaluation, original
        What was measured of the patch, and of the model that was tuned; the latter is empty where it was not measured.
    certificate
        Certificate of the patch; empty where there is none.
    """

    method: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    original: Mapping[str, Any]
    certificate: Mapping[str, Any]

    @classmethod
    def beside(cls, folder: Path | None, content: str) -> RunFigures | None:
        """Read the run that a patch is in.

        Parameters
        ----------
        folder
            Folder of the patch.
        content
            Digest of the patch: figures of other rows are not its own.

        Returns
        -------
        RunFigures or None
            None where it is in no run, or the run did not measure these rows.

        Raises
        ------
        UserError
            When a file of the run is damaged.
        """
        home = None if folder is None else folder.absolute()
        if home is None or not (home.parent / CONFIG_FILE).is_file():
            return None
        run, method = RunFolder(home.parent), home.name
        if not run.evaluation(method).is_file():
            return None
        evaluation = read_json(run.evaluation(method), "evaluation")
        if _part(evaluation, "made_from").get("made") != content:
            return None
        original, certificate = run.evaluation("original"), run.certificates / f"{method}.json"
        return cls(
            method=method,
            config=run.config(),
            summary=read_json(run.summary) if run.summary.is_file() else {},
            evaluation=evaluation,
            original=read_json(original, "evaluation") if original.is_file() else {},
            certificate=read_json(certificate, "certificate") if certificate.is_file() else {},
        )

    @property
    def text(self) -> str:
        """Name of the text, as the config has it."""
        return str(_part(self.config, "text").get("train") or "")

    @property
    def languages(self) -> list[Any]:
        """Languages of the run, as the config names them."""
        return [_part(self.config, "text").get(f"{side}_language") for side in ("source", "target")]

    @property
    def dtype(self) -> str:
        """Type that the model had when it was measured, and the program, in words."""
        kind = _part(self.summary, "model").get("dtype")
        return f"transformers, in {kind}" if isinstance(kind, str) and kind else "transformers"

    def data(self) -> list[str]:
        """Say what the text is called and how much of it was used; nothing of the text itself."""
        text = _part(self.summary, "text")
        counts = [
            f"{text[part]:,} {what}"
            for part, what in (("train", "to train"), ("calibration", "to calibrate"), ("test", "to test"))
            if is_number(text.get(part), 0)
        ]
        counted = f": {', '.join(counts)}" if counts else ""
        return [f"Text: {short_name(self.text)}{counted} (sentence pairs, or lines of a text of one language)."]

    def scores(self) -> list[tuple[str, str, float, str]]:
        """Return each score for the front matter: metric, its name, its value, and the signature of sacrebleu."""
        listed = [("accuracy", "Next-token accuracy", _number(self.evaluation, "next_token", "accuracy"), "")]
        for name, metric in _part(self.evaluation, "scores", "metrics").items():
            signature = metric.get("signature") if isinstance(metric, dict) else None
            value = _number(self.evaluation, "scores", "metrics", name, "score")
            listed.append((name, METRICS.get(name, name), value, str(signature or "")))
        return [(name, title, value, signature) for name, title, value, signature in listed if value is not None]

    def sections(self) -> list[Section]:
        """Return scores beside the original's, then what ended and what was forgotten as sentences."""
        places = {
            "next-token accuracy": ("next_token", "accuracy"),
            "the same without the ends of sentences": ("next_token", "without_end", "accuracy"),
            "loss, nats a token": ("next_token", "loss"),
            **{METRICS.get(name, name): ("scores", "metrics", name, "score") for name in self._metrics},
            **{
                f"{METRICS.get(name, name)} of the first line": ("first_line", "metrics", name, "score")
                for name in self._metrics
            },
            "outputs that ended by themselves": ("ended", "share"),
        }
        columns = [
            Column(title="measure"), Column(title="this model", form=".4g"), Column(title="interval", form=".4g"),
            Column(title="original model", form=".4g"),
        ]  # fmt: skip
        rows = [
            [title, value, _interval(self.evaluation, place), _number(self.original, *place)]
            for title, place in places.items()
            if (value := _number(self.evaluation, *place)) is not None
        ]
        return [Section(columns=columns, rows=rows, sentences=[*self._counts(), *self._forgotten()])]

    @property
    def _metrics(self) -> list[str]:
        return [str(name) for name in _part(self.evaluation, "scores", "metrics")]

    def _counts(self) -> list[str]:
        sentences, positions = (
            _number(self.evaluation, "sentences"),
            _number(self.evaluation, "next_token", "positions"),
        )
        outputs, count = _number(self.evaluation, "ended", "outputs"), _number(self.evaluation, "ended", "count")
        confidence = _number(self.evaluation, "next_token", "confidence")
        said = [] if sentences is None else [f"Measured on {sentences:,.0f} held-out sentences"]
        said += [] if positions is None else [f"{positions:,.0f} target positions under teacher forcing"]
        said += [] if outputs is None or count is None else [f"{outputs:,.0f} translated, of which {count:,.0f} ended"]
        told = [f"{', '.join(said)}."] if said else []
        if confidence is not None:
            told.append(
                f"Intervals: {confidence:.0%}, over sentences; one seed of training, whose choice they do not cover."
            )
        return told

    def _forgotten(self) -> list[str]:
        """Say what tuning changed on general text."""
        forgetting = _part(self.evaluation, "forgetting")
        if not forgetting:
            return ["What was forgotten was not measured."]
        loss, accuracy = _number(forgetting, "loss_difference"), _number(forgetting, "accuracy_difference")
        if loss is None or accuracy is None:
            raise UserError(f"the run's evaluation of {self.method} lacks figures of forgetting: evaluate again")
        bounds = _bounds(forgetting.get("loss_interval"))
        shown = "" if bounds is None else f" ({bounds[0]:+.4f} to {bounds[1]:+.4f})"
        told = [
            f"Forgetting: on general text the loss changes by {loss:+.4f}{shown} nats a token and the accuracy by "
            f"{accuracy:+.4f} against the original model; a loss that rises is forgetting."
        ]
        untouched, identical = _number(forgetting, "untouched"), _number(forgetting, "identical")
        if untouched is not None and identical is not None:
            told.append(
                f"{untouched:,.0f} of these {_number(forgetting, 'sentences') or 0:,.0f} sentences hold no trained row; "
                f"{identical:,.0f} are answered bit for bit as before."
            )
        return told

    def guarantees(self) -> list[str]:
        """Return what is guaranteed of these rows, with confidence and positions, and the paper's bound with its audit."""
        level = _part(self.config, "select").get("alpha")
        names = {self.method, f"{level:g}" if self.method == "transfer" and is_number(level) else self.method}
        told = [
            self._statement(item)
            for item in _items(self.certificate, "guarantees")
            if item.get("model") in names and item.get("bounded") in BOUNDED
        ]
        tau = self.certificate.get("tau")
        for item in _items(self.certificate, "levels"):
            rule = _part(item, "bounds", str(tau), "rules", "theorem")
            if item.get("name") in names and rule:
                told.append(self._bound(rule))
        return told

    def _statement(self, guarantee: Mapping[str, Any]) -> str:
        positions = guarantee.get("positions")
        over = "all positions of a sentence" if positions is None else f"the first {positions} positions of a sentence"
        statement = str(guarantee.get("statement")).replace(self.text, short_name(self.text)) if self.text else ""
        return f"{statement} It counts {over}."

    def _bound(self, rule: Mapping[str, Any]) -> str:
        share, rate, bound = (_number(rule, name) for name in ("accuracy", "rate", "positions"))
        counted = _part(self.certificate, "counted").get("bound")
        if share is None or rate is None or bound is None:
            raise UserError(f"the run's certificate of {self.method} lacks figures of its bound: certify again")
        first = "all" if counted == "all" else f"the first {counted}"
        return (
            f"The paper's bound (theorem 2), which is no guarantee: {percent_down(share)} of the positions are certified, over "
            f"{first} positions of each test sentence; of its {bound:,.0f} certified answers {rate:.1%} are others than those "
            "of the tuned model."
        )


def _part(content: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return an object inside of others; empty where there is none."""
    for name in names:
        value = content.get(name)
        content = value if isinstance(value, Mapping) else {}
    return content


def _items(content: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = content.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _number(content: Mapping[str, Any], *names: str) -> float | None:
    """Return a number inside of objects; None where it was not measured."""
    value: Any = _part(content, *names[:-1]).get(names[-1])
    return float(value) if is_number(value) else None


def _bounds(value: Any) -> tuple[float, float] | None:
    if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
        return float(value[0]), float(value[1])
    return None


def _interval(content: Mapping[str, Any], place: tuple[str, ...]) -> tuple[float, float] | None:
    """Return the interval of a figure, which is beside it: ``interval`` of a score, ``accuracy_interval`` of an accuracy."""
    beside = _part(content, *place[:-1])
    return _bounds(beside.get(f"{place[-1]}_interval", beside.get("interval")))
