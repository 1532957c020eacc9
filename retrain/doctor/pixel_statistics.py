"""Measure what a photo looks like: size, brightness, sharpness, colour, and when it was taken."""

import io
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageStat

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image, sniff
from retrain.bottlenecks.thumbnails import PhotoCache, Values
from retrain.data.photo import Photo

_FOLDER = "statistics-1"
"""Another name for each change of what is measured."""
_SIDE = 256
"""The longest side in pixels of the picture that is measured, near that of networks."""
_DECODED = InputSpec(_SIDE, _SIDE, None, 0, 1)
_DARK_PERCENT, _BRIGHT_PERCENT = 5, 99
_DETAIL_PERCENT = 99.5
_EXIF, _ORIENTATION, _TAKEN, _CHANGED = 0x8769, 0x0112, 0x9003, 0x0132
_WITH_EXIF = ("JPEG", "HEIC")
"""The formats whose EXIF data is read without decoding the picture."""
_MAX_FLOAT16 = 65_504


class PixelStatistics(NamedTuple):
    """The measures of N photos, float32 (N,) each.

    `width` and `height` are those of the file, in pixels, `orientation` its EXIF value, 1 if it is
    upright. Levels are of 0..255: 99% of the pixels are darker than `bright_level`, and 5% darker
    than `dark_level`. `entropy` is that of the grey levels, in bits. `sharpness` is the size of the
    strongest fine details, as a share of the range of the levels. `colour` is the mean difference
    of two channels, in levels.
    """

    width: Values
    height: Values
    orientation: Values
    dark_level: Values
    bright_level: Values
    entropy: Values
    sharpness: Values
    colour: Values


_WIDTH = 8 + 6
"""The numbers of a photo: those above, and year to second of when it was taken, or zeros."""


def statistics_cache(folder: Path) -> PhotoCache:
    """Return the cache of the statistics of photos, below `folder`."""
    return PhotoCache(folder / _FOLDER, _WIDTH, _measure, "photo statistics")


def unpack(rows: npt.NDArray[np.float32]) -> PixelStatistics:
    """Return the statistics in the rows (N, width) of the cache."""
    return PixelStatistics._make(rows[:, :8].T)


def times(rows: npt.NDArray[np.float32]) -> list[datetime | None]:
    """Return when each photo of the rows was taken, by the camera's clock; None if unknown."""
    return [_time(numbers) for numbers in rows[:, 8:].astype(int).tolist()]


def _measure(photo: Photo) -> Values | None:
    """Return the numbers of a photo; None if it can no longer be read."""
    try:
        content = photo.read()
        image = open_image(content, _DECODED)
    except BadData:
        return None
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    width, height, orientation, time = _header(content)
    grey = image.convert("L")
    dark, bright = _level_at(grey, _DARK_PERCENT), _level_at(grey, _BRIGHT_PERCENT)
    values = (
        *(width or image.width, height or image.height, orientation),
        *(dark, bright, grey.entropy(), _sharpness(grey), _colour(image)),
        *(time.timetuple()[:6] if time else (0,) * 6),
    )
    return np.minimum(np.array(values, np.float32), _MAX_FLOAT16)


def _header(content: bytes) -> tuple[int, int, int, datetime | None]:
    """Return width, height, EXIF orientation and time of a file; 0, 0, 1 and None if not there."""
    width = height = 0
    orientation, time = 1, None
    form = sniff(content[:1024]) or ""
    with suppress(Exception):  # Pillow raises many kinds on odd headers, and the photo is usable
        image: Any = Image.open(io.BytesIO(content), formats=None if form == "HEIC" else [form])
        width, height = image.size
        if form in _WITH_EXIF:
            exif = image.getexif()
            orientation = int(exif.get(_ORIENTATION, 1))
            text = exif.get_ifd(_EXIF).get(_TAKEN) or exif.get(_CHANGED)
            time = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    return width, height, orientation if orientation in range(2, 9) else 1, time


def _time(numbers: list[int]) -> datetime | None:
    with suppress(ValueError):
        return datetime(*numbers)  # type: ignore[arg-type]
    return None


def _sharpness(grey: Image.Image) -> float:
    """Return the size of the strongest fine details, as a share of the range of the levels."""
    if min(grey.size) < 2:
        return 1.0
    coarse = grey.reduce(2).resize(grey.size, Image.Resampling.BICUBIC)
    detail = _level_at(ImageChops.difference(grey, coarse), _DETAIL_PERCENT)
    return detail / max(_level_at(grey, 99) - _level_at(grey, 1), 2)


def _level_at(grey: Image.Image, percent: float) -> int:
    """Return the least level that so many percent of the pixels do not exceed."""
    return int(
        np.searchsorted(np.cumsum(grey.histogram()), percent / 100 * grey.width * grey.height)
    )


def _colour(image: Image.Image) -> float:
    """Return the mean difference of two channels, in levels of 0..255."""
    red, green, blue = image.split()
    pairs = ((red, green), (green, blue), (blue, red))
    return float(np.mean([ImageStat.Stat(ImageChops.difference(*pair)).mean[0] for pair in pairs]))
