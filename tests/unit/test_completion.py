"""Completion in a real shell: it reads the script and is asked, as when a user presses the tabulator."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from ks_lottery.cli.commands import COMMANDS
from ks_lottery.cli.main import main
from ks_lottery.cli.options import build_parser
from ks_lottery.config.choices import EXPORTS, SHELLS

ASK = """
source "$1"
shift
ask() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  local name
  name=$(complete -p ks-lottery | sed 's/.*-F \\([^ ]*\\).*/\\1/')
  "$name" ks-lottery "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
  printf '%s\\n' "${COMPREPLY[@]}"
  echo =
}
while IFS= read -r line; do
  IFS=$'\\t' read -r -a words <<< "$line"
  [ "${line: -1}" = $'\\t' ] && words+=("")
  ask "${words[@]}"
done
"""
"""Asks for the completions of the last word of each line of standard input, whose words are separated by tabulators."""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("completion") / "bash"
    done = subprocess.run(
        [sys.executable, "-m", "ks_lottery", "completion", "bash"], capture_output=True, text=True, check=True
    )
    file.write_text(done.stdout, encoding="utf-8")
    return file


def completed(script, lines, folder):
    """Return what bash offers for the last word of each line."""
    text = "".join("\t".join(line) + "\n" for line in lines)
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", str(script)],
        input=text, capture_output=True, text=True, check=True, cwd=folder, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    answers = done.stdout.split("=\n")[:-1]
    assert len(answers) == len(lines)
    return [{word for word in answer.splitlines() if word} for answer in answers]


def test_commands_choices_and_paths(script, tmp_path):
    for name in ("runs", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "pairs.tsv").touch()
    asked = {
        ("ks-lottery", ""): set(COMMANDS),
        ("ks-lottery", "exp"): {"explain", "export"},
        ("ks-lottery", "export", "--to", ""): set(EXPORTS),
        ("ks-lottery", "export", "--to", "g"): {"gguf", "gguf-lora"},
        ("ks-lottery", "export", "runs", "--to", "me"): {"merged"},
        ("ks-lottery", "completion", ""): set(SHELLS),
        ("ks-lottery", "tune", "--train", "pa"): {"pairs.tsv"},
        ("ks-lottery", "run", "--text.train", "pa"): {"pairs.tsv"},
        ("ks-lottery", "run", "--text.clean-nothing"): set(),
        ("ks-lottery", "export", "ru"): {"runs"},
        ("ks-lottery", "export", "--out", ""): {"runs", "other"},  # folders alone
    }
    for (line, wanted), offered in zip(asked.items(), completed(script, list(asked), tmp_path), strict=True):
        assert offered == wanted, line


def test_every_flag_of_every_command(script, tmp_path):
    lines = [("ks-lottery", name, "--") for name in COMMANDS]
    for name, offered in zip(COMMANDS, completed(script, lines, tmp_path), strict=True):
        shown = build_parser(name).format_help()
        wanted = {
            flag for action in build_parser(name)._actions for flag in action.option_strings if f" {flag}" in shown
        }
        assert offered == {flag for flag in wanted if flag.startswith("--")}, name


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "bash"])
def test_another_shell_reads_its_script(shell, tmp_path, capfd):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    file = tmp_path / shell
    file.write_text(capfd.readouterr().out, encoding="utf-8")
    subprocess.run([shell, "-n", str(file)], check=True, timeout=60)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command(shell, capfd):
    assert main(["completion", shell]) == 0
    text = capfd.readouterr().out
    assert [name for name in COMMANDS if name not in text] == []


def test_a_shell_that_is_not_known_is_refused(capfd):
    assert main(["completion", "bsh"]) == 2
    assert "SHELL is 'bsh', but must be one of bash, zsh, fish" in capfd.readouterr().err
