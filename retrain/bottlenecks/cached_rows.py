"""Hold the rows of a cache that a caller asks for, as far as they are known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retrain.bottlenecks.feature_store import FeatureStore

Key = tuple[bytes, int]
"""A photo's digest, and the number of a view."""
COLUMNS = ["digest", "view", "status", "error", "bottleneck"]


class Row(NamedTuple):
    """The bottleneck of a view, float16 (width,), or the reason why it has none."""

    digest: bytes
    view: int
    error: str | None
    bottleneck: npt.NDArray[np.float16] | None


class CachedRows:
    """The rows of `keys`, as far as they are known; their bottlenecks are in `store`.

    `rows` is int64 (N,): the number in `store` of each key's bottleneck, -1 without one. `errors`
    holds the reason by the number of the key. `damaged` names the shards that were set aside.
    """

    def __init__(self, keys: Sequence[Key], store: FeatureStore) -> None:
        self.store = store
        self.rows = np.full(len(keys), -1)
        self.errors: dict[int, str] = {}
        self.damaged: list[str] = []
        self._number_of = {key: number for number, key in enumerate(keys)}

    def missing(self) -> npt.NDArray[np.int64]:
        """Return the numbers of the keys that have neither a bottleneck nor an error."""
        missing = self.rows < 0
        missing[list(self.errors)] = False
        return np.flatnonzero(missing)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows; those of other keys are ignored, and a key's last row counts."""
        numbers, bottlenecks = [], []
        for row in rows:
            number = self._number_of.get((row.digest, row.view))
            if number is None:
                continue
            if row.bottleneck is None:
                self._set_error(number, str(row.error))
            else:
                numbers.append(number)
                bottlenecks.append(row.bottleneck)
        if numbers:
            self._set_bottlenecks(numbers, np.stack(bottlenecks))

    def add_table(self, table: pa.Table) -> None:
        """Add the rows of a shard, as `add` does."""
        columns = (table[name].to_pylist() for name in COLUMNS[:4])
        usable: list[int] = []
        for digest, view, status, error in zip(*columns, strict=True):
            number = self._number_of.get((digest, view), -1)
            if status == "ok":
                usable.append(number)
            elif number >= 0:
                self._set_error(number, error)
        sources = [source for source, number in enumerate(usable) if number >= 0]
        if sources:
            # `flatten` leaves out the nulls of bad rows.
            values = table["bottleneck"].combine_chunks().flatten().to_numpy()
            values = values.reshape(-1, self.store.width)[sources]
            self._set_bottlenecks([usable[source] for source in sources], values)

    def _set_error(self, number: int, reason: str) -> None:
        self.rows[number] = -1
        self.errors[number] = reason

    def _set_bottlenecks(self, numbers: list[int], values: npt.NDArray[np.float16]) -> None:
        self.rows[numbers] = self.store.append(values)
        for number in self.errors.keys() & set(numbers):
            del self.errors[number]
