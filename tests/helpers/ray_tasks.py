"""Tasks that the actors of Ray import by name."""

import os
import signal
import time
from pathlib import Path


class Blocker:
    """Hold a CPU as long as the actor lives."""

    def begin(self) -> None:
        """Do nothing: the CPU is held when this returns."""


def make_pid() -> int:
    """Return the process of the actor."""
    return os.getpid()


def echo(pid: int, task: int) -> tuple[int, int]:
    """Return the process and the task, after a moment in which the other actor takes one too."""
    time.sleep(0.05)
    return pid, task


def refuse(_pid: int, task: int) -> int:
    """Return the task, but for 3, of which the disk is full."""
    if task == 3:
        error = OSError(28, "No space left on device", "/full/shard.parquet")
        error.add_note("write")
        raise error
    return task


def fail_to_make() -> int:
    """Fail as a worker without a TFLite runtime does."""
    raise ValueError("no runtime")


def die_once(pid: int, task: tuple[int, Path]) -> tuple[int, int]:
    """Return the process and the number; the first time that 3 is tried, kill the process."""
    number, mark = task
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(pid, signal.SIGKILL)
    return pid, number


def die(pid: int, _task: int) -> None:
    """Kill the process, each time."""
    os.kill(pid, signal.SIGKILL)
