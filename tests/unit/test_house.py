"""The rules of the house that neither ruff nor import-linter can say, read off the source itself."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "ks_lottery"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def place(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def attributes(tree: ast.AST) -> set[str]:
    """Return every dotted access of two parts, such as ``sys.exit``, and every attribute alone."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
            if isinstance(node.value, ast.Name):
                found.add(f"{node.value.id}.{node.attr}")
    return found


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def is_type_only(tree: ast.AST, name: str) -> bool:
    """Say whether a module is imported only below ``if TYPE_CHECKING``."""
    guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    inside = {id(node) for block in guarded for node in ast.walk(block)}
    return all(
        id(node) in inside
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(alias.name == name for alias in node.names)
    )


def test_the_top_level_has_at_most_sixteen_entries():
    entries = [p.name for p in SOURCE.iterdir() if p.name not in {"py.typed", "__pycache__"}]
    assert len(entries) <= 16, sorted(entries)


def test_no_file_is_over_300_lines():
    long = {place(file): n for file in FILES if (n := len(file.read_text(encoding="utf-8").splitlines())) > 300}
    assert long == {}


def test_no_two_modules_have_one_name():
    """The files of cli/ bear the names of the commands, and so of what they call."""
    names = Counter(file.stem for file in FILES if file.stem != "__init__" and file.parent.name != "cli")
    packages = {file.parent.name for file in FILES if file.name == "__init__.py"}
    assert [name for name, count in names.items() if count > 1] == []
    assert [p for p in packages & set(names) if not (SOURCE / p / f"{p}.py").is_file()] == []


def test_no_two_public_classes_have_one_name():
    classes = Counter(
        node.name
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in classes.items() if count > 1] == []


def test_models_are_loaded_in_models_alone():
    loaders = {place(file) for file, tree in TREES.items() if "from_pretrained" in attributes(tree)}
    assert loaders
    assert {name for name in loaders if not name.startswith("models/")} == set()


@pytest.mark.parametrize("name", ["argparse", "sys.stdout", "sys.exit", "sys.stdin", "sys.argv"])
def test_what_belongs_to_the_command_line_is_in_cli_alone(name):
    users = set()
    for file, tree in TREES.items():
        used = name in attributes(tree) or ("." not in name and name in imported(tree) and not is_type_only(tree, name))
        if used and file.parent.name != "cli" and file.name != "__main__.py":
            users.add(place(file))
    assert users == set()


def test_every_module_says_what_it_is_for():
    """In one or two sentences, short enough to be read in a listing."""
    for file, tree in TREES.items():
        text = ast.get_docstring(tree)
        assert text, place(file)
        assert len(text.splitlines()) <= 3, place(file)


def test_tests_mirror_the_source():
    """A unit test is named for a module, or for one of its packages' rules."""
    modules = {file.stem for file in FILES} | {file.parent.name for file in FILES} | {"house"}
    tests = {file.stem.removeprefix("test_") for file in Path(__file__).parent.glob("test_*.py")}
    assert tests - modules == set()
