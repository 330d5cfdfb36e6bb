"""Parts of a model card that are text: which base it belongs to, what was measured of it, and under which licence it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.models.card_names import hub_id, license_of, short_name, text_fingerprint
from ks_lottery.report.markdown import escaped, to_markdown
from ks_lottery.report.section import Section
from ks_lottery.store.embedded_models import terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.models.card_measures import RunFigures
    from ks_lottery.store.licenses import License


def base_part(checkpoint: Checkpoint, base: Mapping[str, Any]) -> str:
    """Say which weights it belongs to."""
    name, known = escaped(short_name(checkpoint.name)), hub_id(checkpoint.name)
    quantised = f", a quantisation of {known}" if known not in {None, checkpoint.name} else ""
    same = base.get("fingerprint") in (None, checkpoint.fingerprint)
    other = f"{escaped(short_name(str(base.get('name'))))} ({escaped(str(base.get('fingerprint')))})"
    forced = "" if same else f" It was made on another base, {other}, and put onto this one by force."
    return (
        f"{name}{quantised}. Base fingerprint: `{checkpoint.fingerprint}`. It belongs to these weights alone: a checkpoint of "
        f"the same name with other weights (another quantisation, another revision) is another base.{forced}"
    )


def measured_parts(patch: RowPatch | None, figures: RunFigures | None, *, exact: bool) -> list[str]:
    """Return text, scores and guarantee, or that nothing was measured."""
    if figures is None:
        text = None if patch is None else text_fingerprint(patch.folder)
        data = "The text that it was trained on is not recorded by name" + (
            f"; its SHA-256 is `{text}`." if text else "."
        )
        return [
            f"## Data\n\n{data}",
            "## Scores\n\nNothing was measured of this where it was exported: no scores, no endings, no forgetting, "
            "and no guarantee. `ks-lottery run` measures them, and `evaluate` and `certify` any patch.",
        ]
    guarantees = figures.guarantees() or ["Nothing is guaranteed of these rows: the run has no certificate of them."]
    form = f"The figures are those of the rows in the run, with the model in {figures.dtype}."
    if not exact:
        form += (
            " This export approximates or rounds them, or runs in another program, and can answer otherwise; it was not "
            "measured itself."
        )
        guarantees = [
            "Nothing is guaranteed of this export: what the run guarantees is of its own rows, in transformers."
        ]
    return [
        to_markdown([Section(title="Data", sentences=figures.data())]),
        f"## Scores\n\n{form}\n\n{to_markdown(figures.sections())}",
        to_markdown([Section(title="Guarantee", sentences=guarantees)]),
    ]


def license_part(checkpoint: Checkpoint) -> str:
    """Say under which licence the base is, and what that means for this export, as far as it is known."""
    origin = terms_of(checkpoint.folder)
    if origin is not None and origin.terms is not None:
        return terms_part(origin.terms, origin.terms_file)
    name = license_of(checkpoint)
    known = "not recorded in its files" if name is None else name
    return (
        f"## License\n\nThe licence of the base is {known}. What is made from a model is usually bound to its licence: look it "
        "up before you pass this on."
    )


def terms_part(terms: License, file: str) -> str:
    """Say under which terms what is made from the base may be used and passed on."""
    return (
        f"## License\n\n{terms.notice}. The text is in {file.rpartition('/')[2]}, and the notice that has to accompany every "
        f"copy in NOTICE. In short: {terms.points}."
    )
