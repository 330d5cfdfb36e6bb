"""What a page shows of a run, finished or in progress: the verdict first, then methods, tickets, certificate and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certificate import Certificate
from ks_lottery.checkpoint.attribution import ATTRIBUTION_FILE, Attribution
from ks_lottery.config.keys import flat
from ks_lottery.corpus.languages import language_name
from ks_lottery.errors import UserError
from ks_lottery.evaluation.evaluation_figures import interval_figure, line_of, where_figure
from ks_lottery.evaluation.where import Where
from ks_lottery.recipes.few_rows_sections import few_rows_sections
from ks_lottery.recipes.findings import TITLES
from ks_lottery.recipes.method_differences import differences_section
from ks_lottery.recipes.page_nouns import certificate_parts, section_part, training_part
from ks_lottery.recipes.page_scan import OpenedScan, distribution_part, kinds_part, rows_of
from ks_lottery.recipes.page_texts import example_in_spans, translations
from ks_lottery.recipes.page_verdict import verdict
from ks_lottery.recipes.summary_sections import summary_sections
from ks_lottery.report.page_parts import Article, PagePart, Table
from ks_lottery.report.section import Column, Section
from ks_lottery.store.files import read_json, read_json_lines
from ks_lottery.store.run_folder import EMBED, MARKERS, TEST, UNFINISHED, WHOLE_FILE, RunFolder
from ks_lottery.tickets.origin import origins_beside, recorded
from ks_lottery.tickets.scan_changes import changes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ks_lottery.report.page_parts import Item

NAME = "RUN"
"""How commands on the page call the folder of the run, so that a page is the same wherever the run is."""


def run_article(path: Path, about: str = "") -> Article:
    """Return the article on a run.

    Parameters
    ----------
    path
        Its folder; a run in progress has fewer parts.
    about
        Line below the title.

    Raises
    ------
    UserError
        When the folder is not that of a run, or a file in it is damaged.
    """
    folder = RunFolder(path)
    config = folder.config()
    title = _title(config)
    if not folder.summary.is_file():
        return Article(title=f"{title} (in progress)", about=about, parts=[*_progress(folder), *_training(folder)])
    summary = read_json(folder.summary)
    if "certificate" not in summary:
        return Article(title=title, about=about, parts=_few_rows(folder, config, summary))
    return Article(title=title, about=about, parts=_main(folder, config, summary))


def _main(folder: RunFolder, config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[PagePart]:
    methods, measured, ends, forgetting, said, _, *_ = summary_sections(summary, summary["tickets"], NAME)
    opened = OpenedScan(folder.scan)
    alpha = summary["scan"]["alpha"]
    parts = [
        PagePart(
            title="Verdict",
            sentence="What this run shows, in a few numbers.",
            items=[verdict(summary, len(opened.scan))],
        ),
        _methods(folder, config, summary, [methods, measured]),
        section_part(
            "What the figures say",
            "Each sentence follows from a figure, also where it speaks against the method.",
            [said],
            "findings",
        ),
        *_where(folder, config, summary),
        _tickets(folder, opened, alpha),
        distribution_part(opened.scan, alpha),
    ]
    vocabulary = opened.vocabulary
    if vocabulary is not None:
        changed = changes(vocabulary[0], alpha, vocabulary[1], vocabulary[2])
        parts += [kinds_part(changed)] if changed["by_kind"] else []
    for name, title in (
        ("transfer", "Certificate of the partial transfer"),
        ("partial", "Certificate of partial tuning"),
    ):
        if (folder.certificates / f"{name}.json").is_file():
            certificate = Certificate.open(folder.certificates / f"{name}.json")
            parts += certificate_parts(certificate.as_dict(), certificate.sections(examples=0), title)
    parts += [
        section_part(
            "Endings and forgetting",
            "Part of a gain can be learning to stop; what was forgotten is what it cost.",
            [ends, forgetting],
            "endings",
        ),
        *_training(folder),
        *_texts(folder, [*summary["methods"]]),
        _made(config, summary),
    ]
    return parts


def _few_rows(folder: RunFolder, config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[PagePart]:
    first, *_ = few_rows_sections(summary, NAME)
    names = {"original": "original model", "partial": "partial tuning", "token-prompt": "token prompt"}
    lines = [line_of(names.get(name, name), m["accuracy"], m["interval"]) for name, m in summary["methods"].items()]
    figure = interval_figure("accuracy", "Next-token accuracy with its interval", lines, "accuracy")
    return [
        PagePart(
            title="Methods",
            sentence="The original model beside what a few trained rows make of it.",
            items=[figure, Table(section=first, name="methods")],
        ),
        *_training(folder),
        *_texts(folder, [*summary["methods"]]),
        _made(config, summary),
    ]


def _title(config: Mapping[str, Any]) -> str:
    model, text = config.get("model", {}), config.get("text", {})
    name = str(model.get("name", "")).removeprefix("asset:").rstrip("/").rpartition("/")[2] or "run"
    languages = [str(text.get(f"{side}_language", "")) for side in ("source", "target")]
    try:
        return f"{name}, {' to '.join(map(language_name, languages))}"
    except UserError:
        return f"{name}, {' to '.join(languages)}"


def _methods(
    folder: RunFolder, config: Mapping[str, Any], summary: Mapping[str, Any], sections: list[Section]
) -> PagePart:
    lines = [line_of(TITLES.get(name, name), m["accuracy"], m["interval"]) for name, m in summary["methods"].items()]
    confidence = f"{summary['confidence']:.0%}"
    items: list[Item] = [
        interval_figure(
            "accuracy", f"Next-token accuracy with its {confidence} interval over sentences", lines, "accuracy"
        ),
    ]
    items += [Table(section=section, name=f"methods-{n}") for n, section in enumerate(sections)]
    found = differences_section(folder, config, summary)
    if found is not None:
        section, bars = found
        items += [
            interval_figure(
                "differences",
                "Difference in accuracy from partial tuning, paired, with its interval",
                bars,
                "difference in accuracy",
                reference=0,
                form="+.3f",
            ),
            Table(section=section, name="differences"),
        ]
    return PagePart(
        title="Methods side by side",
        sentence="Higher is better; systems are compared by their paired differences, and not by whether intervals overlap.",
        items=items,
    )


def _where(folder: RunFolder, config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[PagePart]:
    where, text = summary.get("where"), config.get("text", {})
    if where is None:
        return []
    items: list[Item] = []
    pairs = read_json_lines(folder.text(TEST)) if folder.text(TEST).is_file() else []
    languages = (str(text.get("source_language")), str(text.get("target_language")))
    if pairs:
        example = example_in_spans(
            str(text.get("template")),
            str(pairs[0].get("source", "")),
            str(pairs[0].get("target", "")),
            languages,
            text.get("instruction"),
        )
        items += [example] if example is not None else []
    if folder.where.is_file():
        items.append(where_figure([effect.as_dict() for effect in Where.open(folder.where).spans]))
    sentence = where["sentence"] or f"This was not measured: {where['missing']}."
    return [PagePart(title="Where the rows act", sentence=sentence, items=items)]


def _tickets(folder: RunFolder, opened: OpenedScan, alpha: float) -> PagePart:
    embed = folder.method(EMBED)
    attribution = recorded(opened.scan, embed, str(folder.scan)) if (embed / ATTRIBUTION_FILE).is_file() else None
    table = rows_of(
        opened,
        alpha,
        spans=origins_beside(opened.scan, [embed]),
        attribution=attribution if isinstance(attribution, Attribution) else None,
        more_command=f"ks-lottery scan MODEL {NAME}/{EMBED} --quantile-rows 2000 --out scan.parquet",
    )
    return PagePart(
        title="The tickets, and every other row",
        sentence="Sort by any column, filter, and pick a token to see its row before and after fine-tuning, with D marked.",
        items=[] if table is None else [table],
    )


def _training(folder: RunFolder) -> list[PagePart]:
    losses: dict[str, Any] = {}
    for file in sorted(folder.path.glob("*/training.json")):
        content = read_json(file)
        name = file.parent.name
        if isinstance(content.get("losses"), list):
            losses[TITLES.get(name, name)] = content["losses"]
    losses |= _under_way(folder)
    first = [TITLES[name] for name in (EMBED, "partial") if TITLES[name] in losses]
    ordered = {name: losses[name] for name in dict.fromkeys([*first, *losses])}
    part = training_part(ordered)
    return [] if part is None else [part]


def _under_way(folder: RunFolder) -> dict[str, Any]:
    """Return the losses of trainings that are not finished, up to the last whole checkpoint of each."""
    saved = [file.parent for file in (folder.path / UNFINISHED).glob(f"*/checkpoint-*/{WHOLE_FILE}")]
    losses: dict[str, Any] = {}
    for checkpoint in sorted(saved, key=lambda path: int(path.name.rpartition("-")[2])):
        name = checkpoint.parent.name.rpartition("-")[0]
        history = read_json(checkpoint / "trainer_state.json").get("log_history", [])
        losses[f"{TITLES.get(name, name)}, under way"] = [entry for entry in history if "loss" in entry]
    return losses


def _texts(folder: RunFolder, methods: list[str]) -> list[PagePart]:
    outputs = {name: read_json_lines(folder.hypotheses(name)) for name in methods if folder.hypotheses(name).is_file()}
    texts = translations(outputs, TITLES)
    if texts is None:
        return []
    return [
        PagePart(
            title="Translations side by side", sentence="Words that the reference lacks are marked.", items=[texts]
        )
    ]


def _made(config: Mapping[str, Any], summary: Mapping[str, Any]) -> PagePart:
    """Return how the run was made: command, settings, signatures of the scores, fingerprint of the model."""
    settings = [[name, "" if value is None else str(value)] for name, value in dict(flat(config)).items()]
    signatures = {
        metric: signature
        for method in summary["methods"].values()
        for metric, signature in {
            **method.get("signatures", {}),
            **({"chrf": method["signature"]} if "signature" in method else {}),
        }.items()
    }
    about = [
        ["model", str(summary["model"].get("fingerprint", "")), "SHA-256"],
        *([metric, text, "sacrebleu"] for metric, text in signatures.items()),
    ]
    columns = [Column(title="of"), Column(title="signature"), Column(title="by")]
    return PagePart(
        title="How it was made",
        sentence="The same config gives the same numbers again.",
        items=[
            Table(section=Section(sentences=["ks-lottery run config.yaml --out RUN"])),
            Table(section=Section(columns=columns, rows=about), name="signatures"),
            Table(
                section=Section(
                    title="Every setting", columns=[Column(title="setting"), Column(title="value")], rows=settings
                ),
                name="settings",
                folded=True,
            ),
        ],
    )


def _progress(folder: RunFolder) -> list[PagePart]:
    """Return what is done of a run in progress."""
    markers = sorted((folder.path / MARKERS).glob("*.json"), key=lambda file: file.stat().st_mtime)
    rows = [[file.stem, line] for file in markers for line in read_json(file).get("log") or [""]]
    columns = [Column(title="finished stage"), Column(title="what it says")]
    section = Section(columns=columns, rows=rows, sentences=[] if rows else ["No stage is finished yet."])
    parts = [
        PagePart(
            title="Finished so far",
            sentence="This run is in progress, or was stopped; the same command resumes it.",
            items=[Table(section=section, name="stages")],
        )
    ]
    if folder.scan.is_file() and (folder.path / MARKERS / "scan.json").is_file():
        opened = OpenedScan(folder.scan)
        alpha = float(folder.config().get("select", {}).get("alpha", 0.05))
        parts += [_tickets(folder, opened, alpha), distribution_part(opened.scan, alpha)]
    return parts
