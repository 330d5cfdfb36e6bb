"""The command `run`: a YAML file and flags, which have the same fields, to the config of a run, and the run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ks_lottery.config.choices import PRESETS
from ks_lottery.config.keys import check_keys, flat
from ks_lottery.config.presets import run_preset
from ks_lottery.config.settings import RunConfig, as_dict
from ks_lottery.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser

OWN = ("--help", "-h", "--print-config", "--out", "--preset")


def parse_run(arguments: Sequence[str]) -> tuple[RunConfig, Path] | None:
    """Read ``[config.yaml] [--preset paper] [--section.key value ...] [--out FOLDER] [--print-config]``.

    Flags go over the file, the file over the preset, the preset over the defaults, which are ours.
    Dashes and underscores in keys are alike.

    Returns
    -------
    config, folder
        Or None when the config or the help was printed, which is all that was asked for.

    Raises
    ------
    UserError
        For an unknown key (naming the nearest), a value of the wrong type or range, or a file that cannot be read.
    """
    from jsonargparse import ArgumentError

    parser = _parser()
    rest = [_underscored(argument) for argument in arguments]
    flags = [a[2:].partition("=")[0] for a in rest if a.startswith("--") and a.partition("=")[0] not in OWN]
    check_keys(flags, "command line")
    file = rest[0] if rest and not rest[0].startswith("-") else None
    given = _read(Path(file)) if file is not None else {}
    options = rest[1:] if file is not None else rest
    wants_print = "--print-config" in options
    options = [option for option in options if option != "--print-config"]

    def build(content: dict[str, Any]) -> Any:
        parsed = parser.parse_args(options, namespace=parser.parse_object(content, defaults=True) if content else None)
        return parser.instantiate(parsed)

    try:
        built = build(given)
        if built.preset is not None:
            explicit = {*flags, *(key for key, _ in flat(given))}
            sizes = [built.train.batch_size] if "train.batch_size" in explicit else []
            if "train.gradient_accumulation" in explicit:
                sizes = []  # what is given goes over the preset, whatever a step then has
            built = build(_merged(run_preset(built.preset, *sizes), given))
    except ArgumentError as error:
        raise UserError(_sentence(str(error))) from error
    config = RunConfig(**{key: getattr(built, key) for key in as_dict(RunConfig())})
    if wants_print:
        sys.stdout.write(yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True))
        return None
    if built.out is None:
        raise UserError("run needs a folder to write to: add --out FOLDER")
    return config, Path(built.out)


def run(rest: Sequence[str]) -> int:
    """Run the command with its arguments and return its exit code."""
    parsed = parse_run(rest)
    return 0 if parsed is None else run_config(*parsed)


def run_config(config: RunConfig, out: Path) -> int:
    """Run the main job in the folder `out`, and print its summary."""
    from ks_lottery.recipes.run import run as run_recipe
    from ks_lottery.recipes.summary import summary_sections
    from ks_lottery.report.screen import Screen

    screen = Screen(total=0)
    summary = run_recipe(config, out, screen)
    screen.say("")
    screen.show(summary_sections(summary, summary["tickets"], str(out)))
    return 0


def _parser() -> ArgumentParser:
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="ks-lottery run [config.yaml]",
        description="The main job on your own model and text. Every field of config.yaml is a flag as well. The defaults are "
        "ours, made for a small model and a short training, and not the paper's: see --preset.",
        exit_on_error=False,
    )
    parser.add_argument("--out", type=str | None, default=None, help="folder of the run")
    parser.add_argument(
        "--preset",
        type=str | None,
        default=None,
        help=f"{'; '.join(f'{name}: {said}' for name, said in PRESETS.items())}. File and flags go over it",
    )
    parser.add_argument("--print-config", action="store_true", help="print the config that would run, and stop")
    parser.add_class_arguments(RunConfig, None)
    return parser


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return nested values, with those of `over` in place of those of `under`."""
    both = {**under, **over}
    return {
        key: _merged(under[key], value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
        for key, value in both.items()
    }


def _underscored(argument: str) -> str:
    if not argument.startswith("--") or argument in OWN:
        return argument
    name, equals, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"config file {file} does not exist") from error
    except UnicodeDecodeError as error:
        raise UserError(f"config file {file} is not UTF-8") from error
    except yaml.YAMLError as error:
        raise UserError(f"config file {file} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"config file {file} holds no keys")
    check_keys([key for key, _ in flat(content)], str(file))
    return content


def _sentence(message: str) -> str:
    """Bring an error of the parser, which has several lines, onto one."""
    return re.sub(r"\s+", " ", message).strip()
