"""Every command: its flags, its YAML keys and the keywords of the library are the same settings with the same defaults."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import subprocess
import sys

import pytest
import yaml

import ks_lottery
from ks_lottery.certification.agree_spec import AgreeSpec
from ks_lottery.certification.spec import CertifySpec
from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.completion import script_of
from ks_lottery.cli.main import main, program_help
from ks_lottery.cli.options import build_parser, flag_of, read_settings
from ks_lottery.config.fields import settings_of
from ks_lottery.config.groups import TextOptions, TextSource
from ks_lottery.config.settings import CertifyConfig, RunConfig
from ks_lottery.config.values import values_of
from ks_lottery.corpus.batches import encode
from ks_lottery.evaluation.comparison import compare
from ks_lottery.evaluation.evaluation_spec import EvaluationSpec
from ks_lottery.evaluation.next_token import predict
from ks_lottery.evaluation.predictions import Predictions
from ks_lottery.evaluation.scores import score
from ks_lottery.evaluation.translate import translate
from ks_lottery.evaluation.where_spec import WhereSpec
from ks_lottery.models.export import to_merged, to_peft
from ks_lottery.models.export_gguf import to_gguf, to_gguf_lora
from ks_lottery.models.export_lora import to_lora
from ks_lottery.models.formats import export
from ks_lottery.models.load import load_model
from ks_lottery.recipes.demo import demo_config
from ks_lottery.recipes.examination import examine
from ks_lottery.recipes.live_page import live_page
from ks_lottery.recipes.page import write_report
from ks_lottery.recipes.store_report import prunable
from ks_lottery.recipes.translation import translate_sentences
from ks_lottery.tickets.basis import basis_of
from ks_lottery.tickets.compare import Compared
from ks_lottery.tickets.saved import alike_saved, explain_saved, overlap_saved
from ks_lottery.tuning.transfer import transfer
from ks_lottery.tuning.tune_spec import TuneSpec

LIBRARY = {
    "demo": [demo_config],
    "run": [RunConfig],
    "inspect": [ks_lottery.inspect, TextSource],
    "tune": [ks_lottery.tune, TuneSpec, TextSource, encode, load_model],
    "transfer": [transfer],
    "scan": [ks_lottery.scan, Compared.as_dict, Compared.sections],
    "select": [ks_lottery.select, basis_of, TextSource],
    "overlap": [overlap_saved],
    "explain": [ks_lottery.explain, explain_saved, TextSource],
    "alike": [ks_lottery.compare_tunings, alike_saved],
    "evaluate": [
        ks_lottery.evaluate,
        EvaluationSpec,
        TextSource,
        translate,
        score,
        compare,
        predict,
        Predictions.interval,
    ],
    "where": [ks_lottery.where, WhereSpec, TextSource, score, Predictions.interval],
    "certify": [ks_lottery.certify, CertifySpec, CertifyConfig, TextSource],
    "agree": [ks_lottery.agree, AgreeSpec, TextSource],
    "report": [write_report],
    "watch": [live_page],
    "reproduce": [ks_lottery.reproduce],
    "store": [prunable],
    "translate": [translate_sentences],
    "export": [export, to_peft, to_lora, to_merged, to_gguf, to_gguf_lora],
    "push": [ks_lottery.push],
    "doctor": [examine],
    "completion": [script_of],
}
"""Command to the calls and the settings classes that do its work in the library."""

OWN = {
    ("evaluate", "dataset_split"),
    ("where", "dataset_split"),
    ("certify", "dataset_split"),
    ("agree", "dataset_split"),
}
"""Defaults of a command alone: the text that it measures on is the test split of a dataset."""

NARROWER = {(score, "metrics"), (compare, "metrics")}
"""Calls that know only the metrics of translations."""


def defaults_of(call) -> dict[str, object]:
    """Return the defaults of a function's keywords or of a dataclass's fields, those of its sections with dotted names."""
    if dataclasses.is_dataclass(call):
        return {
            item.name: item.default for item in settings_of_library(call) if item.default is not dataclasses.MISSING
        }
    empty = inspect.Parameter.empty
    return {p.name: p.default for p in inspect.signature(call).parameters.values() if p.default is not empty}


@dataclasses.dataclass
class Default:
    name: str
    default: object


def settings_of_library(cls):
    for item in dataclasses.fields(cls):
        value = item.default
        if item.default_factory is not dataclasses.MISSING:
            value = item.default_factory()
        if dataclasses.is_dataclass(value):
            yield from (
                Default(f"{item.name}.{inner.name}", inner.default) for inner in settings_of_library(type(value))
            )
        else:
            yield Default(item.name, value)


def plain(value):
    """Return a value with no difference between tuple and list, nor between empty values and None."""
    value = list(value) if isinstance(value, tuple) else value
    return None if value in ([], {}) else value


def printed(capfd, command, *words) -> str:
    capfd.readouterr()
    assert main([command, *words, "--print-config"]) == 0
    return capfd.readouterr().out


def flat(content, listed, prefix=""):
    values = {}
    for key, value in content.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in listed:
            values |= flat(value, listed, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def example(command) -> list[str]:
    return shlex.split(COMMANDS[command].example)[1:]


@pytest.mark.parametrize("command", COMMANDS)
def test_flag_file_and_library_have_one_default(command, capfd):
    listed = {item.name: item for item in settings_of(COMMANDS[command].settings)}
    in_file = flat(yaml.safe_load(printed(capfd, command)), listed)
    assert list(in_file) == list(listed)
    calls = {call: defaults_of(call) for call in LIBRARY[command]}
    compared = 0
    for name, item in listed.items():
        default = None if item.required else item.default
        assert plain(in_file[name]) == plain(default), name
        for call, defaults in calls.items():
            key = item.parameter or name
            if key in defaults and (command, name) not in OWN and (call, key) not in NARROWER:
                assert plain(defaults[key]) == plain(default), (call, name)
                compared += 1
    assert compared or command in {"doctor", "completion"}  # which have no setting with a default but how they print


@pytest.mark.parametrize("command", COMMANDS)
def test_a_printed_config_gives_the_same_settings(command, capfd, tmp_path):
    words = example(command)
    file = tmp_path / "config.yaml"
    file.write_text(printed(capfd, command, *words), encoding="utf-8")
    wanted = read_settings(command, words)
    assert read_settings(command, ["--config", str(file)]) == wanted
    assert values_of(wanted) != {item.name: item.default for item in settings_of(type(wanted))}
    assert printed(capfd, command, "--config", str(file)) == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_the_help_is_a_command_that_works(command, capfd):
    assert COMMANDS[command].example.split()[0] == command
    assert read_settings(command, example(command)) is not None
    assert main([command, "--help"]) == 0
    shown = capfd.readouterr().out
    assert shown.startswith(f"usage: ks-lottery {command} ")
    assert shown.endswith(f"example:\n  ks-lottery {COMMANDS[command].example}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_says_what_it_is_and_has_its_flag(command):
    parser = build_parser(command)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    for item in settings_of(COMMANDS[command].settings):
        assert item.help.endswith("."), item.name
        assert item.positional or {item.flag, flag_of(item)} <= flags


def test_flags_go_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("top_k: 7\nby: kl\n", encoding="utf-8")
    settings = read_settings("select", ["s.parquet", "--out", "t.json", "--config", str(file), "--by", "cos"])
    assert (settings.top_k, settings.by, settings.seed) == (7, "cos", 0)
    # A flag of settings that exclude each other takes the place of the file's.
    settings = read_settings("select", ["s.parquet", "--out", "t.json", "--config", str(file), "--alpha", "0.1"])
    assert (settings.top_k, settings.alpha) == (None, 0.1)


def test_a_switch_that_the_file_sets_can_be_switched_back(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("clean: false\njson: true\n", encoding="utf-8")
    settings = read_settings("inspect", ["a.tsv", "--config", str(file), "--clean", "--no-json"])
    assert (settings.clean, settings.json) == (True, False)
    assert read_settings("inspect", ["a.tsv", "--no-clean"]).clean is False


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("tpo_k: 3\n", "unknown config key 'tpo_k'; did you mean top_k?"),
        ("by: kll\n", "by is 'kll', but must be one of ks, cos,"),
        ("by: kll\n", "; did you mean kl?"),
        ("top_k: many\n", "top_k is 'many', but must be a whole number"),
        ("top_k: 1.5\n", "top_k is 1.5, but must be a whole number"),
        ("interval: [0.1]\n", "interval is [0.1], but must be 2 values"),
        ("seed: true\n", "seed is True, but must be a whole number"),
        ("scan:\n  a: 1\n", "unknown config key 'scan.a'"),
        ("- 1\n", "holds no keys"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_wrong_file_gets_one_line(content, named, tmp_path, capfd):
    file = tmp_path / "c.yaml"
    file.write_text(content, encoding="utf-8")
    assert main(["select", "s.parquet", "--out", "t.json", "--config", str(file)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line
    assert str(file) in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["select", "s", "--out", "t", "--top", "3"], "select has no flag --top; did you mean --top-k?"),
        (["select", "s", "--out", "t", "--by", "kll"], "--by is 'kll', but must be one of"),
        (["select", "s", "--out", "t", "--top-k", "x"], "--top-k is 'x', but must be a whole number"),
        (["select", "s"], "select needs --out (see ks-lottery select --help)"),
        (["select", "--out", "t"], "select needs SCAN (see ks-lottery select --help)"),
        (["select", "s", "two", "--out", "t"], "unrecognized argument 'two'"),
        (["select", "s", "--out"], "expected one argument"),
        (["evaluate", "m", "--data", "t", "--generation", "x"], "--generation takes NAME=VALUE, not 'x'"),
        (
            ["evaluate", "m", "--data", "t", "--patch", "a", "--adapter", "b"],
            "--adapter and --patch exclude each other: give one of them",
        ),
        (["slect"], "unknown command 'slect'; did you mean select?"),
        (["foo"], "unknown command 'foo' (see ks-lottery --help)"),
        (["select", "s", "--out", "t", "--zzz"], "select has no flag --zzz (see ks-lottery select --help)"),
        (["translate", "r", "a", " "], "SENTENCE: sentence 2 is empty"),
        (["translate", "r", ""], "SENTENCE: sentence 1 is empty"),
        (["demo", "--target", "de"], "--target is --target-language now"),
        (["inspect", "t", "--keep-all"], "--keep-all is --no-clean now"),
        (["select", "s", "--data", "t"], "--data is --corpus now"),
        (["alike", "a", "b", "--alpha", "0.1"], "--alpha is --level now"),
        (["alike", "a", "b", "--alpha=0.1"], "--alpha is --level now"),
        (["export", "p", "adapter", "--to", "peft"], "adapter needs a flag: give it as --out adapter"),
    ],
)
def test_a_wrong_command_line_gets_one_line(words, named, capfd):
    assert main(words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line


def test_an_old_flag_is_refused_with_one_that_exists():
    for name, command in COMMANDS.items():
        flags = {flag for action in build_parser(name)._actions for flag in action.option_strings}
        for old, new in command.renamed.items():
            assert new in flags, (name, new)
            assert old not in flags, (name, old)


def test_transfers_are_certified_where_no_patch_is_given():
    settings = read_settings("certify", ["m", "--tuned", "e", "--data", "t.tsv"])
    assert settings.transfer is CertifySpec().transfer is False
    assert CertifySpec().transfers
    assert not CertifySpec(small={"partial": None}).transfers
    assert CertifySpec(small={"partial": None}, transfer=True).transfers


def test_one_vocabulary():
    """A path or text that several commands take has one name, and each text has the same options."""
    names = {command: {item.name for item in settings_of(COMMANDS[command].settings)} for command in COMMANDS}
    options = {item.name for item in settings_of(TextOptions)}
    for command in ("inspect", "tune", "select", "explain", "evaluate", "where", "certify", "agree"):
        assert options <= names[command], command
    assert {command for command in names if "data" in names[command]} == {
        "evaluate", "where", "certify", "agree", "reproduce",
    }  # fmt: skip
    assert {command for command in names if "corpus" in names[command]} == {"tune", "select", "explain"}
    without = {"inspect", "overlap", "store", "translate", "watch", "push", "doctor", "completion"}
    assert {command for command in names if "out" not in names[command]} == without
    first = {
        name: next(i.name for i in settings_of(COMMANDS[name].settings) if i.positional)
        for name in ("tune", "transfer")
    }
    assert set(first.values()) == {"model"}


def test_the_help_of_the_program_lists_commands_by_task_and_ends_with_two_examples(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = program_help().splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and "ks-lottery" not in line] == list(COMMANDS)
    assert lines[-3] == "examples:"
    assert all(line.startswith("  ks-lottery ") for line in lines[-2:])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_fits_the_terminal(width, monkeypatch, capfd):
    """But for examples, usage lines and the values of a flag, which are not broken."""
    monkeypatch.setenv("COLUMNS", str(width))
    for words in ([], *([command] for command in COMMANDS)):
        capfd.readouterr()
        assert main([*words, "--help"]) == 0
        lines = capfd.readouterr().out.splitlines()
        long = [
            line for line in lines if len(line) > width and not line.lstrip().startswith(("ks-lottery", "usage:", "-"))
        ]
        assert long == [], (words, width)


def test_the_usage_says_what_goes_without_a_flag_and_help_says_every_default(monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "200")
    said = {}
    for command in ("translate", "certify", "demo", "inspect"):
        capfd.readouterr()
        assert main([command, "--help"]) == 0
        said[command] = capfd.readouterr().out
    assert said["translate"].startswith("usage: ks-lottery translate MODEL [SENTENCE ...] [flags]\n")
    assert said["certify"].startswith("usage: ks-lottery certify MODEL --tuned DIR --data TEXT [flags]\n")
    assert "Seed for all random choices (default: 0)" in said["demo"]
    assert "Size of the demo. default: about 6 minutes; smoke: 1 to 2 minutes\n" in said["demo"]
    assert "Keep all pairs. Without this flag, the text is cleaned as in a run\n" in said["inspect"]


def test_each_setting_that_a_flag_switches_off_says_what_the_flag_does():
    for name, command in COMMANDS.items():
        for item in settings_of(command.settings):
            shows_off = flag_of(item) != item.flag
            assert shows_off == bool(item.off_help) or "." in item.name, (name, item.name)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys\nfrom ks_lottery.cli.main import main\n"
        f"main([{command!r}, '--help'])\n"
        "heavy = {'torch', 'transformers', 'numpy', 'scipy', 'pyarrow', 'rich', 'datasets', 'numba', 'yaml'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("call", "setting", "near"),
    [
        ("tune", "learning_rat", "learning_rate"),
        ("tune", "patienc", "patience"),
        ("evaluate", "num_beam", "num_beams"),
        ("certify", "alpha", "alphas"),
        ("certify", "epsilo", "epsilon"),
        ("agree", "fail_under", "fail_below"),
        ("scan", "unit", "units"),
        ("select", "topk", "top_k"),
        ("inspect", "exampels", "examples"),
        ("explain", "token", "tokens"),
        ("compare_tunings", "levels", "level"),
        ("to_peft", "forc", "force"),
        ("read_corpus", "limt", "limit"),
        ("keep_useful", "min_word", "min_words"),
        ("open_checkpoint", "nam", "name"),
        ("reproduce", "seed", "seeds"),
    ],
)
def test_an_unknown_setting_of_a_call_names_the_nearest(call, setting, near):
    arguments = {
        "reproduce": 1,
        "certify": 4,
        "agree": 3,
        "inspect": 1,
        "select": 1,
        "read_corpus": 1,
        "keep_useful": 1,
        "open_checkpoint": 0,
    }.get(call, 2)
    message = rf"^{call}: unknown setting `{setting}`; did you mean `{near}`\?$"
    with pytest.raises(ks_lottery.UserError, match=message):
        getattr(ks_lottery, call)(*["x"] * arguments, **{setting: 1})


def test_a_user_error_is_a_value_error():
    with pytest.raises(ValueError, match="sie is 0") as caught:
        raise ks_lottery.UserError("sie is\n 0")
    assert str(caught.value) == "sie is 0"
