"""Read parts of a file, with other bytes between them, as one file; nothing is copied."""

import io
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, Any

from deploy.errors import BadData

MAX_BLOCKS = 200_000
"""Files of more chunks or segments are refused: each takes time, however short it is."""
MAX_METADATA = 1 << 20
"""Bytes of a block of metadata, at most, that are searched for the orientation."""

Block = tuple[bytes, int, int]
"""A part of a file: its name, where it starts, its size with its own header."""


def limited(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield the blocks; raise BadData where there are too many."""
    for i, block in enumerate(blocks):
        if i == MAX_BLOCKS:
            raise BadData(f"the file is damaged: it has more than {MAX_BLOCKS:,} blocks")
        yield block


def beginning(file: IO[bytes], start: int, size: int) -> bytes:
    """Return the beginning of `size` bytes of metadata, or what the file has of them."""
    file.seek(start)
    return file.read(max(0, min(size, MAX_METADATA)))


class Splice:
    """Parts of `file` in order: ranges of it, and bytes that are not in it."""

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
        """Add bytes that are not in the file."""
        self.parts.append(data)

    def open(self) -> IO[bytes]:
        """Return the parts as a file."""
        return io.BufferedReader(_Parts(self.file, self.parts), 1 << 16)


class _Parts(io.RawIOBase):
    """A file of parts; `io.BufferedReader` reads on where a part ends."""

    def __init__(self, file: IO[bytes], parts: list[tuple[int, int] | bytes]) -> None:
        self._file = file
        self._parts = parts
        self._starts = [0]
        for part in parts:
            size = len(part) if isinstance(part, bytes) else part[1] - part[0]
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
        part, inside = self._parts[i], self._at - self._starts[i]
        if isinstance(part, bytes):
            data = part[inside : inside + len(buffer)]
        else:
            self._file.seek(part[0] + inside)
            data = self._file.read(min(len(buffer), self._starts[i + 1] - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
