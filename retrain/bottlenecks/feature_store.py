"""Store bottlenecks in a file without a name, and read a few rows at a time."""

import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.system.error_messages import doing

_FLOAT32_BY_BITS = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""The float32 of each float16, by its bits: a lookup takes two thirds of numpy's conversion."""
_MAX_NUMBERS_IN_MEMORY = 1 << 24
"""64 MiB of float32, 13,000 bottlenecks of 1,280. A store of up to so many is read only once."""

Floats = npt.NDArray[np.float32]


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

    def take(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return the rows of these numbers, float32 (N, width).

        A small store stays in memory. The rows of a large one are read from its file, not mapped:
        for a row of a mapped file, Linux counts up to a quarter of a megabyte around it as this
        process's memory. Raises IndexError for a row that is not there.
        """
        with self._position_lock:
            if self._row_count * self.width <= _MAX_NUMBERS_IN_MEMORY:
                return self._all()[rows]
            size = 2 * self.width
            values = np.empty((len(rows), self.width), np.float16)
            for target, row in zip(values, rows.tolist(), strict=True):
                self._file.seek(row * size)
                if self._file.readinto(target.data) != size:
                    raise IndexError(f"no row {row} of {self._row_count}")
        return _to_float32(values)

    def _all(self) -> Floats:
        """Return all rows, read once until rows are appended; the lock is held."""
        if self._in_memory is None:
            content = bytearray(2 * self.width * self._row_count)
            self._file.seek(0)
            if self._file.readinto(content) != len(content):
                raise IndexError(f"fewer than {self._row_count} rows")
            values = np.frombuffer(content, np.float16).reshape(-1, self.width)
            self._in_memory = _to_float32(values)
        return self._in_memory


def _to_float32(values: npt.NDArray[np.float16]) -> Floats:
    return np.take(_FLOAT32_BY_BITS, values.view(np.uint16))
