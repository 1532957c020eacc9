"""Read ranges of a file, with other bytes between them, as one file; nothing is copied."""

import io
from bisect import bisect_right
from typing import IO, Any


class Splice:
    """A file put together of ranges of `file` and of other bytes, in order."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.parts: list[tuple[int, int] | bytes] = []

    def keep(self, start: int, end: int) -> None:
        """Add the bytes of the file from `start` to `end`."""
        last = self.parts[-1] if self.parts else b""
        if isinstance(last, tuple) and last[1] == start:
            self.parts[-1] = (last[0], end)
        elif end > start:
            self.parts.append((start, end))

    def add(self, data: bytes) -> None:
        """Add bytes from outside the file."""
        self.parts.append(data)

    def open(self) -> IO[bytes]:
        """Return the whole as a file."""
        return io.BufferedReader(_SplicedFile(self.file, self.parts), 1 << 16)


class _SplicedFile(io.RawIOBase):
    """A raw file of parts; a read ends with a part, and `io.BufferedReader` reads on."""

    def __init__(self, file: IO[bytes], parts: list[tuple[int, int] | bytes]) -> None:
        self._file = file
        self._parts = parts
        self._starts = [0]
        for item in parts:
            size = len(item) if isinstance(item, bytes) else item[1] - item[0]
            self._starts.append(self._starts[-1] + size)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if origin + offset < 0:
            raise ValueError(f"negative position {origin + offset}")
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        i = bisect_right(self._starts, self._at) - 1
        source, inside = self._parts[i], self._at - self._starts[i]
        if isinstance(source, bytes):
            data = source[inside : inside + len(buffer)]
        else:
            self._file.seek(source[0] + inside)
            data = self._file.read(min(len(buffer), self._starts[i + 1] - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
