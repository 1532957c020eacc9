"""Measure what the photo files of a run are: formats, sizes in pixels and in bytes."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

from retrain import parallel
from retrain.data.photo import Photo
from retrain.data.remote_path import read_photo

_MAX_FILES = 2000
"""Files that are opened; of more photos, evenly spaced ones."""


class FileFacts(NamedTuple):
    """A photo's format, sides in pixels, and size in bytes."""

    photo: Photo
    format: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class PhotoFacts:
    """The facts of the files that were opened, in order of their pixels, of `total` photos."""

    files: tuple[FileFacts, ...]
    total: int

    @property
    def formats(self) -> dict[str, list[Photo]]:
        """The photos of each format, the most frequent first."""
        counts = Counter(file.format for file in self.files)
        return {
            name: [file.photo for file in self.files if file.format == name]
            for name, _ in counts.most_common()
        }


def measure(photos: Sequence[Photo]) -> PhotoFacts:
    """Return the facts of the photos, of many those of evenly spaced ones.

    Only the heads of files are read. A file that cannot be opened has no facts.
    """
    chosen = photos[:: -(-len(photos) // _MAX_FILES) or 1]
    facts = parallel.run_in_order(
        chosen, lambda: None, lambda _, photo: _read(photo), lambda _: None
    )
    files = sorted(
        (fact for fact in facts if fact), key=lambda fact: (fact.width * fact.height, fact.bytes)
    )
    return PhotoFacts(tuple(files), len(photos))


def _read(photo: Photo) -> FileFacts | None:
    """Return the facts of a file; None if it cannot be opened."""
    try:
        with _open(photo) as stream, Image.open(stream) as image:
            size = stream.seek(0, io.SEEK_END)
            return FileFacts(photo, image.format or "", image.width, image.height, size)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _open(photo: Photo) -> IO[bytes]:
    if isinstance(photo.path, Path):
        return photo.path.open("rb")
    return io.BytesIO(read_photo(photo.path))
