"""Every command and snippet that README and docs show: executed on a tiny model, or listed with the reason why not.

The quick tests parse each command and execute what needs little; the slow one executes each page in its order.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from page_inputs import ALL, NEEDS, Inputs
from pages import BLOCKS, CALLS, EXECUTED, PAGES, PYTHON, README, ROOT, SHOWN, blocks_of, inline

from ks_lottery import RowPatch, Tickets
from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.main import main
from ks_lottery.cli.options import build_parser, read_settings
from ks_lottery.store.objects import ObjectStore

NOT_EXECUTED = {
    r"make .*": "sets up an environment of its own; .ci/run gives the targets, and they are in the Makefile (tested)",
    r"\. \.venv/bin/activate": "belongs to the shell",
    r"pip install .*": "needs a package index; the extra is in pyproject.toml (tested)",
    r"python benchmarks/.*": "takes hours; the script is there (tested)",
    r"torchrun .*": "needs several GPUs; tests/parity/test_processes.py starts two processes on a CPU",
    r"ks-lottery demo .*": "fetches 238 MB; tests/end_to_end/test_gemma.py makes it of a tiny Gemma, and .ci/run the demo",
    r"ks-lottery watch .*": "serves until Ctrl-C; tests/unit/test_live_page.py asks it",
    r"ks-lottery push (?!.*--dry-run).*": "needs a login at the hub; tests/unit/test_hub_upload.py pushes to a local server",
    r"ks-lottery reproduce .* --workers .*": "starts Ray; tests/end_to_end/test_cluster.py",
    r"ks-lottery reproduce .* --processes .*": "needs several GPUs; tests/parity/test_process_group.py",
    r"ks-lottery export .* --to gguf .*": "fetches llama.cpp's converter; tests/parity/test_export_gguf.py and tests/slow",
    r"ks-lottery reproduce .*text/(train|test|devtest).*": "takes hours; tests/end_to_end/test_results.py reads its cells",
    r"ks-lottery agree asset:.*": "takes an hour; tests/end_to_end/test_agree_command.py",
}
"""Commands that no test executes here, as a pattern of the whole line, and why. Their arguments are parsed all the same."""

PYTHON_NOT_EXECUTED = {"asset:gemma3-270m": "fetches 238 MB; tests/end_to_end/test_gemma.py"}
"""What a block of Python contains that no test executes here, and why. It is compiled all the same."""

TRANSLATE = ["--num-beams", "1", "--max-new-tokens", "4"]
BOOTSTRAP = ["--resamples", "100"]
SMALL = {
    "run": [
        "--model.name", "MODEL", "--text.train", "pairs.tsv", "--train.learning-rate", "0.2", "--train.epochs", "1",
        "--train.batch-size", "8", "--train.gradient-accumulation", "1", "--text.max-train", "48", "--text.max-test", "24",
        "--evaluate.translations", "2", "--evaluate.num-beams", "1", "--evaluate.max-new-tokens", "4",
        "--evaluate.resamples", "100", "--evaluate.where-sentences", "5", "--certify.alphas", "[0.5, 1.0]",
        "--text.min-pairs", "50",
    ],
    "tune": ["--epochs", "1", "--learning-rate", "0.05", "--limit", "64"],
    "evaluate": ["--metrics", "chrf", "accuracy", "--translations", "4", "--limit", "40", *TRANSLATE, *BOOTSTRAP],
    "where": [*BOOTSTRAP, "--max-new-tokens", "4"],
    "agree": ["--max-new-tokens", "4"],
    "translate": TRANSLATE,
    "reproduce": ["--model", "MODEL", "--train", "pairs.tsv", "--scale", "smoke", "--seeds", "1", "--sizes", "4"],
}  # fmt: skip
"""Flags that are added to a command unless it has them, so that it is done in seconds; spBLEU would fetch a model."""

STANDS_FOR = {"asset:smollm2-135m-instruct": "MODEL"}
"""Word of a page to what it is replaced by."""

FAILS_ON_PURPOSE = ("--fail-above", "--fail-below")
"""Flags with which the exit code 1 is an answer."""

QUICK = ("README.md", "docs/python.md")
"""Pages whose Python needs none of their commands, and is executed by a quick test."""


def reason_for(call) -> str | None:
    """Return why a command is not executed here."""
    return next(
        (why for pattern, why in NOT_EXECUTED.items() if re.fullmatch(pattern, call.text.replace("'", ""))), None
    )


def is_executed(block) -> bool:
    return not any(part in block.code for part in PYTHON_NOT_EXECUTED)


def test_every_block_is_of_a_kind_that_is_known_here():
    kinds = {(block.page, block.language) for block in BLOCKS}
    assert {language for _, language in kinds} == {*SHOWN, *EXECUTED}, kinds


def test_every_command_is_executed_or_listed():
    for call in CALLS:
        assert call.words[0] == "ks-lottery" or reason_for(call), (
            f"{call.page}: {call.text}: neither executed nor listed"
        )
    unused = [p for p in NOT_EXECUTED if not any(re.fullmatch(p, call.text.replace("'", "")) for call in CALLS)]
    assert not unused
    assert not [part for part in PYTHON_NOT_EXECUTED if not any(part in block.code for block in PYTHON)]
    assert set(NEEDS) <= {page.relative_to(ROOT).as_posix() for page in PAGES}
    shown = {call.arguments[0] for call in CALLS if call.arguments}
    assert set(COMMANDS) <= shown


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_every_command_is_parsed(page, tmp_path, monkeypatch, capsys):
    """By the parser and the settings of the real command line, those that are not executed too."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("seed: 1\n", encoding="utf-8")
    for block in blocks_of(page):
        for call in block.calls() if block.language == "sh" else ():
            words = call.arguments
            if words and not words[0].startswith("-"):
                capsys.readouterr()
                settings = read_settings(words[0], words[1:])
                assert settings is not None or capsys.readouterr().out, call.text


@pytest.mark.parametrize("page", [page for page in PAGES if inline(page)], ids=lambda page: page.name)
def test_commands_in_the_prose_have_their_flags(page):
    for command, *words in inline(page):
        if not command.startswith("-"):
            known = build_parser(command).format_help()
            for flag in [word for word in words if word.startswith("--")]:
                assert re.search(rf"(?<!\S){re.escape(flag)}(?![\w-])", known), (command, flag)


def test_what_else_the_pages_name_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for call in CALLS:
        if call.words[0] == "make":
            assert re.search(rf"^{call.words[1]}:", makefile, flags=re.MULTILINE), call.text
        if call.words[0] == "python":
            assert (ROOT / call.words[1]).is_file(), call.text
        if call.words[0] == "pip":
            for extra in re.findall(r"\[(\w+)\]", call.text):
                assert re.search(rf"^{extra} = \[", extras, flags=re.MULTILINE), call.text


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.page)
def test_python_compiles_and_names_what_is_public(block):
    import ks_lottery

    compile(block.code, block.page, "exec")
    names = [name for found in re.findall(r"from ks_lottery import (.*)", block.code) for name in found.split(",")]
    names += re.findall(r"\bks_lottery\.(\w+)\(", block.code)
    assert {name.strip() for name in names} <= set(ks_lottery.__all__)


@pytest.fixture(scope="module")
def inputs(narrow_model, text_file, tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("inputs"), narrow_model, text_file)


@pytest.fixture
def opened(monkeypatch):
    """Addresses that a browser was asked to open."""
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda address: not asked.append(address))
    return asked


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KS_LOTTERY_STORE", str(tmp_path / "store"))
    return tmp_path


def given_small(arguments):
    """Return the arguments of a command with what stands for models and with the flags that make it small."""
    command, words = arguments[0], [STANDS_FOR.get(word, word) for word in arguments[1:]]
    if command not in COMMANDS or "--help" in words:
        return arguments
    small, group = SMALL.get(command, []), []
    groups = [group]
    for word in small:
        if word.startswith("--"):
            group = []
            groups.append(group)
        group.append(word)
    file = ["--config"] if command == "run" and words and not words[0].startswith("-") else []
    of_file = {"--model.name", "--text.train"} if file else set()
    added = [word for group in groups if group and not ({group[0]} & {*words, *of_file}) for word in group]
    return [command, *words, *added]


def execute(call, capfd):
    """Execute a command of a page in the working folder, and check its exit code."""
    arguments = given_small(call.arguments)
    if "KEY" in arguments:
        stages, _ = ObjectStore(None).stages()
        arguments = [stages[0].key if word == "KEY" else word for word in arguments]
    capfd.readouterr()
    source = call.stream("<")
    with pytest.MonkeyPatch.context() as patching, ExitStack() as stack:
        if source:
            patching.setattr(sys, "stdin", stack.enter_context(Path(source).open(encoding="utf-8")))
        try:
            code = main(arguments)
        except SystemExit as done:
            code = done.code
    out, error = capfd.readouterr()
    allowed = {0, 1} if set(FAILS_ON_PURPOSE) & set(arguments) else {0}
    assert code in allowed, f"{call.page}: {' '.join(arguments)}\n{error}"
    if call.stream(">"):
        Path(call.stream(">")).write_text(out, encoding="utf-8")


def names_of(page, folder):
    """Return what the Python of a page takes as given."""
    if page != "docs/python.md":
        return {}
    from ks_lottery import load_model

    loaded = load_model(folder / "my-model", dtype="float32", device="cpu")
    return {
        "lm": loaded.lm,
        "tokenizer": loaded.tokenizer,
        "inputs": loaded.tokenizer("The house", return_tensors="pt"),
    }


def execute_python(block, names):
    exec(compile(block.code, block.page, "exec"), names)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("page", QUICK)
def test_python_alone(page, inputs, folder):
    inputs.put("my-model pairs.tsv", folder)
    names = names_of(page, folder)
    for block in PYTHON:
        if block.page == page:
            execute_python(block, names)
    tickets, small, tuned = (names[name] for name in ("tickets", "small", "tuned"))
    assert isinstance(tickets, Tickets)
    assert 0 < len(tickets) == len(small) < len(tuned)
    assert (folder / "adapter" / "adapter_config.json").is_file()
    if page == "docs/python.md":
        assert isinstance(names["transfer"], RowPatch)
        assert [level.alpha for level in names["certificate"].levels][-1] == 1.0
        assert len(names["measured"].hypotheses) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.language in EXECUTED for block in blocks_of(page))],
    ids=lambda page: page.name,
)
def test_a_page_is_executed_in_its_order(page, inputs, folder, opened, capfd):
    name = page.relative_to(ROOT).as_posix()
    inputs.put(NEEDS.get(name, ALL), folder)
    names = names_of(name, folder)
    for block in blocks_of(page):
        if block.language == "python" and is_executed(block):
            execute_python(block, names)
        for call in block.calls() if block.language == "sh" else ():
            if reason_for(call) is None:
                execute(call, capfd)
    wanted = sum("--open" in call.words for call in CALLS if call.page == name and reason_for(call) is None)
    assert len(opened) == wanted


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150
    (code,) = [block.code for block in PYTHON if block.page == "README.md"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
