"""End a child process when its parent ends, even if the parent is killed.

The child's stdin is a pipe that only the parent holds open, so it closes with the parent. On Linux
the kernel kills the child too, which works even while native code holds Python's lock.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PR_SET_PDEATHSIG = 1


@contextmanager
def lifeline() -> Iterator[int]:
    """Yield the descriptor of the stdin for a child process that calls `end_with_parent`."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def end_with_parent() -> None:
    """End this process as soon as its stdin, the `lifeline` of its parent, is closed.

    Nothing else may read stdin. The parent's thread that started this process must outlive it.
    """
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):  # the pipe remains
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The pipe also covers a parent that ended before the line above.
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    # Not through sys.stdin: Python needs its lock at exit.
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(1)
