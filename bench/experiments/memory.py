"""The most memory that a process and all it starts hold together."""

import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_EVERY_S = 0.05


class Ran(NamedTuple):
    """What a command printed, its exit code, and the most memory it held, in MB.

    The memory is that of the process and its descendants at one time, looked at every 50 ms: what
    several share counts once, and what is held for less may be missed. It is 0 where there is no
    /proc.
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
                peak = max(peak, held(process.pid))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            printed, _ = process.communicate()
        finally:
            over.set()
            watcher.join()
    return Ran(printed, process.returncode, peak / 1e6)


def held(pid: int, proc: Path = Path("/proc")) -> int:
    """Return the bytes that the process `pid` and its descendants have in memory now."""
    parents = {}
    for path in proc.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            # After the name, which may have any character: state, parent (proc_pid_stat(5)).
            fields = path.read_text("utf-8", "replace").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    family, before = {pid}, 0
    while len(family) > before:
        before = len(family)
        family |= {each for each, parent in parents.items() if parent in family}
    return sum(_proportional(proc / str(each)) for each in family)


def _proportional(process: Path) -> int:
    """Return the bytes that /proc/pid/smaps_rollup says are its own, or its share of them."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
