"""What a machine has: processor, threads, memory, free disk, and the devices that torch sees."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ks_lottery.report.forms import size
from ks_lottery.report.section import Column, Section

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Instructions of a processor that decide how fast a model runs on it."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine, as far as this process sees it; None where it does not say.

    Parameters
    ----------
    system, processor
        Names.
    instructions
        Those of `INSTRUCTIONS` that the processor has; empty where the system does not list them.
    cores, usable
        Cores, and those that this process may use.
    threads
        Threads that torch computes with; None without torch.
    memory, available
        Bytes of memory, no more than a container may use, and those that are free.
    cache, store
        Folders of downloads and of finished stages.
    cache_free, store_free
        Free bytes of their disks.
    body
        Type that a model has with ``--dtype auto``; None without torch.
    gpus
        Each device beside the processor: its name, memory, and whether it computes in bfloat16.
    driver
        Whether a driver of NVIDIA is here.
    fault
        Why torch cannot be imported; empty where it can.
    """

    system: str
    processor: str
    instructions: tuple[str, ...]
    cores: int | None
    usable: int | None
    threads: int | None
    memory: int | None
    available: int | None
    cache: str
    store: str
    cache_free: int | None
    store_free: int | None
    body: str | None
    gpus: tuple[str, ...]
    driver: bool
    fault: str

    @classmethod
    def here(cls, cache: Path, store: Path) -> Machine:
        """Look at this machine.

        Parameters
        ----------
        cache, store
            Folders, which need not exist.
        """
        memory, available = _memory()
        threads, body, gpus, fault = _torch()
        processor, instructions = _processor()
        return cls(
            system=f"{platform.system()} {platform.release()}, {platform.machine()}", processor=processor,
            instructions=instructions, cores=os.cpu_count(), usable=_usable(), threads=threads, memory=memory,
            available=available, cache=str(cache), store=str(store), cache_free=_free(cache), store_free=_free(store),
            body=body, gpus=gpus, driver=shutil.which("nvidia-smi") is not None, fault=fault,
        )  # fmt: skip

    def section(self) -> Section:
        """Return it as a table."""
        facts = {
            "system": self.system,
            "processor": self.processor + (f" ({', '.join(self.instructions)})" if self.instructions else ""),
            "cores": f"{self.cores}, of which {self.usable} may be used",
            "threads of torch": None if self.threads is None else str(self.threads),
            "memory": None if self.memory is None else _of(self.memory, self.available),
            "type of a model, auto": self.body,
            "other devices": ", ".join(self.gpus) or "none",
            "cache": f"{self.cache}, {_room(self.cache_free)}",
            "store": f"{self.store}, {_room(self.store_free)}",
        }
        said = [f"torch cannot be imported: {self.fault}"] if self.fault else []
        columns = [Column(title="this machine"), Column(title="")]
        return Section(title="Machine", columns=columns, rows=[[k, v] for k, v in facts.items()], sentences=said)


def _of(memory: int, available: int | None) -> str:
    return size(memory) if available is None else f"{size(memory)}, of which {size(available)} are free"


def _room(free: int | None) -> str:
    return "whose disk cannot be read" if free is None else f"{size(free)} free"


def _usable() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _free(folder: Path) -> int | None:
    """Return the free bytes of the disk that a folder is on, or will be on."""
    place = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), None)
    try:
        return None if place is None else shutil.disk_usage(place).free
    except OSError:
        return None


def _memory() -> tuple[int | None, int | None]:
    """Return the memory and what of it is free; in a container no more than it may have."""
    try:
        whole: int | None = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        whole = None
    listed = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text("/proc/meminfo"), flags=re.MULTILINE))
    available = int(listed["MemAvailable"]) * 1024 if "MemAvailable" in listed else None
    limit, used = _text("/sys/fs/cgroup/memory.max").strip(), _text("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and whole is not None and int(limit) < whole:
        whole = int(limit)
        free = whole - int(used) if used.isdigit() else whole
        available = free if available is None else min(available, free)
    return whole, available


def _processor() -> tuple[str, tuple[str, ...]]:
    text = _text("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, flags=re.MULTILINE)
    known = set(flags[1].split()) if flags else set[str]()
    return name[1] if name else platform.processor() or platform.machine(), tuple(i for i in INSTRUCTIONS if i in known)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _torch() -> tuple[int | None, str | None, tuple[str, ...], str]:
    """Return threads, type of a model's body, devices beside the processor, and why torch cannot be imported."""
    if find_spec("torch") is None:
        return None, None, (), ""
    try:
        import torch
    except (ImportError, OSError) as error:  # a library of the system that is missing
        return None, None, (), " ".join(str(error).split())[:300]
    from ks_lottery.models.devices import choose_device, choose_dtype

    gpus: list[str] = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            with torch.cuda.device(number):
                half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bfloat16"
            gpus.append(f"cuda:{number} {about.name} ({size(about.total_memory)}, {half})")
    elif torch.backends.mps.is_available():
        gpus.append("mps")
    body = str(choose_dtype("auto", choose_device())).removeprefix("torch.")
    return torch.get_num_threads(), body, tuple(gpus), ""
