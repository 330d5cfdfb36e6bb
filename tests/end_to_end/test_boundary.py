"""The real program at its edges: streams that are closed, full or of another encoding, signals at any time, and faults."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = f"{sys.executable} -m ks_lottery"


def shell(line: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``K`` is the program."""
    return subprocess.run(
        ["bash", "-c", line.replace("K ", f"{PROGRAM} ")],
        capture_output=True, check=False, timeout=120, env={**os.environ, **more},
    )  # fmt: skip


def is_one_line(text: bytes) -> bool:
    """Say whether a text is one line of the program, without what acts on a terminal."""
    lines = text.decode("utf-8").splitlines()
    return len(lines) == 1 and lines[0].startswith("ks-lottery: ") and lines[0].isprintable()


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("command", ["--help", "--version", "run --help", "select --print-config"])
@pytest.mark.parametrize(
    ("output", "problem"),
    [(">&-", b"closed"), (">/dev/full", b"standard output cannot be written, since no space is left")],
)
def test_a_closed_or_full_output_is_one_line(command, output, problem, buffered):
    done = shell(f"K {command} {output}", PYTHONUNBUFFERED=buffered)
    assert done.returncode == 2
    assert is_one_line(done.stderr)
    assert problem in done.stderr


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("command", ["--version", "run --help"])
def test_a_reader_that_went_away_gets_no_line_and_the_exit_code_is_no_verdict(command, buffered):
    done = shell(f"( sleep 0.1; K {command}; echo $? >&2 ) | true", PYTHONUNBUFFERED=buffered)
    assert done.stderr == b"141\n"


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_closed_or_full_error_stream_changes_nothing_else(streams):
    assert shell(f"K --version {streams}").returncode == 0
    assert shell(f"K --version {streams}").stdout.startswith(b"ks-lottery ")
    assert shell(f"K slect {streams}").returncode == 2


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    """Otherwise what a library writes to standard error goes into the file."""
    code = (
        "import os, sys\n"
        "from ks_lottery.cli.streams import prepare\n"
        "assert not prepare()\n"
        f"assert os.open({str(tmp_path / 'x')!r}, os.O_CREAT | os.O_WRONLY) > 2\n"
    )
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "$0" <&- >&- 2>&-', code], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}]
)
def test_characters_that_an_encoding_lacks_are_escaped(encoding, tmp_path):
    import yaml

    done = shell("K select s --out 'é€😀' --print-config", **encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert yaml.safe_load(done.stdout.decode("ascii"))["out"] == "é€😀"
    done = shell("K 'é😀'", **encoding)
    assert done.returncode == 2
    assert done.stderr.startswith(rb"ks-lottery: unknown command '\u00e9\ud83d\ude00'")


def test_json_with_escapes_is_json():
    import json

    code = "from ks_lottery.cli.streams import prepare, write; prepare(); write('[\"é€😀\"]')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert json.loads(done.stdout.decode("ascii")) == ["é€😀"]


@pytest.mark.parametrize(
    "text", ["\x1b[31mX", "a\rb", "\x07", "\x9b2J", "\u202ex", "\u2066y", "\x7f", os.fsdecode(b"\xff")]
)
def test_nothing_typed_reaches_the_terminal_raw(text, tmp_path):
    for words in ([text], ["export", text, "--to", "peft", "--out", "o"], ["select", "s", "--out", "t", "--by", text],
                  ["run", text, "--out", "x"], ["select", "s", "--out", "t", f"--{text}"]):  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "ks_lottery", *words], capture_output=True, check=False)
        assert done.returncode == 2
        assert is_one_line(done.stderr), done.stderr


WRITES = """
import sys
from ks_lottery.cli.streams import prepare, write
prepare()
write({text!r} + "\\n")
"""


@pytest.mark.parametrize("text", ["\x1b[31mX", "a\rb", "\x07", "\u202ex", "\x9b"])
def test_data_is_escaped_on_a_terminal_and_kept_in_a_pipe(text):
    code = WRITES.format(text=text)
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert piped.stdout.decode() == f"{text}\n"
    above, below = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=below)
    os.close(below)
    shown = os.read(above, 1000).decode()
    assert process.wait() == 0
    os.close(above)
    assert shown.removesuffix("\r\n").isprintable()


SIGNALLED = """
import os, runpy, signal, sys

class Signals:
    def find_spec(self, name, *rest):
        if name == {module!r} and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
sys.meta_path.insert(0, Signals())
sys.argv = ["ks-lottery", *{words!r}]
runpy.run_module("ks_lottery", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module",
    ["ks_lottery.cli.streams", "ks_lottery.cli.main", "ks_lottery.cli.commands", "ks_lottery.config.fields", "argparse",
     "ks_lottery.cli.export", "numpy", "torch"],
)  # fmt: skip
def test_a_signal_while_modules_are_imported_ends_with_one_line(module, number, tmp_path):
    patch = tmp_path / "patch.safetensors"
    patch.write_bytes(b"x")
    words = ["export", str(tmp_path), "--to", "peft", "--out", str(tmp_path / "out")]
    if module in {"torch", "numpy"}:
        words = ["scan", str(tmp_path), str(tmp_path)]
    code = SIGNALLED.format(module=module, number=int(number), words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 128 + number
    assert done.stderr == "ks-lottery: stopped\n"
    assert not (tmp_path / "out").exists()


UNWINDS = """
import os, signal, sys, time
from pathlib import Path
import ks_lottery.cli.main as command
from ks_lottery.store.files import new_folder, replacing

class Module:
    @staticmethod
    def run(settings):
        with new_folder(Path("folder")) as folder, replacing(Path("file")) as file:
            (folder / "x").write_text("x")
            file.write_text("x")
            {act}
            time.sleep(30)

signal.signal(signal.SIGINT, signal.default_int_handler)
command.read_settings = lambda name, words: object()
command.import_module = lambda name: Module
sys.argv = ["ks-lottery", "export"]
from ks_lottery.__main__ import main
sys.exit(main())
"""

FINALIZER = """
            class Dies:
                def __del__(self):
                    os.kill(os.getpid(), signal.SIGINT)
            Dies()
"""
"""A signal that Python can only ignore where it comes."""

TURNED = """
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except KeyboardInterrupt as error:
                raise ImportError("numpy.core.multiarray failed to import") from error
"""
"""A signal that a library turns into an error of its own."""


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", 130), ("os.kill(os.getpid(), signal.SIGTERM)", 143),
        (FINALIZER.strip(), 130), (TURNED.strip(), 130),
    ],
)  # fmt: skip
def test_a_stopped_command_leaves_no_temporary_file(act, code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", UNWINDS.format(act=act)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "ks-lottery: stopped\n")
    assert list(tmp_path.iterdir()) == []


FAILS = """
import sys, warnings
import ks_lottery.cli.main as command

class Module:
    @staticmethod
    def run(settings):
        {act}

command.read_settings = lambda name, words: object()
command.import_module = lambda name: Module
sys.argv = ["ks-lottery", "export"]
from ks_lottery.__main__ import main
sys.exit(main())
"""


def failing(act: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    code = FAILS.format(act=act)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env={**os.environ, **more}, timeout=120
    )


@pytest.mark.parametrize(
    ("act", "named"),
    [
        ("open('/nowhere/\\x1b[31m')", rb"/nowhere/\x1b[31m does not exist"),
        ("open('/etc/passwd/x')", b"/etc/passwd/x is inside of something that is no folder"),
        ("open('/etc')", b"/etc is a folder"),
        ("open('x' * 5000)", b"xxx... has a name that is too long"),
        ("raise OSError(28, 'No space left on device', '/a/b')", b"/a/b cannot be written, since no space is left"),
        ("open('a' + chr(0))", b"NUL character"),
        ("eval('f(' * 150 + ')' * 150) if False else (lambda f: f(f))(lambda f: f(f))", b"nested too deeply"),
        ("bytearray(10**15)", b"not enough memory"),
        ("import torch; torch.empty(10**15)", b"not enough memory"),
        ("import numpy; numpy.empty(10**15)", b"not enough memory"),
        ("b'\\xff'.decode()", b"is not utf-8"),
        ("chr(0xd800).encode()", b"characters that cannot be written"),
        ("float(10**400)", b"too large to compute with"),
        ("import struct; struct.unpack('<I', b'a')", b"a file is damaged"),
        ("import zlib; zlib.decompress(b'abc')", b"a file is damaged"),
        ("import lzma; lzma.decompress(b'abc')", b"a file is damaged"),
        ("import gzip; gzip.decompress(b'abc')", b"a file is damaged"),
        ("import json; json.loads('[')", b"a file is damaged"),
        ("import yaml; yaml.safe_load('[')", b"a file is damaged"),
        ("import safetensors; safetensors.deserialize(b'abc')", b"a file is damaged"),
        ("import pyarrow as pa; pa.ipc.open_file(b'abc')", b"a file is damaged"),
        ("from lxml import etree; etree.fromstring('<a')", b"a file is damaged"),
        ("import not_there_at_all", b"cannot be imported"),
    ],
)  # fmt: skip
def test_what_the_system_and_parsers_throw_is_one_line(act, named):
    done = failing(act)
    assert done.returncode == 2, done.stderr
    assert is_one_line(done.stderr), done.stderr
    assert named in done.stderr


def test_a_fault_of_ours_says_so_and_where_to_report_it():
    done = failing("{}['\\x1b[2J']")
    assert done.returncode == 70
    assert is_one_line(done.stderr)
    for words in (b"a fault of ks-lottery", b"KeyError", b"KS_LOTTERY_DEBUG=1", b"report it", rb"\x1b[2J"):
        assert words in done.stderr


@pytest.mark.parametrize(("act", "code"), [("{}['\\x1b']", 70), ("open('/nowhere/x')", 2)])
def test_the_traceback_is_there_on_request(act, code):
    done = failing(act, KS_LOTTERY_DEBUG="1")
    assert done.returncode == code
    assert done.stderr.startswith(b"Traceback (most recent call last):")
    assert done.stderr.splitlines()[-1].startswith(b"ks-lottery: ")
    assert b"\x1b" not in done.stderr
    assert b"Traceback" not in failing(act, KS_LOTTERY_DEBUG="0").stderr


def test_a_warning_is_one_line():
    done = failing("warnings.warn('a\\nb\\x1b[2J'); return 0")
    assert done.returncode == 0
    assert done.stderr == b"ks-lottery: warning: a b\\x1b[2J\n"


def test_a_full_output_in_the_middle_of_a_command():
    act = "from ks_lottery.report.screen import Screen; Screen().say('x' * 100_000); return 0"
    code = FAILS.format(act=act)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert is_one_line(done.stderr)


def test_a_reader_that_went_away_in_the_middle_of_a_command():
    act = "from ks_lottery.report.screen import Screen; Screen().say('x' * 100_000); return 1"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", FAILS.format(act=act)], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_config_that_nothing_is_written_to_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = subprocess.run(
        [sys.executable, "-m", "ks_lottery", "run", "--config", str(tmp_path / "pipe")],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"is not a regular file" in done.stderr


def test_translate_with_closed_or_broken_input_is_one_line(tmp_path):
    """The run is opened first; what standard input is like is found out before that."""
    for line in ("K translate nowhere <&-", "printf '\\xff\\xfe' | K translate nowhere"):
        done = shell(line, PYTHONIOENCODING="utf-8:strict")
        assert done.returncode == 2
        assert is_one_line(done.stderr), done.stderr


LONG = "x" * 5000


@pytest.mark.parametrize(
    "words",
    [["inspect", LONG], ["scan", LONG, LONG], ["translate", LONG, "a"], ["overlap", LONG, LONG], ["explain", LONG],
     ["run", LONG, "--out", "o"], ["run", "--text.train", LONG, "--out", "o"], ["export", LONG, "--to", "peft", "--out", "o"],
     ["select", LONG, "--out", "o"], ["evaluate", LONG, "--data", LONG], ["certify", LONG, "--tuned", LONG, "--data", LONG],
     ["tune", LONG, "--train", LONG], ["transfer", LONG, LONG, "--tickets", LONG, "--out", "o"], ["demo", "--out", LONG],
     [LONG], ["run", f"--{LONG}"]],
    ids=lambda words: " ".join(words)[:20],
)  # fmt: skip
def test_a_name_that_is_too_long_is_one_line(words, capfd):
    from ks_lottery.cli.main import main

    assert main(words) == 2
    shown = capfd.readouterr().err
    assert is_one_line(shown.encode())
    assert len(shown) < 2200


def test_the_entry_point_is_the_program():
    import tomllib

    from ks_lottery import __main__
    from ks_lottery.cli.program import program

    content = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert content["project"]["scripts"] == {"ks-lottery": "ks_lottery.__main__:main"}
    assert __main__.main is program


TOKENS = ("\x1b[31mX", "a\rb", "\x07", "\u202ez", "\x9b2J")


@pytest.fixture(scope="module")
def hostile_models(tied_model, tmp_path_factory) -> tuple[Path, Path]:
    """A model with tokens that act on a terminal, and another one in which their rows moved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tied_model), AutoTokenizer.from_pretrained(tied_model)
    tokenizer.add_tokens(list(TOKENS))
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    folders = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("moved")
    for folder in folders:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with torch.no_grad():
            model.get_input_embeddings().weight[-len(TOKENS) :] += 1.0
    return folders


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_tokens_of_a_model_reach_no_terminal_raw(hostile_models, more):
    above, below = pty.openpty()
    words = ["scan", *map(str, hostile_models), *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "ks_lottery", *words],
        stdout=below, stderr=below, env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip
    os.close(below)
    shown = b""
    try:
        while part := os.read(above, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0
    text = re.sub(r"\x1b\[(\?25[lh]|[01]m|2K|1A)", "", shown.decode())  # of bars and heads
    assert r"\x1b" in text, text
    assert not [c for c in text if not c.isprintable() and c not in "\r\n"]
    assert r"a\rb" in text or r"a\\rb" in text
