"""Cache numbers of each photo: its thumbnail, by which its copies are found."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from retrain import parallel
from retrain.bottlenecks.cache import Cache
from retrain.bottlenecks.cached_rows import CachedRows, Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data import photo_pixels
from retrain.data.photo import Photo
from retrain.data.photo_table import PhotoTable
from retrain.progress import Progress

SIDE = 8
"""Side of a thumbnail in pixels: so few that a copy of 100 pixels gives nearly the same ones."""
WIDTH = SIDE * SIDE * 3
_FORMAT = f"rgb-{SIDE}x{SIDE}-1"
_SHARD_ROWS = 1024
_DECODED = InputSpec(64, 64, None, 0, 1)
"""Photos are decoded for this size, a large JPEG at a smaller scale."""

Values = npt.NDArray[np.float32]


def thumbnail(
    image: Image.Image,
    side: int = SIDE,
    box: tuple[float, float, float, float] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the RGB `image` squashed to a square: float32 (side * side * 3,) of 0..255.

    `box` is left, top, right and bottom, in pixels, of the part to take; None is the whole.
    """
    small = image.resize((side, side), Image.Resampling.BOX, box)
    return np.asarray(small, np.float32).reshape(-1)


def decode(photo: Photo) -> Image.Image | None:
    """Return the photo large enough for a thumbnail; None if it can no longer be read."""
    try:
        return photo_pixels.decode(photo, _DECODED)
    except BadData:
        return None


class PhotoCache:
    """Numbers that are computed of each photo, `width` of them in float16, in a cache `folder`.

    `compute` returns them; None for a photo that can no longer be read. The values change only
    with the folder's name. `what` names the numbers in a message.
    """

    def __init__(
        self, folder: Path, width: int, compute: Callable[[Photo], Values | None], what: str
    ) -> None:
        self._cache = Cache(folder, width, {})
        self._compute = compute
        self._what = what

    def load(
        self, photos: Sequence[Photo], progress: Progress
    ) -> tuple[FeatureStore, npt.NDArray[np.int64], PhotoTable]:
        """Return the numbers, the row of each photo that can be read, and these photos.

        Those that are not in the cache are computed.
        """
        photos = PhotoTable.of(photos)
        store = FeatureStore(self._cache.width, self._cache.folder)
        cached = self._cache.load(photos.digests, range(1), store)
        if cached.damaged:
            progress.warn(
                f"{self._cache.folder}: damaged, set aside: {', '.join(cached.damaged)}; "
                f"their {self._what} are made again"
            )
        missing = cached.missing()
        if len(missing):
            self._add_missing(photos.take(missing), cached, progress)
        is_readable = cached.rows >= 0
        return store, cached.rows[is_readable], photos.take(is_readable)

    def _add_missing(self, photos: Sequence[Photo], cached: CachedRows, progress: Progress) -> None:
        """Add the numbers of `photos` to `cached`, and to the cache."""

        def make_row(_tool: None, photo: Photo) -> Row | None:
            values = self._compute(photo)
            return None if values is None else _row(photo.digest, values)

        rows: list[Row] = []
        with progress.bar(self._what, len(photos), "photos") as advance:
            for row in parallel.run(photos, lambda: None, make_row):
                advance(1)
                if row:
                    rows.append(row)
                if len(rows) == _SHARD_ROWS:
                    cached.add(rows)
                    self._write(rows)
                    rows = []
        cached.add(rows)
        self._write(rows)

    def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            with suppress(OSError):  # without a cache, `load` computes them again
                self._cache.add(rows)


class ThumbnailCache(PhotoCache):
    """The thumbnails of photos, in a cache below `folder`. Any thread may add thumbnails."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / _FORMAT, WIDTH, _compute, "thumbnails")
        self._rows: list[Row] = []
        self._lock = threading.Lock()

    def add(self, digest: bytes, image: Image.Image) -> None:
        """Add the thumbnail of a decoded photo; every 1024 are written as a shard."""
        row = _row(digest, thumbnail(image))
        with self._lock:
            self._rows.append(row)
            full, self._rows = (
                (self._rows, []) if len(self._rows) >= _SHARD_ROWS else ([], self._rows)
            )
        self._write(full)

    def flush(self) -> None:
        """Write the thumbnails that are not written yet."""
        rows, self._rows = self._rows, []
        self._write(rows)


def _compute(photo: Photo) -> Values | None:
    image = decode(photo)
    return None if image is None else thumbnail(image)


def _row(digest: bytes, values: Values) -> Row:
    return Row(digest, 0, None, values.astype(np.float16))
