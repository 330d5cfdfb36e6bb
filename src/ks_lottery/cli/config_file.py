"""Reads the YAML file of ``--config``: of bounded size, depth and expansion, with no key twice and no Python objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.config.keys import check_keys
from ks_lottery.config.values import read_value
from ks_lottery.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import yaml

    from ks_lottery.config.fields import Setting

LARGEST = 256_000
"""Bytes of a file that is read; the whole config of a run has 3,000."""

MOST_VALUES = 100_000
"""Values of a file, aliases counted as often as they are used; a few lines of aliases can stand for billions."""


def file_values(file: Path, listed: Mapping[str, Setting], cls: type) -> dict[str, Any]:
    """Return the values of a YAML file by dotted name; null stands for a required setting that is not given.

    Parameters
    ----------
    file
        A regular file of at most `LARGEST` bytes, in UTF-8.
    listed, cls
        Settings by dotted name, and the class that they are of.

    Raises
    ------
    UserError
        When the file cannot be read, is not YAML, has a key twice or one that no setting has, or a value is refused.
    """
    values: dict[str, Any] = {}
    for key, value in _flat(_read(file), listed, file):
        if key in values:
            raise UserError(f"config file {file} sets {shortened(key)} twice: keep one")
        values[key] = value
    check_keys(values, str(file), cls)
    for key, raw in values.items():
        if key not in listed:
            raise UserError(f"{file}: {key} is {shortened(raw)}, but must be names with values")
    return {
        key: read_value(listed[key], raw, f"{file}: {key}")
        for key, raw in values.items()
        if not (raw is None and listed[key].required)
    }


def _flat(
    content: Mapping[Any, Any], listed: Mapping[str, Setting], file: Path, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if not isinstance(key, str):
            raise UserError(f"config file {file} has the key {shortened(key)}, but a key must be text")
        name = f"{prefix}{key}"
        sections = any(other.startswith(f"{name}.") for other in listed)
        if isinstance(value, dict) and not (name in listed and listed[name].named) and (value or sections):
            yield from _flat(value, listed, file, f"{name}.")
        elif not (value is None and sections):
            yield name, value


def _read(file: Path) -> dict[Any, Any]:
    import yaml

    try:
        content = _parsed(_text(file), file)
    except yaml.YAMLError as error:
        raise UserError(f"config file {file} is not YAML: {_problem(error)}") from error
    except RecursionError as error:
        raise UserError(f"config file {file} is nested too deeply: write it with sections alone") from error
    except ValueError as error:  # a number of thousands of digits, or a date that does not exist
        if isinstance(error, UserError):
            raise
        problem = str(error).partition(";")[0]
        raise UserError(f"config file {file} has a value that cannot be read: {problem}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"config file {file} holds no keys")
    return content


def _text(file: Path) -> str:
    try:
        if file.is_dir():
            raise UserError(f"config file {file} is a folder")
        if file.exists() and not file.is_file():  # a pipe that nothing writes to would be waited for
            raise UserError(f"config file {file} is not a regular file")
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise UserError(f"config file {file} does not exist") from error
    except OSError as error:
        raise UserError(f"config file {_cut(file)} cannot be read: {error.strerror or error}") from error
    if len(content) > LARGEST:
        raise UserError(f"config file {file} has more than the {LARGEST:,} bytes that are read: give a smaller one")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"config file {file} is not UTF-8: save it as that") from error


def _cut(file: Path) -> str:
    return str(file) if len(str(file)) <= 200 else f"{str(file)[:200]}..."


def _parsed(text: str, file: Path) -> Any:
    """Return the content of one YAML document of plain values."""
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_VALUES:
            raise UserError(
                f"config file {file} stands for more than {MOST_VALUES:,} values, by its aliases: write them out"
            )
        _check_keys_once(node, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values below a node, those of an alias at each use; one that contains itself is endless."""
    size = sizes.get(id(node))
    if size is None:
        sizes[id(node)] = MOST_VALUES + 1  # what is met again before it is counted contains itself
        size = 1 + sum(_size(inner, sizes) for inner in _inner(node))
        sizes[id(node)] = size
    return size


def _inner(node: yaml.Node) -> list[yaml.Node]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [inner for pair in node.value for inner in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_keys_once(node: yaml.Node, seen: set[int]) -> None:
    """Refuse a key that a mapping has twice, of which YAML would take the last without a word."""
    import yaml

    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark
                    )
                keys.add(key.value)
    for inner in _inner(node):
        _check_keys_once(inner, seen)


def _problem(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, without the excerpt of several lines that the library adds."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
