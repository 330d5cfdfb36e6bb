"""A stage: one unit of work with declared inputs and settings; a recipe: stages in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ks_lottery.store.manifest import digest_json, versions

if TYPE_CHECKING:
    from pathlib import Path

Tick = Callable[[int, int], None]
"""Takes what is done and what there is to do."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """The result of a stage.

    Parameters
    ----------
    files
        Files that the stage wrote.
    log
        Lines for the log; without times, since the log has the same bytes in each run.
    shown
        Whether the screen shows these lines too.
    """

    files: Sequence[Path]
    log: Sequence[str] = ()
    shown: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Stage:
    """One unit of work.

    Parameters
    ----------
    name, title
        Name in markers and logs; what the screen calls it.
    make
        Does the work and says which files it wrote.
    inputs
        Names of the stages, and of the inputs of the whole recipe, that the work reads.
    settings
        Every setting that the result depends on.
    """

    name: str
    title: str
    make: Callable[[Tick], Made]
    inputs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __repr__(self) -> str:
        return f"Stage({self.name}, from {', '.join(self.inputs) or 'nothing'})"

    def key(self, digests: Mapping[str, str]) -> str:
        """Return the digest of name, settings, inputs and versions: a result with the same key need not be made again.

        Parameters
        ----------
        digests
            Digest of each input by its name.
        """
        inputs = {name: digests[name] for name in self.inputs}
        return digest_json([self.name, dict(self.settings), inputs, versions()])


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """Stages in an order in which each comes after its inputs.

    Parameters
    ----------
    inputs
        Digest of each input of the whole recipe, such as the model and the text, by its name.
    """

    stages: tuple[Stage, ...]
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        return f"Recipe({len(self.stages)} stages: {', '.join(stage.name for stage in self.stages)})"

    def __post_init__(self) -> None:
        """Check that each input is there before the stage that reads it."""
        known = set(self.inputs)
        for stage in self.stages:
            missing = [name for name in stage.inputs if name not in known]
            if missing or stage.name in known:
                raise ValueError(f"stage {stage.name} reads {missing} before it is made, or its name is taken")
            known.add(stage.name)
