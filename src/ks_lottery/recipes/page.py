"""The report: opens what was saved, whatever noun it is, and writes it as one HTML page. Loads neither torch nor a model."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.certification.certificate import Certificate
from ks_lottery.config.report_commands import ReportSettings
from ks_lottery.errors import UserError
from ks_lottery.evaluation.evaluation import EVALUATION_FILE, Evaluation
from ks_lottery.evaluation.where import Where
from ks_lottery.recipes.page_nouns import (
    certificate_page,
    evaluation_page,
    reproduction_page,
    section_part,
    training_part,
    where_page,
)
from ks_lottery.recipes.page_run import run_article
from ks_lottery.recipes.page_scan import OpenedScan, scan_parts
from ks_lottery.report.html_page import to_page
from ks_lottery.report.page_parts import Article, Page
from ks_lottery.store.files import read_json, write_text
from ks_lottery.store.ownership import check_replaceable, kind_of
from ks_lottery.store.run_folder import CONFIG_FILE, SCAN_FILE, TICKETS_FILE, WHERE_FILE
from ks_lottery.tickets.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ks_lottery.report.page_parts import PagePart

REPORT_FILE = "report.html"


def write_report(paths: Sequence[str | Path], out: str | Path | None = ReportSettings.out) -> Path:
    """Write one self-contained HTML file on what was saved at some paths, side by side, and return its path.

    Parameters
    ----------
    paths
        Run folders, folders of `certify`, `evaluate` and `tune`, a recipe's results, and files of scans, tickets, span effects,
        certificates and evaluations.
    out
        File to write, in which only an earlier report is replaced; see `default_out` for where it is unless given.

    Raises
    ------
    UserError
        When a path holds nothing that can be shown, a file is damaged, or `out` is something else than a report.
    """
    file = default_out(paths) if out is None else Path(out).expanduser()
    check_replaceable(file, "report")
    write_text(file, to_page(page_of(paths)), "report")
    return file


def default_out(paths: Sequence[str | Path]) -> Path:
    """Return where a report is written unless that is said: in the folder of a run, beside any other file or folder.

    Of several paths it is ``report.html`` in the working directory.
    """
    if len(paths) != 1:
        return Path(REPORT_FILE)
    path = Path(paths[0]).expanduser()
    if (path / CONFIG_FILE).is_file():
        return path / REPORT_FILE
    place = path.resolve()
    return path.parent / f"{place.name if place.is_dir() else place.stem}-{REPORT_FILE}"


def page_of(paths: Sequence[str | Path], *, refreshes: bool = False) -> Page:
    """Return the page on what was saved at some paths; see `write_report`."""
    if not paths or isinstance(paths, str):
        raise UserError("`paths` is empty: name a run folder, or a file or folder that a command wrote")
    several = len(paths) > 1
    articles = [article_of(Path(path).expanduser(), str(path) if several else "") for path in paths]
    title = "KS-Lottery: " + (
        " | ".join(article.title for article in articles) if not several else f"{len(articles)} results side by side"
    )
    return Page(title=title, articles=articles, refreshes=refreshes, versions={"ks-lottery": version("ks-lottery")})


def article_of(path: Path, about: str = "") -> Article:
    """Open what was saved at a path, and return its article.

    Raises
    ------
    UserError
        When there is nothing that can be shown.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: check the name")
    if path.is_dir():
        return _of_folder(path, about)
    kind = kind_of(path)
    if kind not in OPENERS:
        raise UserError(
            f"{path} is of kind {kind or 'unknown'}, which has no report: give a run folder, a scan or {', '.join(OPENERS)}"
        )
    title, parts = OPENERS[kind]
    return Article(title=title, about=about, parts=parts(path))


def _of_folder(path: Path, about: str) -> Article:
    if (path / CONFIG_FILE).is_file():
        return run_article(path, about)
    if (path / "manifest.json").is_file() and read_json(path / "manifest.json").get("kind") == "reproduction":
        return Article(title=f"Results of the recipe {_recipe(path)}", about=about, parts=reproduction_page(path))
    for name in (EVALUATION_FILE, "certificate.json", SCAN_FILE, WHERE_FILE, TICKETS_FILE):
        if (path / name).is_file():
            return article_of(path / name, about)
    if (path / "training.json").is_file():
        return Article(title="Training", about=about, parts=_training(path))
    raise UserError(f"{path} holds nothing that a report shows: give a run folder, or what a command wrote with --out")


def _recipe(path: Path) -> str:
    return str(read_json(path / "manifest.json")["settings"].get("recipe", ""))


def _training(path: Path) -> list[PagePart]:
    losses: Any = read_json(path / "training.json").get("losses")
    part = training_part({"training": losses}) if isinstance(losses, list) else None
    rows = (
        Tickets.open(path / "rows.json").sections(Tickets.tokens(path / "rows.json"))
        if (path / "rows.json").is_file()
        else []
    )
    return [
        *([] if part is None else [part]),
        *([section_part("Rows that were trained", "", rows, "rows")] if rows else []),
    ]


def _tickets(path: Path) -> list[PagePart]:
    tickets = Tickets.open(path)
    rule = ", ".join(f"{name} {value}" for name, value in tickets.rule.items() if name != "of")
    return [
        section_part(
            "Tickets", f"{len(tickets):,} rows, selected by: {rule}.", tickets.sections(Tickets.tokens(path)), "tickets"
        )
    ]


OPENERS: dict[str, tuple[str, Callable[[Path], list[PagePart]]]] = {
    "scan": ("What fine-tuning changed", lambda path: scan_parts(OpenedScan(path))),
    "certificate": ("Certificate", lambda path: certificate_page(Certificate.open(path.with_suffix(".json")))),
    "evaluation": ("Evaluation", lambda path: evaluation_page(Evaluation.open(path.parent))),
    "where": ("Where the rows act", lambda path: where_page(Where.open(path))),
    "tickets": ("Tickets", _tickets),
}
"""Kind of a file to the title of its article, and what makes its parts."""
