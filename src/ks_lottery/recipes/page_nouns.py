"""What a page shows of nouns that were saved alone: certificates, evaluations, tickets, tables of recipes, and others."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certificate_figures import alpha_figure, tokens_figure
from ks_lottery.errors import UserError
from ks_lottery.evaluation.evaluation_figures import scores_figure, where_figure
from ks_lottery.recipes.reproduction import TABLES_FILE
from ks_lottery.report.forms import percent_down
from ks_lottery.report.page_parts import Image, PagePart, Table, Tile, Tiles
from ks_lottery.report.section import Column, Section
from ks_lottery.report.vega import curves
from ks_lottery.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.evaluation.evaluation import Evaluation
    from ks_lottery.evaluation.where import Where
    from ks_lottery.report.page_parts import Item

MOST_POINTS = 400
"""Points of a training curve; a longer one shows means of as many neighbours as needed."""


def section_part(title: str, sentence: str, sections: Sequence[Section], name: str) -> PagePart:
    """Return sections as a part; those that are empty are left out."""
    filled = [section for section in sections if section.rows or section.sentences]
    items = [Table(section=section, name=f"{name}-{number}") for number, section in enumerate(filled, start=1)]
    return PagePart(title=title, sentence=sentence, items=items)


def certificate_parts(
    content: Mapping[str, Any], sections: Sequence[Section], title: str = "Certificate"
) -> list[PagePart]:
    """Return what is guaranteed, what is certified, and what the audit found.

    Parameters
    ----------
    content, sections
        `Certificate.as_dict` and `Certificate.sections`.
    """
    items: list[Item] = []
    if all(level["alpha"] is not None for level in content["levels"]) and len(content["levels"]) > 1:
        items += [alpha_figure(content), tokens_figure(content)]
    items += [Table(section=section, name=f"certificate-{n}") for n, section in enumerate(sections, start=1)]
    sentence = (
        "Certified is what the paper's bound promises under its assumptions; the last column of the table counts where the "
        "small model answered differently all the same."
    )
    parts = [PagePart(title=title, sentence=sentence, items=items)]
    if content["worst"]:
        parts.append(_audit(content["worst"], title))
    return parts


def certificate_page(certificate: Certificate) -> list[PagePart]:
    """Return the parts of a certificate that was saved alone."""
    content = certificate.as_dict()
    tiles = [
        Tile(
            label="Accuracy of the tuned model",
            value=f"{content['tuned_accuracy']:.3f}",
            note=f"{content['positions']:,} positions",
        ),
        Tile(label="Accuracy of the original model", value=f"{content['original_accuracy']:.3f}"),
        *guaranteed(content),
    ]
    glance = PagePart(
        title="At a glance", sentence="What was certified, and what is guaranteed.", items=[Tiles(tiles=tiles)]
    )
    return [glance, *certificate_parts(content, certificate.sections(examples=0))]


def guaranteed(content: Mapping[str, Any]) -> list[Tile]:
    """Return the guarantee of a certificate as one number; nothing where there is none above 0."""
    from ks_lottery.certification.certificate_sections import spelled_out

    if not content["guarantees"]:
        return []
    tickets = {level["name"]: level["tickets"] for level in content["levels"]}
    first = spelled_out(content["guarantees"], tickets)
    what = {
        "all_agree": "of sentences agree everywhere",
        "agreement": "of a sentence's positions agree",
        "accuracy": "accuracy",
    }
    positions = "all positions" if first["positions"] is None else f"the first {first['positions']} positions"
    note = (
        f"{what[first['bounded']]}, {positions}, with confidence {1 - first['delta']:g} over the draw of {first['n']} "
        f"{first['unit']}s; {tickets[first['model']]:,} tickets"
    )
    return [Tile(label="Guaranteed at least", value=percent_down(first["lower"]), note=note)]


def _audit(worst: Sequence[Mapping[str, Any]], title: str) -> PagePart:
    columns = [
        Column(title="half gap", form=".4f"),
        Column(title="source"),
        Column(title="so far"),
        Column(title="tuned model"),
        Column(title="small models"),
        Column(title="sentence", form="d"),
        Column(title="position", form="d"),
    ]
    rows = [
        [
            one["half_gap"],
            one["source"],
            one["so_far"],
            one["wanted"],
            "; ".join(f"{name}: {answer}" for name, answer in one["answers"].items()),
            one["sentence"],
            one["position"],
        ]
        for one in worst
    ]
    return PagePart(
        title=f"Audit: {title[:1].lower()}{title[1:]}",
        sentence="Certified positions that a small model answers differently, those first where the tuned model was surest.",
        items=[Table(section=Section(columns=columns, rows=rows), name="audit")],
    )


def evaluation_page(evaluation: Evaluation) -> list[PagePart]:
    """Return the parts of an evaluation that was saved alone."""
    from ks_lottery.recipes.page_texts import translations

    figure = scores_figure(evaluation.content())
    parts = [
        PagePart(
            title="Scores", sentence="Each score with its interval over sentences.", items=[figure] if figure else []
        ),
        section_part("Details", "As the command prints them.", evaluation.sections(), "evaluation"),
    ]
    if evaluation.hypotheses is not None and evaluation.sources is not None:
        rows = [
            {"source": source, "reference": reference, "hypothesis": text}
            for source, reference, text in zip(
                evaluation.sources,
                evaluation.references or [""] * len(evaluation.sources),
                evaluation.hypotheses,
                strict=True,
            )
        ]
        texts = translations({"translation": rows}, {})
        if texts is not None:
            parts.append(
                PagePart(title="Translations", sentence="Words that the reference lacks are marked.", items=[texts])
            )
    return parts


def where_page(where: Where) -> list[PagePart]:
    """Return the parts of span effects that were saved alone."""
    figure = where_figure([effect.as_dict() for effect in where.spans])
    return [
        PagePart(title="Where the rows act", sentence=where.sentence, items=[figure]),
        section_part("Details", "As the command prints them.", where.sections(), "where"),
    ]


def training_part(losses: Mapping[str, Sequence[Mapping[str, Any]]]) -> PagePart | None:
    """Return the training curves of some methods; None where there is none.

    Parameters
    ----------
    losses
        What each is called, to its ``step`` and ``loss`` entries.
    """
    points = [point for name, entries in losses.items() for point in _thinned(name, entries)]
    if not points:
        return None
    columns = [Column(title="method"), Column(title="step", form=".0f"), Column(title="loss", form=".4f")]
    from ks_lottery.report.page_parts import Figure

    figure = Figure(
        name="training-loss",
        title="Loss of each training step",
        spec=curves(points, "step", "loss, nats a token", marks=False, form=".2f"),
        numbers=Section(columns=columns, rows=[[point["series"], point["x"], point["y"]] for point in points]),
    )
    return PagePart(title="Training", sentence="The loss should fall and then level off.", items=[figure])


def _thinned(name: str, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    size = -(-len(entries) // MOST_POINTS) or 1
    groups = [entries[start : start + size] for start in range(0, len(entries), size)]
    return [
        {
            "x": sum(e["step"] for e in group) / len(group),
            "y": sum(e["loss"] for e in group) / len(group),
            "series": name,
        }
        for group in groups
        if all(isinstance(e.get("loss"), int | float) and isinstance(e.get("step"), int | float) for e in group)
    ]


def _tables(file: Path) -> list[Section]:
    """Read the tables of a recipe."""
    try:
        return [Section.from_dict(content) for content in read_json(file)["tables"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged: make the tables again") from error


def reproduction_page(folder: Path) -> list[PagePart]:
    """Return the tables and figures of a recipe's results.

    Raises
    ------
    UserError
        When the folder lacks its tables.
    """
    about = read_json(folder / "manifest.json", "reproduction")
    recipe = str(about["settings"].get("recipe", ""))
    if not (folder / TABLES_FILE).is_file():
        raise UserError(f"{folder} lacks {TABLES_FILE}, the tables of a recipe: make it again, or give another folder")
    sections = _tables(folder / TABLES_FILE)
    parts: list[PagePart] = []
    for number, section in enumerate(sections, start=1):
        item = Table(
            section=Section(columns=section.columns, rows=section.rows, sentences=section.sentences),
            name=f"{recipe}-{number}",
        )
        parts.append(PagePart(title=section.title, items=[item]))
    images = [
        Image(name=picture.stem, address=f"data:image/svg+xml;base64,{b64encode(picture.read_bytes()).decode()}")
        for picture in sorted(folder.glob("*.svg"))
    ]
    if images:
        parts.insert(0, PagePart(title="Figures", sentence="As the recipe drew them.", items=images))
    settings = Section(
        title="Settings",
        columns=[Column(title="setting"), Column(title="value")],
        rows=[[name, str(value)] for name, value in about["settings"].items()],
    )
    return [
        *parts,
        PagePart(
            title="How it was made",
            sentence="The recipe's own settings.",
            items=[Table(section=settings, name="settings")],
        ),
    ]
