"""Benchmarks take minutes and are not run here, but what they import and replace is still there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
BENCHMARKS = sorted(FOLDER.glob("*.py"))
OURS = {"ks_lottery", *(file.stem for file in BENCHMARKS)}


def imported(module, name):
    """Return what ``from module import name`` gives, or fail."""
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_what_a_benchmark_imports_and_replaces_is_there(file, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {
        alias.asname or alias.name: imported(node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS
        for alias in node.names
    }
    for node in nodes:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                replaced = names.get(target.value.id)
                assert not isinstance(replaced, ModuleType) or hasattr(replaced, target.attr), ast.unparse(target)
