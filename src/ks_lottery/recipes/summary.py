"""The summary of a run: every figure in one mapping of plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.patch import PATCH_FILE
from ks_lottery.corpus.plain_text import PLAIN
from ks_lottery.corpus.prompt_form import PromptForm
from ks_lottery.evaluation.draws import mean_accuracy, mean_difference
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.evaluation.where import Where
from ks_lottery.recipes.measurements import LOCATED, not_located
from ks_lottery.recipes.method_names import BASIC_METHODS, DRAWS, ORIGINAL, RANDOM, methods_of
from ks_lottery.recipes.over_seeds import mean
from ks_lottery.recipes.recommendation import recommend
from ks_lottery.recipes.rivals import rivals
from ks_lottery.store.files import read_json
from ks_lottery.store.run_folder import EMBED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ks_lottery.recipes.job import Job

_MANIFEST = ("kind", "format", "made_from", "settings", "versions")


def summarize(job: Job, methods: Sequence[str]) -> dict[str, Any]:
    """Return the summary of a run whose other stages are done.

    Parameters
    ----------
    methods
        Methods that the run compares, in the order of its table.
    """
    config = job.config
    evaluations = {method: read_json(job.folder.evaluation(method), "evaluation") for method in methods}
    single = {method: _method(job, method, evaluation) for method, evaluation in evaluations.items()}
    figures = {
        name: _drawn(job, {draw: single[draw] for draw in DRAWS}) if name == RANDOM else single[name]
        for name in (*BASIC_METHODS, *rivals(config))
    }
    certificates = {
        name: read_json(job.folder.certificates / f"{name}.json", "certificate") for name in ("transfer", "partial")
    }
    return {
        "model": {**job.checkpoint.describe(), "dtype": str(job.loaded.lm.dtype).removeprefix("torch.")},
        "text": {
            "source_language": config.text.source_language,
            "target_language": config.text.target_language,
            "train": len(job.train),
            "calibration": len(job.split.calibration),
            "test": len(job.test),
            **({"format": PLAIN} if job.split.test.monolingual else {}),
        },
        "confidence": config.evaluate.confidence,
        "positions": evaluations[ORIGINAL]["next_token"]["positions"],
        "translations": min(config.evaluate.translations, len(job.test)),
        "general": {
            "text": config.evaluate.general,
            "source_language": config.text.source_language if config.evaluate.general is None else None,
        },
        "methods": figures,
        "comparisons": _comparisons(job),
        "gains": _gains(job),
        "ship": _ship(job),
        "where": _where(job),
        "scan": job.scan.power(config.select.alpha),
        "tickets": read_json(job.folder.tickets, "tickets")["rows"],
        "certificate": {
            name: {key: value for key, value in content.items() if key not in _MANIFEST}
            for name, content in certificates.items()
        },
    }


def _bootstrap(job: Job) -> dict[str, Any]:
    settings = job.config.evaluate
    return {"confidence": settings.confidence, "resamples": settings.resamples, "seed": job.config.seed}


def _predictions(job: Job, name: str) -> list[Predictions]:
    """Return the predictions of a method on the test text; of random rows, those of each draw."""
    return [Predictions.open(job.folder.predictions(method)) for method in methods_of(name)]


def _comparisons(job: Job) -> dict[str, Any]:
    """Return each rival's accuracy less that of the tickets, paired: both are resampled by one draw of sentences."""
    (tickets,) = _predictions(job, "partial")
    systems: dict[str, Any] = {}
    for name in rivals(job.config):
        difference, interval = mean_difference(_predictions(job, name), tickets, **_bootstrap(job))
        systems[name] = {"difference": difference, "interval": interval}
    return {"baseline": "partial", "metric": "accuracy", "systems": systems}


def _gains(job: Job) -> dict[str, Any]:
    """Return each method's accuracy less that of the original, paired: of all positions, and without the ends of sentences."""
    template = "plain" if job.split.test.monolingual else job.config.text.template
    end = PromptForm(job.loaded.tokenizer, template).end
    parts: dict[str, Callable[[Predictions], Predictions]] = {
        "all": lambda predictions: predictions,
        "without_end": lambda predictions: predictions.without_ends(end),
    }
    (original,) = _predictions(job, ORIGINAL)
    methods: dict[str, Any] = {}
    for name in (*BASIC_METHODS[1:], *rivals(job.config)):
        draws = _predictions(job, name)
        methods[name] = {}
        for part, taken in parts.items():
            if not len(taken(original)):
                methods[name][part] = None
                continue
            difference, interval = mean_difference([taken(each) for each in draws], taken(original), **_bootstrap(job))
            methods[name][part] = {"difference": difference, "interval": interval}
    return {"baseline": ORIGINAL, "metric": "accuracy", "methods": methods}


def _ship(job: Job) -> dict[str, Any]:
    """Return which method to ship: one of the tickets, their transfer and the rivals, of which no random draw."""
    names = [name for name in (*BASIC_METHODS, *rivals(job.config)) if name != RANDOM]
    predictions = {name: _predictions(job, name)[0] for name in names}
    sizes = {name: job.patch(name).parameters for name in names}
    ship = recommend(
        predictions, sizes, chosen="partial", original=ORIGINAL, larger=(EMBED,), bootstrap=_bootstrap(job)
    )  # fmt: skip
    if sizes["partial"]:
        return ship
    train, power = job.config.train, job.scan.power(job.config.select.alpha)
    advice = {"rate": train.embed_learning_rate or train.learning_rate, "factor": power["needed"]}
    return {"method": None, "missing": "no row is a ticket", "advice": advice}


def _where(job: Job) -> dict[str, Any]:
    """Return where the tickets act, what follows from it in one sentence, and why it was not measured where it was not."""
    why = not_located(job)
    if why is not None:
        return {"method": LOCATED, "missing": why, "sentence": None}
    located = Where.open(job.folder.where)
    content = located.as_dict()
    return {
        "method": LOCATED, "missing": None, "sentence": located.sentence,
        **{name: content[name] for name in ("sentences", "rows", "spans", "tokens")},
    }  # fmt: skip


def _drawn(job: Job, draws: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of all draws of random rows as one method: means, and the range of the accuracy."""
    predictions = _predictions(job, RANDOM)
    accuracy = mean_accuracy(predictions, **_bootstrap(job))
    first = next(iter(draws.values()))
    every = list(draws.values())
    return {
        **first,
        "accuracy": accuracy.mean,
        "interval": accuracy.interval,
        "range": accuracy.range,
        "loss": mean([figures["loss"] for figures in every]),
        "without_end": _mean_figures([figures["without_end"] for figures in every], "accuracy", "loss"),
        "forgetting": _mean_forgetting([figures["forgetting"] for figures in every]),
        "draws": {
            name: {key: figures[key] for key in ("accuracy", "interval", "loss", "without_end", "forgetting")}
            for name, figures in draws.items()
        },
    }


def _mean_figures(draws: Sequence[Mapping[str, Any] | None], *names: str) -> dict[str, Any] | None:
    """Return the means of some figures over draws, which were measured on the same text; None where there are none."""
    known = [draw for draw in draws if draw is not None]
    if len(known) < len(draws):
        return None
    return {"positions": known[0]["positions"], **{name: mean([draw[name] for draw in known]) for name in names}}


def _mean_forgetting(draws: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the means over draws, and the range of the difference in loss in place of intervals; None where not measured."""
    if not all(draws):
        return None
    names = ("accuracy", "loss", "accuracy_difference", "loss_difference", "untouched", "identical", "untouched_share")
    losses = [draw["loss_difference"] for draw in draws]
    return {
        **draws[0], **(_mean_figures(draws, *names) or {}), "accuracy_interval": None, "loss_interval": None,
        "loss_range": (min(losses), max(losses)),
    }  # fmt: skip


def _method(job: Job, method: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return one method's figures: its accuracy, its scores, what it forgot, and how much of the model it changes."""
    summed = evaluation["next_token"]
    scores, first_line = (
        (evaluation[name] or {}).get("metrics", {}) for name in ("scores", "first_line")
    )  # BLEU's tokenizer of a language may be missing, and random rows are not translated
    file = job.folder.method(method) / PATCH_FILE
    metrics = ("chrf", "bleu")
    return {
        "accuracy": summed["accuracy"],
        "interval": summed["accuracy_interval"],
        "loss": summed["loss"],
        "without_end": summed["without_end"],
        **{name: scores[name]["score"] if name in scores else None for name in metrics},
        "first_line": {name: first_line[name]["score"] if name in first_line else None for name in metrics},
        "length_ratio": {name: scores[name]["length_ratio"] if name in scores else None for name in metrics},
        "ended": evaluation["ended"],
        "forgetting": evaluation["forgetting"],
        "signatures": {name: metric["signature"] for name, metric in scores.items()},
        "trained_parameters": job.patch(method).parameters,
        "bytes": file.stat().st_size if file.is_file() else 0,
    }
