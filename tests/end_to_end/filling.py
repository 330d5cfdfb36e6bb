"""Lets every command run into a full disk, makes room and gives it again: unshare -rm python filling.py MODEL TEXT WORK.

The outputs of each command lie on a disk in memory of their own, whose size is set: too small at several places, then large.
A full disk must be one line on standard error and exit code 2, and the same command must then end with the bytes of an
unbroken execution.

Prints one JSON object: for each command how often the disk was full, and what went wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from killing import Trial, commands, forked, import_everything, tree

SHARES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Sizes of the disk, as shares of what the command needs."""

ROOM = 256 << 20


def resize(place: Path, size: int, *how: str) -> None:
    options = ",".join([*how, f"size={max(size, 4096)}"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)


def peak(place: Path) -> int:
    about = os.statvfs(place)
    return (about.f_blocks - about.f_bfree) * about.f_frsize


class Filling(Trial):
    """One command and its outputs, on a disk of their own."""

    def report(self) -> dict[str, object]:
        """Fill the disk at each share of the needed room, and return the counts and the first thing that went wrong."""
        self.place.mkdir()
        resize(self.place, ROOM)
        if forked(self.run, self.log) != 0:
            return {"failed": self.said()}
        self.final, needed, full = tree(self.place), peak(self.place), 0
        for share in SHARES:
            subprocess.run(["umount", str(self.place)], check=True)
            resize(self.place, int(needed * share))
            self.log.write_text("")
            code = forked(self.run, self.log)
            said = [line for line in self.log.read_text().splitlines() if line.startswith("ks-lottery: ")]
            if code == 2 and len(said) == 1 and "Traceback" not in self.log.read_text():
                full += 1
            elif code != 0:
                return {"full": full, "failed": f"at {share:.0%}: exit code {code}: {self.said()}"}
            resize(self.place, ROOM, "remount")
            problem = self.wrong(f"after it was full at {share:.0%}", forked(self.run, self.log))
            if problem:
                return {"full": full, "failed": problem}
        return {"full": full, "failed": ""}


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "NUMBA_NUM_THREADS": "1"}
    import_everything()
    work = Path(sys.argv[3])
    first, second = commands(sys.argv[1], sys.argv[2], work)
    outcome = {name: Filling(name, words, work).report() for name, words in {**first, **second}.items()}
    sys.stdout.write(json.dumps(outcome))
