"""Workers on Ray against one process: the same bytes, whatever is killed; and what a stage or a machine can do wrong."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from ks_lottery import UserError
from ks_lottery.recipes.stage import Cell, Cost, Made, Recipe, Stage
from ks_lottery.recipes.stored import StoredRecipe
from ks_lottery.report.screen import Screen
from ks_lottery.store.cells import Cells
from ks_lottery.store.objects import ObjectStore

# Ray is imported by what is tested, which sets its environment first.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra cluster is not installed"),
    pytest.mark.filterwarnings("ignore"),
]


class Command:
    """`ks-lottery reproduce` with a tiny model, in a folder of its own."""

    def __init__(self, model: Path, text: Path, folder: Path) -> None:
        self.folder = folder
        self.words = [
            sys.executable, "-m", "ks_lottery", "reproduce", "selectors", "--scale", "smoke", "--model", str(model), "--train",
            str(text), "--sizes", "4", "--dtype", "float32", "--device", "cpu",
        ]  # fmt: skip

    def start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        places = [
            word for place in ("store", "cells", "out") for word in (f"--{place}", str(self.folder / name / place))
        ]
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                [*self.words, *places, *more], stdout=log, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def log(self, name: str) -> Path:
        (self.folder / name).mkdir(exist_ok=True)
        return self.folder / name / "log.txt"

    def wait_for(self, process: subprocess.Popen[bytes], name: str, text: str) -> None:
        while text not in self.log(name).read_text():
            assert process.poll() is None, self.log(name).read_text()
            time.sleep(0.05)

    def objects(self, name: str) -> dict[str, str]:
        stages, damaged = ObjectStore(self.folder / name / "store").stages()
        assert damaged == {}
        return {stage.key: stage.digest for stage in stages}

    def files(self, name: str) -> dict[str, bytes]:
        root = self.folder / name
        return {
            str(path.relative_to(root)): path.read_bytes()
            for place in ("cells", "out")
            for path in sorted((root / place).rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="module")
def command(narrow_model, text_file, tmp_path_factory):
    """The command, whose outputs by one process with one thread are in ``alone``."""
    made = Command(narrow_model, text_file, tmp_path_factory.mktemp("cluster"))
    assert made.start("alone").wait() == 0, made.log("alone").read_text()
    return made


def descendants(parent: int) -> dict[int, str]:
    """Return the processes below a process, and the title of each."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                titles[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    below = {parent}
    while more := {child for child, its in parents.items() if its in below} - below:
        below |= more
    return {child: titles[child] for child in below - {parent}}


def working(driver: int) -> list[int]:
    """Return the workers of a command that are in the middle of a stage."""
    return [child for child, title in descendants(driver).items() if title.startswith("ray::StageWorker.make")]


def test_two_workers_make_the_bytes_of_one_process_whatever_is_killed(command):
    """The driver is killed first; the same command then loses a worker in the middle of a stage."""
    driver = command.start("two", "--workers", "local:2")
    command.wait_for(driver, "two", "[ 8/")
    below = descendants(driver.pid)
    driver.kill()
    driver.wait()
    begun = command.objects("two")
    assert 8 <= len(begun) < len(command.objects("alone"))
    while any(Path(f"/proc/{child}").exists() for child, title in below.items() if "StageWorker" in title):
        time.sleep(0.1)  # the workers of a killed driver end by themselves

    driver = command.start("two", "--workers", "local:2")
    command.wait_for(driver, "two", "worker 2\n")
    while not (found := working(driver.pid)):
        assert driver.poll() is None
    os.kill(found[0], signal.SIGKILL)
    assert driver.wait() == 0, command.log("two").read_text()
    assert "another one takes its place" in command.log("two").read_text()
    assert command.objects("two") == command.objects("alone")
    assert command.files("two") == command.files("alone")
    assert not list((command.folder / "two" / "store").glob(".*ks-lottery-tmp"))


def test_ctrl_c_ends_the_workers_and_says_one_line(command):
    driver = command.start("stopped", "--workers", "local:2")
    command.wait_for(driver, "stopped", "[ 3/")
    below = descendants(driver.pid)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 130
    assert (
        command.log("stopped").read_text().endswith("ks-lottery: stopped; the same command resumes from what is done\n")
    )
    assert below
    end = time.monotonic() + 30
    while alive := [title for child, title in below.items() if Path(f"/proc/{child}/cmdline").exists()]:
        assert time.monotonic() < end, alive
        time.sleep(0.1)


def conditions():
    import torch

    return {"threads": torch.get_num_threads(), "dtype": "float32", "device": "cpu", "versions": {}}


def write(number: int, work) -> Made:
    total = number + sum(json.loads((folder / "figures.json").read_text())["sum"] for folder in work.inputs.values())
    (work.folder / "figures.json").write_text(json.dumps({"sum": total}))
    return Made(files=[])


def refuse(work) -> Made:
    raise UserError("the text: it has no letters. Give another.")


def lack(work) -> Made:
    raise EOFError("a file is too short")


def die(root: Path, work) -> Made:
    with (root / "deaths.txt").open("a") as log:
        log.write("x")
    os.kill(os.getpid(), signal.SIGKILL)
    return Made(files=[])


def sums(root: Path, last=None, *, text: str = "text", under=None) -> StoredRecipe:
    """Return a recipe of four numbers that are summed, and of one last stage."""
    numbers = [
        Stage(
            name=f"number {n}", title=f"number {n}", make=partial(write, n), inputs={"text": "text"}, settings={"n": n}
        )
        for n in range(4)
    ]
    total = Stage(name="sum", title="sum", make=partial(write, 0), inputs={f"in {n}": f"number {n}" for n in range(4)})
    end = Stage(name="end", title="the end", make=last or partial(write, 10), inputs={"sum": "sum"})
    return StoredRecipe(
        recipe=Recipe(
            stages=(*numbers, total, end), inputs={"text": text}, name="sums",
            cells=tuple(Cell(stage=name, about={"what": name}) for name in ("sum", "end")),
        ),
        store=ObjectStore(root / "store"), cells=Cells(root / "cells"), conditions=under or conditions(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    from ks_lottery.recipes.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        with connected("local:2", "cpu") as made:
            import ray

            ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
            yield made


def execute(cluster, here: StoredRecipe, there=None) -> tuple[list, str]:
    """Return the figures of the cells, and what the screen shows."""
    from ks_lottery.recipes.crew import make_on

    said = io.StringIO()
    make = partial(make_on, cluster, there or partial(sums, here.store.root.parent, here.recipe.stage("end").make))
    cells = here.execute(Screen(0, Console(file=said, width=200)), make)
    return [cell.figures["sum"] for cell in cells], said.getvalue()


@pytest.fixture
def under(cluster):
    return cluster.call(conditions)


def test_workers_compute_with_the_threads_that_are_said(cluster, under):
    assert (cluster.count, cluster.threads, under["threads"]) == (2, 1, 1)


def test_stages_are_made_in_order_and_found_again(cluster, under, tmp_path):
    figures, said = execute(cluster, sums(tmp_path, under=under))
    assert figures == [6, 16]
    assert said.splitlines()[-2].startswith("[5/6] sum: ")
    assert said.splitlines()[-1].startswith("[6/6] the end: ")
    again = StoredRecipe(**{**vars(sums(tmp_path, under=under)), "cells": Cells(tmp_path / "others")})
    assert execute(cluster, again)[1].count("done before") == 6


def test_an_error_of_a_stage_is_its_sentence_and_what_was_made_is_kept(cluster, under, tmp_path):
    with pytest.raises(UserError) as caught:
        execute(cluster, sums(tmp_path, refuse, under=under))
    assert str(caught.value) == "the text: it has no letters. Give another."
    assert len(list((tmp_path / "cells").iterdir())) == 1
    assert len(ObjectStore(tmp_path / "store").keys()) == 5


def test_an_error_of_another_type_keeps_it_and_is_not_taken_for_the_end_of_a_worker(cluster, under, tmp_path):
    with pytest.raises(EOFError) as caught:
        execute(cluster, sums(tmp_path, lack, under=under))
    assert caught.value.args == ("a file is too short",)


def test_a_stage_that_ends_each_worker_is_named_after_three_times(cluster, under, tmp_path, capfd):
    with pytest.raises(UserError, match=r"^the end: its process was ended .* 3 times\."):
        execute(cluster, sums(tmp_path, partial(die, tmp_path), under=under))
    assert (tmp_path / "deaths.txt").read_text() == "xxx"
    assert capfd.readouterr() == ("", "")


def test_a_worker_without_the_folder_of_the_store_is_refused(cluster, under, tmp_path):
    from ks_lottery.recipes import crew

    def elsewhere(**values):
        return crew_start(**{**values, "mark": values["mark"].replace("/store/", "/nowhere/")})

    crew_start = crew.Start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "Start", elsewhere)
        with pytest.raises(
            UserError, match=r"does not have the folder .*/nowhere of this command\. Give a `store` that"
        ):
            execute(cluster, sums(tmp_path, under=under))


def test_a_worker_that_computes_otherwise_or_reads_another_text_is_refused(cluster, under, tmp_path):
    with pytest.raises(UserError, match=r"other conditions than the first worker \(threads: 1, not 7\)"):
        execute(cluster, sums(tmp_path, under={**under, "threads": 7}))
    with pytest.raises(UserError, match="reads other models or texts than this command"):
        execute(cluster, sums(tmp_path, under=under), partial(sums, tmp_path, text="another"))


def test_a_need_that_no_machine_has_is_refused_before_it_is_waited_for(cluster, under, tmp_path):
    stored = sums(tmp_path, under=under)
    large = [Stage(**{**vars(stage), "cost": lambda: Cost(memory=2**60)}) for stage in stored.recipe.stages]
    recipe = Recipe(**{**vars(stored.recipe), "stages": tuple(large)})
    with pytest.raises(UserError, match=r"no machine has the 1073741824\.0 GiB of memory"):
        execute(cluster, StoredRecipe(**{**vars(stored), "recipe": recipe}))


def test_ray_listens_on_this_machine_alone(cluster):
    import ray

    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A":  # listens
                inodes[f"socket:[{parts[9]}]"] = parts[1].partition(":")[0]
    addresses = set()
    for child in descendants(os.getpid()):
        for handle in Path(f"/proc/{child}/fd").iterdir():
            addresses.add(inodes.get(str(handle.readlink())) if handle.is_symlink() else None)
    assert addresses - {None} <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert addresses - {None}
