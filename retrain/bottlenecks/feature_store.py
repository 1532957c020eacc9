"""Store bottlenecks in a file without a name, and read a few rows at a time."""

import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from deploy.system.error_messages import doing

_FLOAT32_BY_BITS = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""The float32 of each float16, by its bits: a lookup takes two thirds of numpy's conversion."""
_MAX_NUMBERS_IN_MEMORY = 1 << 24
"""64 MiB of float32, 13,000 bottlenecks of 1,280. A store of up to so many is read only once."""
_READ_BYTES = 1 << 20
_MAX_GAP_BYTES = 1 << 15
"""Rows that are so near are read together: copying what is between costs less than a read."""
POOL_BYTES = 1 << 28
"""256 MiB: rows that take more are read in the order of the file, and never held all at once."""

Floats = npt.NDArray[np.float32]


class Rows(Protocol):
    """Bottlenecks of `width` values, read by the numbers of their rows."""

    width: int

    def take(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return the rows of these numbers, float32 (N, width)."""


class RowsInMemory:
    """Bottlenecks in memory: `values` is float16 (N, width)."""

    def __init__(self, values: npt.NDArray[np.float16]) -> None:
        self.width = values.shape[1]
        self._values = values

    def take(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return the rows of these numbers, float32 (M, width)."""
        return _to_float32(self._values[rows])


class FeatureStore:
    """float16 (rows, width) on the disk: append rows, then read any; it ends with the process."""

    def __init__(self, width: int, folder: Path | None = None) -> None:
        """Store rows of `width` values on the disk of `folder`, or in the system's folder.

        The system's folder for temporary files serves if `folder` is not writable; it is often
        in memory, where a million rows do not fit.
        """
        self.width = width
        is_writable = folder is not None and os.access(folder, os.W_OK)
        self._folder = Path(folder if folder and is_writable else tempfile.gettempdir())
        with doing("write a temporary file in", self._folder):
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._position_lock = threading.Lock()
        self._row_count = 0
        self._in_memory: Floats | None = None

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "FeatureStore":
        """Return a store that holds `values` (rows, width)."""
        store = cls(values.shape[1])
        store.append(values)
        return store

    def append(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Append `values` (N, width), and return their row numbers, int64 (N,)."""
        content = memoryview(np.asarray(values, np.float16).tobytes())
        with self._position_lock, doing("write a temporary file in", self._folder):
            self._file.seek(0, os.SEEK_END)
            while content:  # an unbuffered file may take only a part of it
                content = content[self._file.write(content) :]
            first, self._row_count = self._row_count, self._row_count + len(values)
            self._in_memory = None
        return np.arange(first, self._row_count)

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return self._row_count

    def take(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return the rows of these numbers, float32 (N, width).

        A small store stays in memory. The rows of a large one are read from its file, not mapped:
        for a row of a mapped file, Linux counts up to a quarter of a megabyte around it as this
        process's memory. They are read in the order of the file, and neighbours at once. Raises
        IndexError for a row that is not there.
        """
        with self._position_lock:
            if self._row_count * self.width <= _MAX_NUMBERS_IN_MEMORY:
                return self._all()[rows]
            values = np.empty((len(rows), self.width), np.float16)
            content = _bytes_of(values)
            order = np.argsort(rows, kind="stable")
            ordered = rows[order]
            size = 2 * self.width
            is_border = np.diff(ordered) * size > _MAX_GAP_BYTES
            is_border |= np.diff(ordered * size // _READ_BYTES) > 0
            starts = np.append(0, np.flatnonzero(is_border) + 1)[: len(rows)]
            stops = np.append(starts[1:], len(rows))[: len(rows)]
            bounds = (starts, stops, ordered[starts], ordered[stops - 1], order[starts])
            file = self._file.fileno()
            for start, stop, first, last, target in zip(
                *(bound.tolist() for bound in bounds), strict=True
            ):
                if stop - start == 1:
                    # Most are such, and a call more would take half as long again.
                    place = content[target * size : (target + 1) * size]
                    if os.preadv(file, (place,), first * size) != size:
                        self._read(first, place)
                else:
                    block = np.empty((last - first + 1, self.width), np.float16)
                    self._read(first, _bytes_of(block))
                    values[order[start:stop]] = block[ordered[start:stop] - first]
        return _to_float32(values)

    def read(self, first: int, values: npt.NDArray[np.float16]) -> None:
        """Read the rows from number `first` on into `values` (N, width), at once."""
        with self._position_lock:
            self._read(first, _bytes_of(values))

    def _read(self, first: int, content: memoryview) -> None:
        place = 2 * first * self.width
        while content:  # a read may give only a part of it
            count = os.preadv(self._file.fileno(), (content,), place)
            if not count:
                raise IndexError(f"rows from {first} on, of {self._row_count}, end too early")
            content, place = content[count:], place + count

    def _all(self) -> Floats:
        """Return all rows, read once until rows are appended; the lock is held."""
        if self._in_memory is None:
            values = np.empty((self._row_count, self.width), np.float16)
            self._read(0, _bytes_of(values))
            self._in_memory = _to_float32(values)
        return self._in_memory


def _bytes_of(values: npt.NDArray[np.float16]) -> memoryview:
    """Return the bytes of `values` (N, width), to read into."""
    return values.view(np.uint8).reshape(-1).data


def _to_float32(values: npt.NDArray[np.float16]) -> Floats:
    return np.take(_FLOAT32_BY_BITS, values.view(np.uint16))
