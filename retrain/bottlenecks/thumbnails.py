"""Keep a small picture of each photo, by which its copies of other sizes are found."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from retrain import parallel
from retrain.bottlenecks.cache import Cache, DamagedShards, Row
from retrain.bottlenecks.feature_store import Matrix
from retrain.data import photo_pixels
from retrain.data.photo_folder import Photo
from retrain.progress import Progress

SIDE = 8
"""Pixels of a picture's side: so few that a copy of 100 pixels gives nearly the same ones."""
_VERSION = f"rgb-{SIDE}x{SIDE}-1"
_SHARD = 1024


def picture(image: Image.Image, side: int = SIDE) -> npt.NDArray[np.float32]:
    """Return the whole of an RGB `image` as float32 (side * side * 3,) of 0..255."""
    small = image.resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1)


class Pictures:
    """The pictures of photos, in a cache below `folder`; threads may add to it."""

    def __init__(self, folder: Path) -> None:
        self._cache = Cache(folder / _VERSION, SIDE * SIDE * 3)
        self._rows: list[Row] = []
        self._lock = threading.Lock()

    def add(self, digest: bytes, image: Image.Image) -> None:
        """Keep the picture of a decoded photo."""
        row = Row(digest, 0, None, picture(image).astype(np.float16))
        with self._lock:
            self._rows.append(row)
            full, self._rows = (self._rows, []) if len(self._rows) >= _SHARD else ([], self._rows)
        self._write(full)

    def flush(self) -> None:
        """Write what was added."""
        rows, self._rows = self._rows, []
        self._write(rows)

    def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            with suppress(OSError):  # the search for copies says how many pictures there are not
                self._cache.add(rows)

    def load(
        self, photos: Sequence[Photo], progress: Progress
    ) -> tuple[Matrix, npt.NDArray[np.int64], list[Photo]]:
        """Return the pictures, the row of each photo that can be read, and these photos.

        Photos that have no picture, since another version analysed them, are decoded.
        """
        while True:
            try:
                known = self._cache.known()
                missing = [photo for photo in photos if (photo.digest, 0) not in known]
                if missing:
                    self._decode(missing, progress)
                    known = self._cache.known()
                good = [photo for photo in photos if (photo.digest, 0) in known]
                matrix = Matrix(self._cache.width, self._cache.folder)
                return matrix, self._cache.load([(p.digest, 0) for p in good], matrix), good
            except DamagedShards as error:
                progress.warn(f"{error}; their pictures are made again")

    def _decode(self, photos: Sequence[Photo], progress: Progress) -> None:
        def call(_tool: None, photo: Photo) -> None:
            if image := decode(photo):
                self.add(photo.digest, image)

        with progress.bar("pictures", len(photos), "photos") as advance:
            parallel.run_in_order(photos, lambda: None, call, advance)
        self.flush()


def decode(photo: Photo) -> Image.Image | None:
    """Return the photo, a large JPEG at a smaller scale, or None if it cannot be read any more."""
    try:
        return photo_pixels.decode(photo, InputSpec(64, 64, None, 0, 1))
    except BadData:
        return None
