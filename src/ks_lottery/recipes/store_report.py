"""What is in a store, as tables: which stages, why each is there, which are damaged, and what a pruning would remove."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.config.recipe_commands import StoreSettings
from ks_lottery.report.forms import duration, size
from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.store.objects import ObjectStore
    from ks_lottery.store.stored_stage import StoredStage

DAY = 86_400.0
SHORT = 12
"""Digits of a key that are shown."""


@dataclass(frozen=True, kw_only=True)
class StoreReport:
    """What is in a store.

    Parameters
    ----------
    root
        Folder of the store.
    stages
        The stages that are shown, oldest first.
    damaged
        Key of each damaged stage to what is wrong with it.
    """

    root: str
    stages: Sequence[StoredStage]
    damaged: Mapping[str, str]

    def sections(self) -> list[Section]:
        """Return one line a stage, the size of all, and what is damaged."""
        now = time.time()
        columns = [
            Column(title="key"), Column(title="stage", widest=60), Column(title="recipe"), Column(title="bytes", form="bytes"),
            Column(title="took", form="duration"), Column(title="used", form="text", align="right"),
        ]  # fmt: skip
        rows = [
            [
                stage.key[:SHORT], stage.about["title"], stage.about["recipe"], stage.bytes, stage.about["seconds"],
                f"{_age(now - stage.used)} ago",
            ]
            for stage in self.stages
        ]  # fmt: skip
        total = sum(stage.bytes for stage in self.stages)
        return [
            Section(columns=columns, rows=rows, sentences=[f"{self.root}: {len(rows):,} stages, {size(total)}"]),
            Section(
                title="Damaged" if self.damaged else "",
                sentences=[f"{key[:SHORT]}: {problem}" for key, problem in self.damaged.items()],
            ),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "store": self.root,
            "stages": [{"key": stage.key, **stage.about, "bytes": stage.bytes} for stage in self.stages],
            "damaged": dict(self.damaged),
        }


def stored_stages(store: ObjectStore, *, verify: bool = False) -> StoreReport:
    """Return what is in a store.

    Parameters
    ----------
    verify
        Compare every file with its digest too; otherwise only manifests are read.
    """
    stages, damaged = store.stages()
    if verify:
        for stage in stages:
            problem = stage.damage()
            if problem is not None:
                damaged[stage.key] = problem
    return StoreReport(root=str(store.root), stages=stages, damaged=damaged)


def prunable(
    store: ObjectStore,
    *,
    older_than: float = StoreSettings.older_than,
    all: bool = StoreSettings.all,  # noqa: A002
) -> StoreReport:
    """Return what a pruning removes: stages that were not used for some days and that no remaining stage was made from.

    Damaged manifests are removed in any case.

    Parameters
    ----------
    older_than
        Days since a stage was made or last used (30).
    all
        Remove old stages also where a stage that remains was made from them; off by default.
    """
    stages, damaged = store.stages()
    since = time.time() - older_than * DAY
    by_key = {stage.key: stage for stage in stages}
    remaining = {stage.key for stage in stages if stage.used > since}
    waiting = [] if all else list(remaining)
    while waiting:
        stage = by_key[waiting.pop()]
        more = (stage.sources & by_key.keys()) - remaining
        remaining |= more
        waiting += more
    return StoreReport(
        root=str(store.root), stages=[stage for stage in stages if stage.key not in remaining], damaged=damaged
    )


def explain_stage(store: ObjectStore, key: str) -> list[Section]:
    """Say why a stage is there: what it was made from and how, and which stages and recipes use it.

    Parameters
    ----------
    key
        Key of the stage, or its beginning.

    Raises
    ------
    UserError
        When no stage, or more than one, has it, or its manifest is damaged.
    """
    stage = store.open(store.key_of(key))
    about, (others, _) = stage.about, store.stages()
    titles = {other.key: other.about["title"] for other in others}
    facts = {
        "stage": about["title"], "key": stage.key, "kind": f"{about['stage']}, code version {about['code']}",
        "made": f"{about['made']}, in {duration(about['seconds'])}, by the recipe {about['recipe']}",
        "tokens": f"{about['tokens']:,}", "files": f"{', '.join(about['files'])} ({size(stage.bytes)})",
        **{f"input: {role}": _input(source, titles) for role, source in about["inputs"].items()},
        **{f"setting: {name}": str(value) for name, value in about["settings"].items()},
        **{f"condition: {name}": _condition(value) for name, value in about["conditions"].items()},
    }  # fmt: skip
    users = [f"{other.key[:SHORT]}  {other.about['title']}" for other in others if stage.key in other.sources]
    recipes = [f"{use['recipe']} with {use.get('arguments')}" for use in store.uses() if stage.key in use["objects"]]
    return [
        Section(
            columns=[Column(title="what"), Column(title="")], rows=[[name, value] for name, value in facts.items()]
        ),
        Section(title="Used by these stages", sentences=users or ["none"]),
        Section(title="Used by these recipes", sentences=recipes or ["none"]),
    ]


def _input(source: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    if source["key"] is None:
        return f"digest {source['digest'][:SHORT]}"
    return f"{source['key'][:SHORT]}  {titles.get(source['key'], 'no longer in the store')}"


def _condition(value: object) -> str:
    return ", ".join(f"{name} {of}" for name, of in value.items()) if isinstance(value, dict) else str(value)


def _age(seconds: float) -> str:
    return f"{seconds / DAY:.0f} days" if seconds >= 2 * DAY else duration(max(0.0, seconds))
