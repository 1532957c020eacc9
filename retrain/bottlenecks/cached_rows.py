"""Hold the rows of a cache that a caller asks for, as far as they are known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.digest_index import Bytes, DigestIndex, Numbers, of_bytes, of_column

COLUMNS = ["digest", "view", "status", "error", "bottleneck"]


class Row(NamedTuple):
    """The bottleneck of a view, float16 (width,), or the reason why it has none."""

    digest: bytes
    view: int
    error: str | None
    bottleneck: npt.NDArray[np.float16] | None


class CachedRows:
    """The rows of photos with `digests`, uint8 (N, 32), and of `views` of each, as far as known.

    `rows` is int64 (N * len(views),), photo by photo: the number in `store` of each view's
    bottleneck, -1 without one. `errors` holds the reason by the place in `rows`. `damaged` names
    the shards that were set aside. Beside `rows` it takes 16 bytes a photo: the digests in order.
    """

    def __init__(self, digests: Bytes, views: range, store: FeatureStore) -> None:
        self.store = store
        self.rows = np.full(len(digests) * len(views), -1)
        self.errors: dict[int, str] = {}
        self.damaged: list[str] = []
        self._views = views
        self._index = DigestIndex(digests)
        first = self._index.first()
        self._twins = {
            leader: np.flatnonzero(first == leader)
            for leader in np.unique(first[self._index.order[self._index.repeats]]).tolist()
        }

    def missing(self) -> Numbers:
        """Return the places in `rows` that have neither a bottleneck nor an error."""
        missing = self.rows < 0
        missing[list(self.errors)] = False
        return np.flatnonzero(missing)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows; those of other photos and views are ignored, and a view's last row counts."""
        if not rows:
            return
        digests = of_bytes([row.digest for row in rows])
        sources, places = self._find(digests, np.array([row.view for row in rows]))
        is_usable = np.array([row.bottleneck is not None for row in rows])[sources]
        for source, place in zip(sources[~is_usable], places[~is_usable].tolist(), strict=True):
            self._set_error(place, str(rows[source].error))
        values = [rows[source].bottleneck for source in sources[is_usable]]
        if values:
            self._set_bottlenecks(places[is_usable], np.stack(values))

    def add_table(self, table: pa.Table) -> None:
        """Add the rows of a shard, as `add` does."""
        sources, places = self._find(of_column(table["digest"]), table["view"].to_numpy())
        is_usable = pc.equal(table["status"], "ok").to_numpy().astype(bool)
        is_bad = ~is_usable[sources]
        if is_bad.any():
            errors = table["error"].take(pa.array(sources[is_bad])).to_pylist()
            for place, error in zip(places[is_bad].tolist(), errors, strict=True):
                self._set_error(place, error)
        if not is_bad.all():
            # `flatten` leaves out the nulls of bad rows.
            values = table["bottleneck"].combine_chunks().flatten().to_numpy()
            lines = (np.cumsum(is_usable) - 1)[sources[~is_bad]]
            values = values.reshape(-1, self.store.width)[lines]
            self._set_bottlenecks(places[~is_bad], values)

    def _find(self, digests: Bytes, views: npt.NDArray[np.integer]) -> tuple[Numbers, Numbers]:
        """Return which of these rows are asked for, and the place of each in `rows`."""
        photos = self._index.find(digests)
        sources = np.flatnonzero(
            (photos >= 0) & (views >= self._views.start) & (views < self._views.stop)
        )
        photos = photos[sources]
        if self._twins:
            members = [self._twins.get(photo, [photo]) for photo in photos.tolist()]
            sources = np.repeat(sources, [len(group) for group in members])
            photos = np.concatenate([photos[:0], *members])
        return sources, photos * len(self._views) + views[sources] - self._views.start

    def _set_error(self, place: int, reason: str) -> None:
        self.rows[place] = -1
        self.errors[place] = reason

    def _set_bottlenecks(self, places: Numbers, values: npt.NDArray[np.float16]) -> None:
        self.rows[places] = self.store.append(values)
        if self.errors:
            for place in self.errors.keys() & set(places.tolist()):
                del self.errors[place]
