"""Kills every command before each of its file events, gives it again, and compares: python killing.py MODEL TEXT WORK.

A kill leaves the files as they are at that moment. So one execution of a command, with an audit hook that copies its folder
before each event (open for writing, rename, mkdir, unlink, rmdir, truncate), gives what every such kill leaves. States that
differ in nothing but the content of a workspace are tried once. A command that is given again is followed until its folder
is equal to a later state, from which it was tried already: so the bytes at the end are those of the unbroken execution. Some
kills are done by SIGKILL too. Everything happens in forked children of this process, which has imported all modules and has
computed nothing.

Prints one JSON object: for each command the number of events, of different states, and of kills; and what went wrong.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ks_lottery.store.workspace import is_workspace

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
UNEQUAL = {"timings.json", ".lock"}
"""Files whose bytes may differ between two executions."""

CHILDREN = 2

CAUGHT_UP = 77
"""Exit code of a command whose folder became equal to a later state of the unbroken execution."""


def tree(folder: Path) -> dict[str, str]:
    """Return every file and folder below `folder`, with the digest of its content; of workspaces that they are there."""
    content: dict[str, str] = {}
    for parent, folders, files in os.walk(folder):
        at = os.path.relpath(parent, folder)
        for name in sorted(folders):
            content[f"{at}/{'workspace' if is_workspace(name) else name}/"] = ""
        folders[:] = [name for name in folders if not is_workspace(name)]
        for name in set(files) - UNEQUAL:
            content[f"{at}/{name}"] = hashlib.sha256((Path(parent) / name).read_bytes()).hexdigest()
    return content


def digest(content: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def forked(work: Callable[[], int], log: Path) -> int:
    """Do `work` in a child, and return its exit code; negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            code = work()
        except BaseException:  # noqa: BLE001 (the child ends here, whatever happened)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Watch:
    """An audit hook that acts before each file event below a folder."""

    def __init__(self, folder: Path, act: Callable[[int], None]) -> None:
        self.lead, self.act, self.count, self.acting = str(folder), act, 0, False
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.acting:
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (
                (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITING)
            ):
                return
        elif event not in EVENTS:
            return
        if not any(str(a.decode() if isinstance(a, bytes) else a).startswith(self.lead) for a in arguments[:2]):
            return
        self.acting = True
        self.act(self.count)
        self.count += 1
        self.acting = False


class Trial:
    """One command and its outputs, which lie in ``work/NAME``."""

    def __init__(self, name: str, words: list[str], work: Path) -> None:
        self.name, self.words = name, words
        self.place, self.states, self.log = work / name, work / f"states-{name}", work / f"{name}.log"
        self.seen: dict[str, int] = {}
        self.final: dict[str, str] = {}

    def report(self) -> dict[str, object]:
        """Try every kill, and return the counts and the first thing that went wrong."""
        self.place.mkdir()
        self.states.mkdir()
        if forked(self.record, self.log) != 0:
            return {"failed": self.said()}
        self.seen = json.loads(self.log.with_suffix(".seen").read_text())
        self.final = tree(self.place)
        count, states = max(self.seen.values()), sorted(self.states.iterdir())
        problems = (self.after_state(state) for state in states)
        failed = next((problem for problem in problems if problem), "")
        for number in sorted({0, count // 2, count - 1}):
            failed = failed or self.after_signal(number)
        shutil.rmtree(self.states)
        return {"events": count, "states": len(states), "failed": failed}

    def run(self) -> int:
        """Do the command."""
        from ks_lottery.cli.main import main

        return main(self.words)

    def record(self) -> int:
        """Do the command unbroken, and keep a copy of every state."""

        def keep(number: int) -> None:
            state = digest(tree(self.place))
            if state not in self.seen:
                shutil.copytree(self.place, self.states / f"{number:05d}", symlinks=True)
            self.seen[state] = number

        watch = Watch(self.place, keep)
        code = self.run()
        keep(watch.count)
        self.log.with_suffix(".seen").write_text(json.dumps(self.seen))
        return code

    def after_state(self, state: Path) -> str:
        """Give the command again after a kill that left `state`; return what is wrong, if anything."""
        shutil.rmtree(self.place)
        state.rename(self.place)
        before = self.seen[digest(tree(self.place))]

        def again() -> int:
            def follow(_: int) -> None:
                if self.seen.get(digest(tree(self.place)), -1) > before:
                    os._exit(CAUGHT_UP)

            Watch(self.place, follow)
            return self.run()

        code = forked(again, self.log)
        return "" if code == CAUGHT_UP else self.wrong(f"killed before event {state.name}", code)

    def after_signal(self, number: int) -> str:
        """Kill a new execution before an event by SIGKILL, and give the command again."""
        shutil.rmtree(self.place)
        self.place.mkdir()

        def killed() -> int:
            Watch(self.place, lambda event: os.kill(os.getpid(), signal.SIGKILL) if event == number else None)
            return self.run()

        if forked(killed, self.log) != -signal.SIGKILL:
            return f"event {number} did not come again"
        return self.wrong(f"killed by a signal before event {number}", forked(self.run, self.log))

    def wrong(self, when: str, code: int) -> str:
        """Compare what a command left with what it should leave."""
        if code != 0:
            return f"{when}: exit code {code}: {self.said()}"
        differing = sorted(dict(tree(self.place).items() ^ self.final.items()))
        return f"{when}: other bytes in {differing[:5]}" if differing else ""

    def said(self) -> str:
        """Return the end of what the command printed."""
        return self.log.read_text()[-1000:]


def import_everything() -> None:
    """Import what any command imports, so that its children do not."""
    import ks_lottery

    for module in pkgutil.walk_packages(ks_lottery.__path__, "ks_lottery."):
        if module.name != "ks_lottery.__main__":
            importlib.import_module(module.name)
    for name in (
        "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto", "peft", "accelerate",
        "transformers.trainer", "sacrebleu", "pandas", "pyarrow.parquet", "numba", "rich.progress",
        "transformers.generation.utils", "transformers.tokenization_utils_fast", "tokenizers", "safetensors.torch",
        "huggingface_hub",
    ):  # fmt: skip
        importlib.import_module(name)


def commands(model: str, text: str, work: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the words of every command that writes, by name: those that others read first."""
    fast = [
        "--train.learning-rate", "0.2", "--train.epochs", "0.5", "--train.batch-size", "16",
        "--evaluate.translations", "2", "--evaluate.num-beams", "1", "--evaluate.max-new-tokens", "2",
        "--evaluate.resamples", "50", "--certify.alphas", "[0.5, 1.0]", "--text.min-pairs", "50",
    ]  # fmt: skip
    tune = [
        "tune",
        model,
        "--train",
        text,
        "--limit",
        "24",
        "--epochs",
        "1",
        "--learning-rate",
        "0.1",
        "--save-every",
        "2",
    ]
    made = {name: str(work / name) for name in ("embed", "scan", "select", "partial")}
    embed, scan, tickets = f"{made['embed']}/out", f"{made['scan']}/scan.parquet", f"{made['select']}/tickets.json"
    first = {
        "embed": [*tune, "--method", "embed", "--out", embed],
        "scan": ["scan", model, embed, "--out", scan],
        "select": ["select", scan, "--alpha", "0.5", "--out", tickets],
        "partial": [*tune, "--method", "partial", "--tickets", tickets, "--out", f"{made['partial']}/out"],
    }
    second = {
        "run": ["run", "--model.name", model, "--text.train", text, *fast, "--out", str(work / "run" / "out")],
        "lora": [*tune, "--method", "lora", "--out", str(work / "lora" / "out")],
        "full": [*tune, "--method", "full", "--out", str(work / "full" / "out")],
        "transfer": ["transfer", model, embed, "--tickets", tickets, "--out", str(work / "transfer" / "out")],
        "peft": ["export", embed, "--to", "peft", "--out", str(work / "peft" / "out")],
        "merged": ["export", embed, "--to", "merged", "--out", str(work / "merged" / "out")],
        "explain": ["explain", tickets, "--scan", scan, "--out", str(work / "explain" / "e.json")],
        "alike": ["alike", embed, f"{made['partial']}/out", "--out", str(work / "alike" / "a.json")],
        "certify": [
            "certify", model, "--tuned", embed, "--data", text, "--limit", "100", "--transfer", "--alphas", "0.5", "1",
            "--calibration", "60", "--out", str(work / "certify" / "out"),
        ],
        "agree": [
            "agree", model, embed, "--data", text, "--limit", "100", "--calibration", "40", "--generate",
            "--max-new-tokens", "3", "--out", str(work / "agree" / "out"),
        ],
        "evaluate": [
            "evaluate", model, "--patch", embed, "--data", text, "--limit", "6", "--num-beams", "1",
            "--max-new-tokens", "3", "--batch-size", "2", "--resamples", "50", "--metrics", "chrf", "accuracy",
            "--out", str(work / "evaluate" / "out"),
        ],
    }  # fmt: skip
    return first, second


def kill_all(model: str, text: str, work: Path) -> dict[str, object]:
    """Try every command that writes."""
    first, second = commands(model, text, work)
    outcome: dict[str, object] = {}
    for name, words in first.items():
        outcome[name] = Trial(name, words, work).report()

    # Each command in a process of its own, which forks its children: a fork must not happen while another thread computes.
    def tried(name: str) -> tuple[str, object]:
        file = work / f"{name}.json"
        forked(lambda: file.write_text(json.dumps(Trial(name, second[name], work).report())) and 0, work / "outer.log")
        return name, json.loads(file.read_text())

    with ThreadPoolExecutor(CHILDREN) as pool:
        outcome |= dict(pool.map(tried, second))
    return outcome


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "NUMBA_NUM_THREADS": "1"}
    import_everything()
    sys.stdout.write(json.dumps(kill_all(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
