"""Open standard streams that the caller closed, and notice when stdout takes no more.

An older Python can parse this file, as `__main__` needs it.
"""

import io
import os
import select
import sys
from typing import Any


class OutputLost(Exception):
    """Standard output takes no more; `reason` is the OSError.

    It is not an OSError itself, which click would handle. It is raised once: later output is
    dropped, so that the program can end.
    """

    def __init__(self, reason: OSError) -> None:
        self.reason = reason


class _Output(io.BufferedIOBase):
    """A descriptor that is written to until that fails; a failure of stderr is ignored.

    It has no buffer: `io.BufferedWriter` writes data twice if a signal interrupts it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = False

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`; wait for a slow reader of a pipe."""
        remaining = memoryview(data)
        try:
            while remaining and not self._lost:
                try:
                    remaining = remaining[os.write(self._descriptor, remaining) :]
                except BlockingIOError:
                    select.select([], [self._descriptor], [])
        except OSError as error:
            self._lost = True
            if self._descriptor == 1:
                raise OutputLost(error) from error
        return len(data)


def attach() -> None:
    """Open the null device for each closed standard stream, and guard stdout and stderr.

    Otherwise the next opened file gets the descriptor of the stream, and libraries write their
    messages into it. A character that the encoding lacks is written as an escape.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
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
