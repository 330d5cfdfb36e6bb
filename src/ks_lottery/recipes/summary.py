"""The summary of a run: every figure in one mapping of plain values, and how that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certificate_sections import certificate_sections
from ks_lottery.checkpoint.patch import PATCH_FILE
from ks_lottery.config.choices import RANDOM_DRAWS
from ks_lottery.evaluation.draws import mean_accuracy, mean_difference
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.recipes.job import ORIGINAL
from ks_lottery.recipes.rivals import BASIC_METHODS, DRAWS, RANDOM, methods_of, rivals
from ks_lottery.report.section import Column, Section
from ks_lottery.store.files import read_json
from ks_lottery.tickets.scan_sections import no_power

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.recipes.job import Job

MOST_TICKETS = 15
"""Tickets that are shown."""

TITLES = {
    "original": "original model",
    "embed": "embed tuning",
    "partial": "partial tuning",
    "transfer": "partial transfer",
    "gradient-sum": "one-pass rows",
    "occurrence": "most frequent rows",
    "random": f"random rows, {RANDOM_DRAWS} draws",
    "lca": "loss-change rows",
    "gradient": "gradient rows",
}
"""What each method is called."""

RIVALS = {
    "gradient-sum": "the rows that one pass at the original model chose (gradient-sum)",
    "occurrence": "the rows that occur most",
    "random": f"as many random rows (mean of {RANDOM_DRAWS} draws)",
    "lca": "the rows that lowered the loss most while embed tuning (lca)",
    "gradient": "the rows of largest summed gradient while embed tuning",
}
"""As many rows as there are tickets, chosen otherwise: what a sentence that compares them calls them."""


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
        },
        "confidence": config.evaluate.confidence,
        "positions": evaluations[ORIGINAL]["next_token"]["positions"],
        "translations": min(config.evaluate.translations, len(job.test)),
        "methods": figures,
        "comparisons": _comparisons(job),
        "scan": job.scan.power(config.select.alpha),
        "tickets": read_json(job.folder.tickets, "tickets")["rows"],
        "certificate": {
            name: {key: value for key, value in content.items() if key not in _MANIFEST}
            for name, content in certificates.items()
        },
    }


def _comparisons(job: Job) -> dict[str, Any]:
    """Return each rival's accuracy less that of the tickets, paired: both are resampled by one draw of sentences."""
    settings, seed = job.config.evaluate, job.config.seed
    tickets = Predictions.open(job.folder.predictions("partial"))
    systems: dict[str, Any] = {}
    for name in rivals(job.config):
        draws = [Predictions.open(job.folder.predictions(method)) for method in methods_of(name)]
        difference, interval = mean_difference(
            draws, tickets, confidence=settings.confidence, resamples=settings.resamples, seed=seed
        )
        systems[name] = {"difference": difference, "interval": interval}
    return {"baseline": "partial", "metric": "accuracy", "systems": systems}


def _drawn(job: Job, draws: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of all draws of random rows as one method: means, and the range of the accuracy."""
    settings = job.config.evaluate
    predictions = [Predictions.open(job.folder.predictions(method)) for method in draws]
    accuracy = mean_accuracy(
        predictions, confidence=settings.confidence, resamples=settings.resamples, seed=job.config.seed
    )
    first = next(iter(draws.values()))
    return {
        **first,
        "accuracy": accuracy.mean,
        "interval": accuracy.interval,
        "range": accuracy.range,
        "loss": sum(float(figures["loss"]) for figures in draws.values()) / len(draws),
        "draws": {
            name: {key: figures[key] for key in ("accuracy", "interval", "loss")} for name, figures in draws.items()
        },
    }


def _method(job: Job, method: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return one method's figures: its accuracy, its scores, and how much of the model it changes."""
    summed, metrics = evaluation["next_token"], (evaluation["scores"] or {}).get("metrics", {})
    file = job.folder.method(method) / PATCH_FILE
    return {
        "accuracy": summed["accuracy"],
        "interval": summed["accuracy_interval"],
        "loss": summed["loss"],
        # BLEU's tokenizer of a language may be missing, and random rows are not translated.
        **{name: metrics[name]["score"] if name in metrics else None for name in ("chrf", "bleu")},
        "signatures": {name: metric["signature"] for name, metric in metrics.items()},
        "trained_parameters": job.patch(method).parameters,
        "bytes": file.stat().st_size if file.is_file() else 0,
    }


def summary_sections(summary: Mapping[str, Any], tickets: Sequence[Mapping[str, Any]], folder: str) -> list[Section]:
    """Return a run: methods, findings, tickets, certificate, where everything is and what to try next.

    Parameters
    ----------
    summary
        Content of ``summary.json``.
    tickets
        Rows of ``tickets.json``.
    folder
        Where the run is.
    """
    measured = (
        f"measured on {summary['text']['test']} held-out pairs ({summary['positions']:,} target positions); "
        f"chrF++ on {summary['translations']} of them, too few to rank by"
    )
    return [
        methods_section(summary["methods"], summary["confidence"]),
        Section(sentences=[measured]),
        Section(sentences=findings(summary)),
        tickets_section(tickets, folder),
        *certificate_sections(summary["certificate"]["transfer"], "Certificate of the partial transfer"),
        Section(sentences=_next_commands(folder)),
    ]


def run_sections(summary: Mapping[str, Any], folder: str) -> list[Section]:
    """Return a run with the tickets that its summary names; see `summary_sections`."""
    return summary_sections(summary, summary["tickets"], folder)


def methods_section(methods: Mapping[str, Any], confidence: float) -> Section:
    """Return the comparison of all methods."""
    columns = [
        Column(title="method"),
        Column(title="trained", form="integer"),
        Column(title="ships", form="bytes"),
        Column(title="accuracy", form=".3f"),
        Column(title=f"{confidence:.0%} interval", form="interval"),
        Column(title="loss", form=".3f"),
        Column(title="chrF++", form=".1f"),
    ]
    rows = [
        [
            TITLES.get(name, name),
            method["trained_parameters"],
            method["bytes"] or None,
            method["accuracy"],
            method["interval"],
            method["loss"],
            method["chrf"],
        ]
        for name, method in methods.items()
    ]
    return Section(columns=columns, rows=rows)


def tickets_section(tickets: Sequence[Mapping[str, Any]], folder: str) -> Section:
    """Return the first tickets with their token strings, D and p; empty when there are none."""
    columns = [
        Column(title="row", form="d"),
        Column(title="token", cut="end"),
        Column(title="D", form=".4f"),
        Column(title="p", form="pvalue"),
    ]
    rows = [
        [ticket["row"], ticket["token"], ticket["statistic"], ticket["log_pvalue"]] for ticket in tickets[:MOST_TICKETS]
    ]
    more = len(tickets) - len(rows)
    return Section(
        columns=columns, rows=rows, keys=2, sentences=[f"... and {more} more in {folder}/tickets.json"] if more else []
    )


def findings(summary: Mapping[str, Any]) -> list[str]:
    """Say in sentences what the figures say, also where they speak against the method."""
    power = summary["scan"]
    if power["rows_passing"] == 0:
        return [
            f"No ticket: the largest D is {power['largest_statistic']:.4f}, and p < {power['alpha']:g} needs "
            f"{power['critical_statistic']:.4f}. The row that moved most moved {power['largest_spread']:.2f} of its own "
            f"spread{no_power(power)}."
        ]
    first = (
        f"{power['rows_passing']} of {power['rows_moved']:,} moved rows pass at p < {power['alpha']:g} "
        f"(D of at least {power['critical_statistic']:.4f}; the largest is {power['largest_statistic']:.4f})."
    )
    systems = summary.get("comparisons", {}).get("systems", {})
    if not systems:  # a run of an earlier version
        return [first]
    return [
        first,
        *(compared(RIVALS[name], **system) for name, system in systems.items()),
        f"Each is the paired difference in accuracy, with its {summary['confidence']:.0%} interval over sentences. One seed of "
        "training: the intervals do not cover what another seed would change.",
        *_spread(summary),
    ]


def _spread(summary: Mapping[str, Any]) -> list[str]:
    """Say how far the draws of random rows differ."""
    drawn = summary.get("methods", {}).get(RANDOM, {})
    if "range" not in drawn:
        return []
    low, high = drawn["range"]
    return [f"The accuracy of the {len(drawn['draws'])} draws of random rows is from {low:.3f} to {high:.3f}."]


def compared(rival: str, difference: float, interval: Sequence[float]) -> str:
    """Compare rows that were chosen otherwise with the tickets; "better" is said where the interval excludes 0 alone.

    Parameters
    ----------
    difference, interval
        Accuracy of the rival less that of the tickets.

    Examples
    --------
    >>> compared("as many random rows", -0.2, (-0.3, -0.1))
    'The tickets are better than as many random rows: +0.200 (+0.100 to +0.300).'
    >>> compared("as many random rows", 0.01, (-0.02, 0.04))
    'No difference shown between the tickets and as many random rows: -0.010 (-0.040 to +0.020).'
    """
    low, high = interval
    if low > 0:
        return (
            f"{rival[0].upper()}{rival[1:]} are better than the tickets: {difference:+.3f} ({low:+.3f} to {high:+.3f})."
        )
    figures = f"{-difference:+.3f} ({-high:+.3f} to {-low:+.3f})."
    if high < 0:
        return f"The tickets are better than {rival}: {figures}"
    return f"No difference shown between the tickets and {rival}: {figures}"


def _next_commands(folder: str) -> list[str]:
    """Say where everything is, and which commands use it."""
    return [
        f"All results are in {folder}. Try next:",
        f'  ks-lottery translate {folder} "Your session has expired." --compare',
        f"  ks-lottery export {folder}/partial --to peft --out adapter",
        f"  ks-lottery export {folder}/partial --to merged --out model",
    ]
