"""A finished run, which no test changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from running import command

from ks_lottery.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def finished(tied_model: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "one"
    assert main(command(tied_model, text_file, out)) == 0
    return out
