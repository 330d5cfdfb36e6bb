"""Kills every command before each of its file events, gives it again, and compares the bytes: python killing.py MODEL TEXT WORK.

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
        except BaseException:
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


def kill_everywhere(name: str, words: list[str], work: Path) -> dict[str, object]:
    """Try one command; its outputs lie in ``work/NAME``."""
    from ks_lottery.cli.main import main

    place, states, log = work / name, work / f"states-{name}", work / f"{name}.log"
    place.mkdir()
    states.mkdir()

    def recorded() -> int:
        seen: dict[str, int] = {}

        def keep(number: int) -> None:
            state = digest(tree(place))
            if state not in seen:
                shutil.copytree(place, states / f"{number:05d}", symlinks=True)
            seen[state] = number

        watch = Watch(place, keep)
        code = main(words)
        keep(watch.count)
        (work / f"{name}.seen").write_text(json.dumps(seen))
        return code

    if forked(recorded, log) != 0:
        return {"failed": [f"the command itself failed: {log.read_text()[-2000:]}"]}
    final = tree(place)
    seen: dict[str, int] = json.loads((work / f"{name}.seen").read_text())
    count = max(seen.values())
    tried = sorted(states.iterdir())
    failed: list[str] = []
    for state in tried:
        shutil.rmtree(place)
        state.rename(place)
        before = seen[digest(tree(place))]

        def again(before: int = before) -> int:
            def follow(_: int) -> None:
                if seen.get(digest(tree(place)), -1) > before:
                    os._exit(CAUGHT_UP)

            Watch(place, follow)
            return main(words)

        code = forked(again, log)
        if code not in {0, CAUGHT_UP}:
            failed.append(f"before event {state.name}: exit code {code}: {log.read_text()[-600:]}")
        elif code == 0 and tree(place) != final:
            differing = sorted(dict(tree(place).items() ^ final.items()))
            failed.append(f"before event {state.name}: other bytes in {differing[:5]}")
        if failed:
            break
    for number in sorted({0, count // 2, count - 1}) if not failed else []:
        shutil.rmtree(place)
        place.mkdir()

        def killed(at: int = number) -> int:
            Watch(place, lambda event: os.kill(os.getpid(), signal.SIGKILL) if event == at else None)
            return main(words)

        if forked(killed, log) != -signal.SIGKILL:
            failed.append(f"event {number} did not come again")
        elif forked(lambda: main(words), log) != 0 or tree(place) != final:
            failed.append(f"killed before event {number}: {log.read_text()[-600:]}")
    shutil.rmtree(states)
    return {"events": count, "states": len(tried), "failed": failed}


def import_everything() -> None:
    """Import what any command imports, so that its children do not."""
    import ks_lottery

    for module in pkgutil.walk_packages(ks_lottery.__path__, "ks_lottery."):
        if module.name != "ks_lottery.__main__":
            importlib.import_module(module.name)
    for name in (
        "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto", "peft", "accelerate",
        "transformers.trainer", "sacrebleu", "pandas", "pyarrow.parquet", "numba", "filelock", "rich.progress",
        "transformers.generation.utils", "transformers.tokenization_utils_fast", "tokenizers", "safetensors.torch",
        "huggingface_hub",
    ):  # fmt: skip
        importlib.import_module(name)


def main_program(model: str, text: str, work: Path) -> dict[str, object]:
    """Try every command that writes."""
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
        "evaluate": [
            "evaluate", model, "--patch", embed, "--data", text, "--limit", "6", "--num-beams", "1",
            "--max-new-tokens", "3", "--batch-size", "2", "--resamples", "50", "--metrics", "chrf", "accuracy",
            "--out", str(work / "evaluate" / "out"),
        ],
    }  # fmt: skip
    outcome: dict[str, object] = {}
    for name, words in first.items():
        outcome[name] = kill_everywhere(name, words, work)

    # Each command in a process of its own, which forks its children: a fork must not happen while another thread computes.
    def tried(name: str) -> tuple[str, object]:
        file = work / f"{name}.json"
        forked(lambda: file.write_text(json.dumps(kill_everywhere(name, second[name], work))) and 0, work / "outer.log")
        return name, json.loads(file.read_text())

    with ThreadPoolExecutor(CHILDREN) as pool:
        outcome |= dict(pool.map(tried, second))
    return outcome


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "NUMBA_NUM_THREADS": "1"}
    import_everything()
    sys.stdout.write(json.dumps(main_program(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
