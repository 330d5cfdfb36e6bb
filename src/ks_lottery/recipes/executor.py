"""The main job: config in, Run folder out, stage by stage; the same command goes on where an earlier one stopped.

Must never write before model and text are known to be good, nor redo a stage that is done.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ks_lottery.corpus.forms import PromptForm
from ks_lottery.corpus.prompts import check_template
from ks_lottery.corpus.source import load_text
from ks_lottery.errors import UserError
from ks_lottery.models.load import load_tokenizer, open_checkpoint
from ks_lottery.recipes.job import Job
from ks_lottery.recipes.stages import STAGES
from ks_lottery.store.files import read_json, write_error
from ks_lottery.store.run_folder import LOCK, RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from ks_lottery.config.settings import RunConfig
    from ks_lottery.report.screen import Screen


def prepare(config: RunConfig, folder: RunFolder) -> Job:
    """Open model and text and check them, before anything is written.

    Raises
    ------
    UserError
        For whatever is wrong with them.
    """
    folder.check(config)
    check_template(config.text.template)
    checkpoint = open_checkpoint(config.model.name)
    _ = checkpoint.embedding
    split, report = load_text(config.text)
    PromptForm(load_tokenizer(checkpoint, trust_remote_code=config.model.trust_remote_code), config.text.template)
    return Job(config, folder, checkpoint, split, report)


def run(config: RunConfig, path: Path, screen: Screen) -> dict[str, Any]:
    """Do the main job, or what is left of it, and return its summary.

    Parameters
    ----------
    path
        Folder of the run; made by an earlier call with the same config, or new.
    screen
        Where progress is shown.

    Raises
    ------
    UserError
        For bad input, a folder of another config, a full disk, or when another process works in the folder.
    """
    from filelock import FileLock, Timeout

    folder = RunFolder(path)
    screen.total = len(STAGES) + 1
    with screen.stage("open model and text"):
        job = prepare(config, folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process works in {path}: wait for it, or give another --out") from error
    except OSError as error:
        raise write_error(path, error) from error
    with lock:
        folder.check(config)
        folder.claim(config, {"model": job.checkpoint.fingerprint, "text": job.report["fingerprint"]})
        order = list(STAGES)
        again = False
        for name, (title, work) in STAGES.items():
            if not again and folder.is_done(name):
                screen.skipped(title)
                continue
            if not again:
                again = True
                folder.forget(order[order.index(name) :])
            start = time.perf_counter()
            with screen.stage(title) as tick:
                left = work(job, tick)
            folder.finish(name, left.files, left.log, order)
            folder.time(name, time.perf_counter() - start)
            for line in left.log if left.shown else []:
                screen.say(f"        {line}")
    return read_json(path / "summary.json")
