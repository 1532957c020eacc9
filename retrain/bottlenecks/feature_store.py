"""Bottlenecks of any number: in a file without a name, read a few rows at a time."""

import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.system.error_messages import doing

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
        self._folder = Path(folder if folder and writable else tempfile.gettempdir())
        with doing("write a temporary file in", self._folder):
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._place = threading.Lock()
        self._rows = 0

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "Matrix":
        """Return the matrix that holds `values` (rows, width)."""
        matrix = cls(values.shape[1])
        matrix.append(values)
        return matrix

    def append(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Add `values` (N, width), and return the numbers of their rows, int64 (N,)."""
        content = memoryview(np.asarray(values, np.float16).tobytes())
        with doing("write a temporary file in", self._folder):
            self._file.seek(0, os.SEEK_END)
            while content:  # an unbuffered file may take less than all of it
                content = content[self._file.write(content) :]
        first, self._rows = self._rows, self._rows + len(values)
        return np.arange(first, self._rows)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the rows of these numbers, float32 (N, width).

        They are read, not mapped: for a row of a mapped file, Linux counts up to a quarter of a
        megabyte around it as this process's memory.
        """
        size = 2 * self.width
        found = np.empty((len(rows), self.width), np.float16)
        with self._place:
            for values, row in zip(found, rows.tolist(), strict=True):
                self._file.seek(row * size)
                if self._file.readinto(values.data) != size:
                    raise IndexError(f"no row {row} of {self._rows}")
        return np.take(_FLOATS, found.view(np.uint16))
