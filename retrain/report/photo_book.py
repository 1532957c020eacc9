"""Collect the photos that a page shows, in galleries, each with one small picture at most."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any

from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image
from deploy.system.terminal import printable
from retrain import parallel
from retrain.data.photo import Photo, shown
from retrain.data.remote_path import PhotoPath, read_photo
from retrain.predictions import Prediction

MAX_IN_GALLERY = 200
_MAX_PICTURES = 400
_MAX_PICTURE_BYTES = 3_400_000
"""Of all pictures, in base64: with maps and plots the page stays below 6 MB."""
_SIDE = 150
"""Pixels of a picture's longer side."""
_QUALITY = 62


@dataclass(frozen=True)
class Gallery:
    """Photos behind a figure, as numbers of the book; `total` counts those left out too."""

    title: str
    numbers: tuple[int, ...]
    total: int


@dataclass
class PhotoBook:
    """The photos of a page, in the order in which they were added.

    Paths below `root` are shown without it.
    """

    root: PhotoPath
    photos: list[Photo] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    _on_page: list[int] = field(default_factory=list)
    _number_of: dict[str, int] = field(default_factory=dict)
    _split_of: dict[str, str] = field(default_factory=dict)
    _predictions: dict[str, Prediction] = field(default_factory=dict)

    def know(self, manifest: Iterable[tuple[Photo, str]], rows: Iterable[Prediction]) -> None:
        """Remember the split of each photo of `manifest`, and the predictions, to show both."""
        self._split_of = {shown(photo.path): name for photo, name in manifest}
        self._predictions = {row.path: row for row in rows}

    def show(self, photo: Photo) -> int:
        """Return the number of a photo that the page shows outside of galleries."""
        number = self._add(photo)
        self._on_page.append(number)
        return number

    def _add(self, photo: Photo) -> int:
        key = shown(photo.path.absolute())
        if key not in self._number_of:
            self._number_of[key] = len(self.photos)
            self.photos.append(photo)
        return self._number_of[key]

    def gallery(self, title: str, photos: Sequence[Photo]) -> int | None:
        """Return the number of a new gallery of `photos`; None without any."""
        if not photos:
            return None
        numbers = tuple(self._add(photo) for photo in photos[:MAX_IN_GALLERY])
        self.galleries.append(Gallery(title, numbers, len(photos)))
        return len(self.galleries) - 1

    def name(self, path: PhotoPath) -> str:
        """Return the path as the page shows it: characters that hide or move text are escaped."""
        absolute = path.absolute()
        below = absolute.is_relative_to(self.root)
        return printable(shown(absolute.relative_to(self.root) if below else absolute))

    def to_json(self) -> dict[str, Any]:
        """Return photos and galleries for the page's program, with the pictures.

        Photos on the page get pictures first, then the first of every gallery, as many as fit.
        """
        pictures = dict(_draw([self.photos[number] for number in self._by_importance()]))
        return {
            "photos": [self._photo(photo, pictures) for photo in self.photos],
            "galleries": [
                {
                    "title": printable(gallery.title),
                    "photos": gallery.numbers,
                    "total": gallery.total,
                }
                for gallery in self.galleries
            ],
        }

    def _by_importance(self) -> list[int]:
        rounds = zip_longest(*(gallery.numbers for gallery in self.galleries))
        in_turn = (number for members in rounds for number in members if number is not None)
        return list(islice(dict.fromkeys(chain(self._on_page, in_turn)), _MAX_PICTURES))

    def _photo(self, photo: Photo, pictures: dict[Photo, str]) -> dict[str, Any]:
        key = shown(photo.path.absolute())
        row = self._predictions.get(key)
        values: dict[str, Any] = {
            "name": self.name(photo.path),
            "link": photo.path.absolute().as_uri(),
            "label": printable(photo.label),
            "split": self._split_of.get(key, ""),
        }
        if row:
            values["predicted"] = printable(row.predicted)
            values["probability"] = round(row.probability, 3)
            values["own"] = round(row.label_probability, 3)
        if photo in pictures:
            values["picture"] = pictures[photo]
        return values


def _draw(photos: Sequence[Photo]) -> Iterator[tuple[Photo, str]]:
    """Yield photos with their pictures, as data URIs, until they are too many bytes."""
    total = 0
    pictures = parallel.run_in_order(
        photos, lambda: None, lambda _, photo: picture(photo), lambda _: None
    )
    for photo, uri in zip(photos, pictures, strict=True):
        total += len(uri or "")
        if uri and total <= _MAX_PICTURE_BYTES:
            yield photo, uri


def picture(photo: Photo) -> str | None:
    """Return a small picture of the photo as a data URI; None if it cannot be read."""
    image = small(photo, _SIDE)
    return None if image is None else data_uri(image)


def small(photo: Photo, side: int) -> Image.Image | None:
    """Return the photo with a longer side of at most `side` pixels; None if it cannot be read."""
    try:
        image = open_image(read_photo(photo.path), InputSpec(side, side, None, 0, 1))
    except (OSError, BadData):
        return None
    image.thumbnail((side, side))
    return image


def data_uri(image: Image.Image) -> str:
    """Return an RGB image as a JPEG in a data URI."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
