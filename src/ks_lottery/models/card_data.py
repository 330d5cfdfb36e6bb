"""The front matter of a model card: what the hub reads of it, such as base, licence, languages, tags and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.models.card_names import dataset_id, hub_id, languages_of, license_of, short_name
from ks_lottery.report.forms import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from huggingface_hub import EvalResult

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.card_measures import RunFigures

LIBRARIES = {"peft": "peft", "lora": "peft", "merged": "transformers"}
"""Format of an export to the library that loads it; llama.cpp for the others."""

TAGS = {"lora": ("lora",), "gguf": ("gguf",), "gguf-lora": ("gguf", "lora")}
"""Format of an export to the tags that it has beside those of every export."""


def front_matter(
    checkpoint: Checkpoint,
    kind: str,
    title: str,
    settings: Mapping[str, Any],
    figures: RunFigures | None,
    *,
    exact: bool,
) -> str:
    """Return the YAML between the two lines of dashes, in the form that `huggingface_hub.ModelCardData` checks and writes.

    Parameters
    ----------
    checkpoint
        The base. It is named where the hub can know it: a path on this machine is not.
    kind
        Format of the export.
    title
        Name of the model, for its scores.
    settings
        Settings of its training.
    figures
        What was measured; None for nothing.
    exact
        Whether the export is what was measured: otherwise it has no scores.
    """
    from huggingface_hub import ModelCardData

    recorded: Sequence[Any] = [settings.get(f"{side}_language") for side in ("source", "target")]
    if figures is not None and not any(recorded):
        recorded = figures.languages
    languages = languages_of(recorded)
    is_text = settings.get("text_format") == "plain"
    results = [] if figures is None or not exact else _results(figures, is_text=is_text)
    method = settings.get("method")
    data = ModelCardData(
        base_model=hub_id(checkpoint.name),
        license=license_of(checkpoint),
        language=languages or None,
        library_name=LIBRARIES.get(kind, "llama.cpp"),
        pipeline_tag="text-generation",
        tags=[
            "ks-lottery", "lottery-ticket", *([printable(method)[:60]] if isinstance(method, str) and method else []),
            *([] if is_text or len(languages) < 2 else ["translation"]), *TAGS.get(kind, ()),
        ],
        datasets=None if figures is None else dataset_id(figures.text),
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=title if results else None,
        eval_results=results or None,
    )  # fmt: skip
    return f"{data.to_yaml()}\n"


def _results(figures: RunFigures, *, is_text: bool) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    text = short_name(figures.text) or "a text without a name"
    task = ("text-generation", "Text generation") if is_text else ("translation", "Translation")
    return [
        EvalResult(
            task_type=task[0], task_name=task[1], dataset_type=dataset_id(figures.text) or "ks-lottery-run", dataset_name=text,
            dataset_split="test", metric_type="bleu" if name.startswith("spbleu") else name, metric_name=title,
            metric_value=round(value, 4), metric_config=printable(signature) or None,
        )
        for name, title, value, signature in figures.scores()
    ]  # fmt: skip
