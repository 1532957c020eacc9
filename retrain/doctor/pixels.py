"""Find photos that are tiny, long, dark, bright, blurred, empty, grey or turned, by statistics."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.system.counts import with_noun
from retrain.data.photo import Photo
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.doctor.pixel_statistics import PixelStatistics, statistics_cache, unpack

# Of 1,000 flowers and 2,223 solar cells, four are dark by these limits, and one is bright.
_MAX_DARK_LEVEL, _MIN_BRIGHT_LEVEL = 50, 215
_MAX_SIDE_RATIO = 3.0
_MIN_SIDE_SHARE = 0.5
"""Of the network's input: with fewer pixels on a side, a photo is enlarged more than twice."""
_MIN_ENTROPY = 3.0
_MIN_SHARPNESS, _MIN_SHARPNESS_SHARE = 0.06, 0.3
"""The least sharpness, and its least share of the median: all pictures of some cameras are soft."""
_MAX_GREY_COLOUR = 1.0
_MAX_GREY_SHARE = 0.2
"""If more photos than that are grey, grey is usual."""
_ORIENTATIONS = {
    2: "mirrored",
    3: "upside down",
    4: "mirrored and upside down",
    5: "mirrored and on its side",
    6: "on its side",
    7: "mirrored and on its side",
    8: "on its side",
}
_REMEDY = "Look at them, and set aside those in which you do not recognise the class yourself."

KINDS = (
    "tiny",
    "odd-shape",
    "dark",
    "bright",
    "blurred",
    "low-information",
    "greyscale",
    "turned",
)


def find_unusual(examination: Examination) -> Sequence[Finding]:
    """Return the photos whose pixels are unusual, the most unusual of each kind first."""
    data = examination.data
    cache = statistics_cache(examination.source.pictures)
    store, rows, photos = cache.load(data.dataset.photos, examination.progress)
    if not photos:
        return []
    measures = unpack(store.take(rows))
    spec = data.backbone.spec
    findings = [
        *_by_size(photos, measures, min(spec.height, spec.width)),
        *_by_levels(photos, measures),
        *_by_detail(photos, measures),
        _turned(photos, measures),
    ]
    return [finding for finding in findings if finding.photos]


def _by_size(photos: Sequence[Photo], measures: PixelStatistics, side: int) -> list[Finding]:
    width, height = measures.width, measures.height
    shorter = np.minimum(width, height)
    ratio = np.maximum(width, height) / np.maximum(shorter, 1)

    def size(i: int) -> str:
        return f"{width[i]:.0f}x{height[i]:.0f} pixels"

    tiny = _select(photos, shorter < _MIN_SIDE_SHARE * side, shorter, size)
    long = _select(photos, ratio >= _MAX_SIDE_RATIO, -ratio, size)
    return [
        Finding(
            "tiny",
            with_noun(len(tiny), "tiny photo"),
            f"The network takes {side} pixels: these photos are enlarged more than twice, and "
            "details are missing.",
            "Get them in their full size, or set them aside if the device sees sharper ones.",
            tiny,
        ),
        Finding(
            "odd-shape",
            f"{with_noun(len(long), 'photo')} of {_MAX_SIDE_RATIO:g} to 1 or longer",
            "The network takes squares: such photos are squeezed, or their ends are cut off.",
            "Cut them to what they should show.",
            long,
        ),
    ]


def _by_levels(photos: Sequence[Photo], measures: PixelStatistics) -> list[Finding]:
    def share(level: float) -> str:
        return f"{100 * level / 255:.0f}% of white"

    dark = _select(
        photos,
        measures.bright_level < _MAX_DARK_LEVEL,
        measures.bright_level,
        lambda i: f"nearly all pixels are below {share(measures.bright_level[i])}",
    )
    bright = _select(
        photos,
        measures.dark_level > _MIN_BRIGHT_LEVEL,
        -measures.dark_level,
        lambda i: f"nearly all pixels are above {share(measures.dark_level[i])}",
    )
    is_grey = measures.colour < _MAX_GREY_COLOUR
    is_unusual = is_grey & (is_grey.mean() <= _MAX_GREY_SHARE)
    grey = _select(photos, is_unusual, measures.colour, lambda _: "without colour")
    return [
        Finding(
            "dark",
            with_noun(len(dark), "nearly black photo"),
            "They show little that could be learned.",
            _REMEDY,
            dark,
        ),
        Finding(
            "bright",
            with_noun(len(bright), "nearly white photo"),
            "They show little that could be learned.",
            _REMEDY,
            bright,
        ),
        Finding(
            "greyscale",
            f"{with_noun(len(grey), 'grey photo')} among photos in colour",
            _share_of_one_class(grey),
            "Keep them if the device sees such pictures, and set them aside if it does not.",
            grey,
        ),
    ]


def _by_detail(photos: Sequence[Photo], measures: PixelStatistics) -> list[Finding]:
    sharpness, entropy = measures.sharpness, measures.entropy
    usual = float(np.median(sharpness))
    limit = min(_MIN_SHARPNESS, _MIN_SHARPNESS_SHARE * usual)
    blurred = _select(
        photos,
        (sharpness < limit) & (entropy >= _MIN_ENTROPY),
        sharpness,
        lambda i: f"its sharpest edges are {100 * sharpness[i] / usual:.0f}% as sharp as usual",
    )
    empty = _select(
        photos,
        entropy < _MIN_ENTROPY,
        entropy,
        lambda i: (
            f"its grey levels hold {entropy[i]:.1f} bits a pixel; usual are "
            f"{np.median(entropy):.1f}"
        ),
    )
    return [
        Finding(
            "blurred",
            with_noun(len(blurred), "blurred photo"),
            "The model learns less from what is out of focus or moved.",
            f"{_REMEDY} Keep them if the device sees such pictures.",
            blurred,
        ),
        Finding(
            "low-information",
            with_noun(len(empty), "nearly empty photo"),
            "Nearly all of their pixels are of the same few levels.",
            _REMEDY,
            empty,
        ),
    ]


def _share_of_one_class(grey: Sequence[FindingPhoto]) -> str:
    """Return in words how many grey photos are of the most frequent class, and what that risks."""
    ((label, count),) = Counter(photo.label for photo in grey).most_common(1) or [("", 0)]
    return (
        f"{count:,} of them {'is' if count == 1 else 'are'} of {label}: if they are mostly of one "
        "class, the model learns that grey is that class."
    )


def _turned(photos: Sequence[Photo], measures: PixelStatistics) -> Finding:
    orientation = measures.orientation
    turned = _select(
        photos,
        orientation > 1,
        orientation,
        lambda i: f"stored {_ORIENTATIONS[int(orientation[i])]}",
    )
    return Finding(
        "turned",
        f"{with_noun(len(turned), 'photo')} turned upright by EXIF data",
        "They are stored as the camera was held. Training, `retrain label` and the device turn "
        "them upright; a program that ignores EXIF data does not.",
        "There is nothing to do for retrain.",
        turned,
    )


def _select(
    photos: Sequence[Photo],
    is_unusual: npt.NDArray[np.bool_],
    order: npt.NDArray[Any],
    reason: Callable[[int], str],
) -> tuple[FindingPhoto, ...]:
    """Return the unusual photos, those with the smallest number of `order` first."""
    numbers = np.flatnonzero(is_unusual)
    numbers = numbers[np.argsort(order[numbers], kind="stable")]
    return tuple(FindingPhoto(photos[i].path, photos[i].label, reason(i)) for i in numbers.tolist())
