"""Bottlenecks of any number: in a file without a name, read a few rows at a time."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_RESIDENT = 256 * 1024**2
"""About how many bytes of the file are let into this process's memory before they are let go."""
_AROUND = 64 * 1024
"""Linux maps so many bytes around one that is touched (fault_around_bytes in its debugfs)."""
_FLOATS = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""Each float16 as float32, by its bits: to look it up takes two thirds of numpy's conversion."""


class Matrix:
    """float16 (rows, width): appended first, then read; the file goes when the process does."""

    def __init__(self, width: int, folder: Path | None = None) -> None:
        """Keep the rows on the disk of `folder` if one can write there, else the system's own.

        A folder for temporary files is often memory, where a million rows have no room.
        """
        self.width = width
        writable = folder is not None and os.access(folder, os.W_OK)
        self._file = tempfile.TemporaryFile(dir=folder if writable else None)  # noqa: SIM115
        self._map: mmap.mmap | None = None
        self._rows = 0
        self._touched = 0

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "Matrix":
        """Return the matrix that holds `values` (rows, width)."""
        matrix = cls(values.shape[1])
        matrix.append(values)
        return matrix

    def append(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Add `values` (N, width), and return the numbers of their rows, int64 (N,)."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(np.ascontiguousarray(values, np.float16).data)
        first, self._rows = self._rows, self._rows + len(values)
        self._map = None
        return np.arange(first, self._rows)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the rows of these numbers, float32 (N, width).

        The pages that were read count as this process's memory until they are given back, which
        costs nothing but finding them again in the system's cache.
        """
        if not len(rows):
            return np.empty((0, self.width), np.float32)
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        values = np.frombuffer(self._map, np.float16).reshape(self._rows, self.width)[rows]
        self._touched += len(rows) * (2 * self.width + _AROUND)
        if self._touched > _RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return np.take(_FLOATS, values.view(np.uint16))
