"""Have the three standard streams, whatever the caller closed, and find out when stdout is lost.

Kept to what an older Python can read, as `__main__` is.
"""

import io
import os
import select
import sys
from typing import Any


class OutputLost(Exception):
    """Standard output takes no more. `reason` is the OSError; not one itself, as click ends those.

    It is raised once: what is written afterwards is dropped, so that the program can end.
    """

    def __init__(self, reason: OSError) -> None:
        self.reason = reason


class _Output(io.BufferedIOBase):
    """A descriptor that is written to until that fails; a failure of stderr is nobody's concern.

    It keeps nothing back: `io.BufferedWriter` writes twice what a signal interrupts it in.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = False

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`; wait where the reader of a pipe is slow."""
        left = memoryview(data)
        try:
            while left and not self._lost:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:
                    select.select([], [self._descriptor], [])
        except OSError as error:
            self._lost = True
            if self._descriptor == 1:
                raise OutputLost(error) from error
        return len(data)


def attach() -> None:
    """Open the null device where a standard stream is closed, and guard the others.

    Otherwise the next file that is opened gets the number of the stream, and what libraries
    write to stderr goes into it. A character that an encoding lacks is written as an escape.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
        elif name != "stdin" and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _guarded(stream))


def _guarded(stream: Any) -> Any:
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:  # a console of Windows
        return stream
    stream.flush()
    return io.TextIOWrapper(
        _Output(stream.fileno()),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=getattr(stream, "write_through", False),  # not in Python 3.6
    )
