"""Find photos that look the same as a photo in another split, such as resized copies."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrain import parallel
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.thumbnails import ThumbnailCache, decode, thumbnail
from retrain.data.folder_layout import TRAINING
from retrain.data.photo_folder import Photo, shown
from retrain.progress import Progress

_MIN_CORRELATION = 0.985
"""Between the thumbnails of a photo and its copy: at least 0.993 in 3,000 copies of flowers."""
_MAX_DIFFERENCE = 9.0
"""Root mean square difference of these thumbnails, in levels of 0..255: at most 6.0 in those."""
_MAX_COPIES = 8
_MAX_DIFFERENCE_SHARE = 0.5
"""Largest share of this difference in the one to the photo that is the ninth nearest: parts of
one product look alike without being copies, and then many of them do."""
_DETAIL_SIDE = 32
"""Side in pixels of the pictures that confirm a candidate."""
_MIN_DETAIL_CORRELATION = 0.95
_MAX_ASPECT_DIFFERENCE = 0.03
"""Difference of the logarithms of the aspect ratios, beside the rounding to whole pixels."""
_GROUP_SIZE = 2048
"""From about twice as many photos on, only photos of one group are compared."""
_BLOCK_CORRELATIONS = 4_000_000
"""Correlations in memory at a time."""
_GROUPINGS = 6
_SEED = 0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A photo and a copy of it in another split."""

    photo: Photo
    split: str
    other: Photo
    other_split: str

    def __str__(self) -> str:
        return (
            f"{shown(self.photo.path)} ({self.split}) and {shown(self.other.path)} "
            f"({self.other_split})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return paths, labels and splits of both."""
        return {
            "paths": [shown(self.photo.path), shown(self.other.path)],
            "labels": [self.photo.label, self.other.label],
            "splits": [self.split, self.other_split],
        }


def warning(pairs: Sequence[Pair]) -> str:
    """Return what `pairs` mean for the user."""
    return (
        f"{len(pairs)} photos of validation or testing look the same as a photo in another split: "
        "resized or recompressed copies, or one thing photographed twice. They make accuracies too "
        "good: remove one of each pair"
    )


def find(
    photos: Sequence[Photo], splits: Sequence[str], cache: ThumbnailCache, progress: Progress
) -> list[Pair]:
    """Return the pairs of copies across splits; at least one of the two does not train.

    Thumbnails of 8x8 pixels name the candidates, which are then decoded and compared in detail.
    Time grows with the number of photos, not with its square.
    """
    store, rows, readable = cache.load(photos, progress)
    if len(readable) < len(photos):
        unreadable = len(photos) - len(readable)
        progress.warn(f"{unreadable} photos could not be compared with the others")
    split_by_digest = dict(zip((photo.digest for photo in photos), splits, strict=True))
    split_of = [split_by_digest[photo.digest] for photo in readable]
    nearest = _nearest_in_another_split(store, rows, np.array(split_of))
    candidates = list({frozenset(pair): pair for pair in nearest.items()}.values())

    def compare(_tool: None, pair: tuple[int, int]) -> bool:
        return _is_same_picture(readable[pair[0]], readable[pair[1]])

    is_copy = parallel.run_in_order(candidates, lambda: None, compare, lambda _: None)
    return [
        Pair(readable[i], split_of[i], readable[j], split_of[j])
        for (i, j), same in zip(candidates, is_copy, strict=True)
        if same
    ]


def _nearest_in_another_split(
    store: FeatureStore, rows: npt.NDArray[np.int64], split_of: npt.NDArray[np.str_]
) -> dict[int, int]:
    """Return photos that do not train, each with the possible copy that is nearest to it."""
    nearest: dict[int, tuple[float, int]] = {}
    for members in _groups(store, rows):
        queries = members[split_of[members] != TRAINING]
        if not len(queries):
            continue
        levels = store.take(rows[members])
        size = max(1, _BLOCK_CORRELATIONS // len(members))
        for start in range(0, len(queries), size):
            block = queries[start : start + size]
            pairs, differences = _possible_copies(store.take(rows[block]), levels)
            for first, second, difference in zip(*pairs.T, differences, strict=True):
                i, j = int(block[first]), int(members[second])
                if split_of[i] != split_of[j]:
                    nearest[i] = min(nearest.get(i, (math.inf, -1)), (float(difference), j))
    return {i: j for i, (_, j) in sorted(nearest.items())}


def _groups(store: FeatureStore, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield groups of photos, by number; a photo and its copy nearly always share one.

    Every grouping sorts the photos by the signs of a few random projections of their thumbnails.
    """
    count = len(rows)
    bits = max(0, math.ceil(math.log2(max(1, count) / _GROUP_SIZE)))
    if not bits:
        yield np.arange(count)
        return
    random = np.random.default_rng(_SEED)
    directions = random.standard_normal((store.width, _GROUPINGS * bits)).astype(np.float32)
    mean = store.take(rows[random.integers(0, count, _GROUP_SIZE)]).mean(axis=0)
    codes = np.empty((count, _GROUPINGS), np.int32)
    powers = 2 ** np.arange(bits, dtype=np.int32)
    for start in range(0, count, _GROUP_SIZE):
        block = store.take(rows[start : start + _GROUP_SIZE]) - mean
        signs = (block @ directions > 0).reshape(len(block), _GROUPINGS, bits)
        codes[start : start + _GROUP_SIZE] = signs @ powers
    for grouping in range(_GROUPINGS):
        order = np.argsort(codes[:, grouping], kind="stable")
        borders = np.flatnonzero(np.diff(codes[order, grouping])) + 1
        yield from np.split(order, borders)


def _possible_copies(queries: Floats, levels: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return (row of `queries`, row of `levels`) of each two thumbnails that may be of copies.

    With each comes the root mean square of their difference, in levels of 0..255.
    """
    correlation = _standardized(queries) @ _standardized(levels).T
    pairs = np.argwhere(correlation >= _MIN_CORRELATION)
    correlated, place = np.unique(pairs[:, 0], return_inverse=True)
    squares = _mean_squares(queries[correlated], levels)
    rank = min(_MAX_COPIES, len(levels) - 1)
    usual = np.sqrt(np.partition(squares, rank, axis=1)[:, rank])
    difference = np.sqrt(squares[place, pairs[:, 1]])
    near = difference <= np.minimum(_MAX_DIFFERENCE, _MAX_DIFFERENCE_SHARE * usual[place])
    return pairs[near], difference[near]


def _mean_squares(queries: Floats, levels: Floats) -> Floats:
    """Return the mean squared difference of each row of `queries` and each of `levels`."""
    mean = levels.mean(axis=0)
    queries, levels = queries - mean, levels - mean
    lengths = np.sum(queries**2, axis=1)[:, np.newaxis] + np.sum(levels**2, axis=1)
    return np.asarray(np.maximum(lengths - 2 * queries @ levels.T, 0) / mean.size, np.float32)


def _standardized(levels: Floats) -> Floats:
    """Return rows of mean 0 and length 1: their products are correlations."""
    centred = levels - levels.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1e-6), np.float32)


def _is_same_picture(first: Photo, second: Photo) -> bool:
    """Return whether two photos show the same in detail, in frames of the same shape."""
    images = [image for image in (decode(first), decode(second)) if image]
    if len(images) < 2:
        return False
    aspects = [math.log(image.width / image.height) for image in images]
    rounding = sum(1 / min(image.size) for image in images)
    if abs(aspects[0] - aspects[1]) > _MAX_ASPECT_DIFFERENCE + rounding:
        return False
    levels = [_standardized(thumbnail(image, _DETAIL_SIDE)[np.newaxis]) for image in images]
    return float(np.vdot(*levels)) >= _MIN_DETAIL_CORRELATION
