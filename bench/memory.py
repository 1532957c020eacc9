"""The most memory that a process and all it starts hold together."""

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_EVERY_S = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Ran(NamedTuple):
    """What a command printed, its exit code, and the most memory it held, in MB.

    The memory is resident, of the process and its descendants at one time, looked at every 50 ms:
    what several share counts once for each, and what is held for less may be missed. It is 0 where
    there is no /proc.
    """

    stdout: bytes
    exit_code: int
    peak_mb: float


def run(command: Sequence[str]) -> Ran:
    """Run `command` to its end."""
    peak, over = 0, threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 (our own)

        def watch() -> None:
            nonlocal peak
            while not over.wait(_EVERY_S):
                peak = max(peak, resident(process.pid))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            printed, _ = process.communicate()
        finally:
            over.set()
            watcher.join()
    return Ran(printed, process.returncode, peak / 1e6)


def resident(pid: int, proc: Path = Path("/proc")) -> int:
    """Return the bytes that the process `pid` and its descendants have in memory now."""
    parents, sizes = {}, {}
    for folder in proc.glob("[0-9]*"):
        try:
            # After the name, which may have any character: state, parent (proc_pid_stat(5)).
            fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            pages = (folder / "statm").read_text().split()[1]
        except OSError:  # it has just ended
            continue
        parents[int(folder.name)] = int(fields[1])
        sizes[int(folder.name)] = int(pages) * _PAGE
    family, before = {pid}, 0
    while len(family) > before:
        before = len(family)
        family |= {each for each, parent in parents.items() if parent in family}
    return sum(sizes.get(each, 0) for each in family)
