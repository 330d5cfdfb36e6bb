"""Table 6: the share of the tickets whose values do not differ between partial and embed tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.recipes.certification_tables import PAPER_MODEL
from ks_lottery.recipes.over_seeds import mean, spread
from ks_lottery.recipes.paper import paper_table
from ks_lottery.recipes.system_comparison import differing_conditions
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ks_lottery.store.cells import FinishedCell


def tuning_agreement_tables(finished: Sequence[FinishedCell]) -> list[Section]:
    """Return a table for each model: a row for each pair and alpha, which selected the tickets."""
    columns = [
        Column(title="pair"), Column(title="alpha", form="g"), Column(title="tickets", form=",.1f"),
        Column(title="changed", form=",.1f"), Column(title="unchanged", form=".3f"), Column(title="over seeds", form=".3f"),
        Column(title="paper", form=".2f"),
    ]  # fmt: skip
    sections: list[Section] = []
    paper = paper_table("table6")
    for model in dict.fromkeys(cell.about["model"] for cell in finished):
        rows: list[list[Any]] = []
        sentences: list[str] = []
        own = [cell for cell in finished if cell.about["model"] == model]
        for pair, alpha in dict.fromkeys((cell.about["pair"], cell.about["alpha"]) for cell in own):
            cells = [cell for cell in own if (cell.about["pair"], cell.about["alpha"]) == (pair, alpha)]
            shares = [cell.figures["unchanged"] for cell in cells if cell.figures["compared"]]
            counts = [mean([cell.figures[name] for cell in cells]) for name in ("compared", "changed")]
            rows.append(
                [
                    pair, alpha, *(counts if shares else ["none", None]), mean(shares) if shares else None,
                    spread(shares),
                    paper.value(pair, model=PAPER_MODEL, alpha=alpha),
                ]
            )  # fmt: skip
            none = [str(cell.about["seed"]) for cell in cells if not cell.figures["compared"]]
            if none:
                sentences.append(f"{pair}: alpha {alpha:g} selects no ticket with seed {', '.join(none)}.")
        sections.append(Section(title=f"{model}: table 6", columns=columns, rows=rows, sentences=sentences, keys=2))
    level = finished[0].figures["level"]
    said = [
        f"Alpha selects the tickets; the second test, of the partially tuned against the embed-tuned values of a ticket, has "
        f"level {level:g} for each alpha. The paper does not name its level.",
        "An unchanged ticket is one whose difference this test does not see at its width; it is not shown to be the same.",
    ]
    return [*sections, Section(title="How to read it", sentences=[*said, *differing_conditions(finished)])]
