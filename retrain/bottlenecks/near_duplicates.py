"""Find photos that look the same as one in another split, such as resized copies."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrain import parallel
from retrain.bottlenecks.feature_store import Matrix
from retrain.bottlenecks.thumbnails import Pictures, decode, picture
from retrain.data.folder_layout import TRAINING
from retrain.data.photo_folder import Photo, shown
from retrain.progress import Progress

_LEAST_CORRELATION = 0.985
"""Of the pictures of a photo and its copy: 0.993 at least in 3,000 copies of flowers."""
_MOST_DIFFERENCE = 9.0
"""Root mean square of the levels, 0..255, between these pictures: 6.0 at most in those copies."""
_COPIES = 8
_LARGEST_SHARE = 0.5
"""Share that this difference may have of the one to the photo that is the ninth nearest: parts of
one product look alike without being copies, and then many do."""
_SIDE = 32
_LEAST_CLOSE_CORRELATION = 0.95
_ASPECT = 0.03
"""Share by which the ratio of the sides may differ, beside the rounding to whole pixels."""
_GROUP = 2048
"""More photos than about twice this are sorted into groups of those that could be copies."""
_BLOCK = 4_000_000
"""Correlations in memory at a time."""
_SORTINGS = 6
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
    photos: Sequence[Photo], splits: Sequence[str], pictures: Pictures, progress: Progress
) -> list[Pair]:
    """Return the pairs of copies across splits; at least one of the two does not train.

    Pictures of 8x8 pixels name the candidates, which are then decoded and compared more closely.
    Time grows with the number of photos, not with its square.
    """
    matrix, rows, good = pictures.load(photos, progress)
    if len(good) < len(photos):
        progress.warn(f"{len(photos) - len(good)} photos could not be compared with the others")
    split_of = dict(zip((photo.digest for photo in photos), splits, strict=True))
    where = [split_of[photo.digest] for photo in good]
    candidates = {
        frozenset(pair): pair for pair in _candidates(matrix, rows, np.array(where)).items()
    }

    def same(_tool: None, pair: tuple[int, int]) -> bool:
        return _same_picture(good[pair[0]], good[pair[1]])

    pairs = list(candidates.values())
    sure = parallel.run_in_order(pairs, lambda: None, same, lambda _: None)
    return [
        Pair(good[i], where[i], good[j], where[j])
        for (i, j), is_copy in zip(pairs, sure, strict=True)
        if is_copy
    ]


def _candidates(
    matrix: Matrix, rows: npt.NDArray[np.int64], where: npt.NDArray[np.str_]
) -> dict[int, int]:
    """Return photos that do not train, each with the one of another split that is most alike."""
    best: dict[int, tuple[float, int]] = {}
    for members in _groups(matrix, rows):
        queries = members[where[members] != TRAINING]
        if not len(queries):
            continue
        levels = matrix.take(rows[members])
        size = max(1, _BLOCK // len(members))
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            pairs, differences = _alike(matrix.take(rows[part]), levels)
            for first, second, difference in zip(*pairs.T, differences, strict=True):
                i, j = int(part[first]), int(members[second])
                if where[i] != where[j]:
                    best[i] = min(best.get(i, (math.inf, -1)), (float(difference), j))
    return {i: j for i, (_, j) in sorted(best.items())}


def _groups(matrix: Matrix, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield groups of photos, by number, of which copies share one nearly always."""
    count = len(rows)
    bits = max(0, math.ceil(math.log2(max(1, count) / _GROUP)))
    if not bits:
        yield np.arange(count)
        return
    random = np.random.default_rng(_SEED)
    directions = random.standard_normal((matrix.width, _SORTINGS * bits)).astype(np.float32)
    mean = matrix.take(rows[random.integers(0, count, _GROUP)]).mean(axis=0)
    codes = np.empty((count, _SORTINGS), np.int32)
    powers = 2 ** np.arange(bits, dtype=np.int32)
    for start in range(0, count, _GROUP):
        part = matrix.take(rows[start : start + _GROUP]) - mean
        signs = (part @ directions > 0).reshape(len(part), _SORTINGS, bits)
        codes[start : start + _GROUP] = signs @ powers
    for sorting in range(_SORTINGS):
        order = np.argsort(codes[:, sorting], kind="stable")
        borders = np.flatnonzero(np.diff(codes[order, sorting])) + 1
        yield from np.split(order, borders)


def _alike(queries: Floats, levels: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the places (row of `queries`, row of `levels`) of pictures that could be copies.

    With each place comes the root mean square of the difference, in levels of 0..255.
    """
    correlation = _standardized(queries) @ _standardized(levels).T
    pairs = np.argwhere(correlation >= _LEAST_CORRELATION)
    alike, place = np.unique(pairs[:, 0], return_inverse=True)
    squares = _mean_squares(queries[alike], levels)
    rank = min(_COPIES, len(levels) - 1)
    usual = np.sqrt(np.partition(squares, rank, axis=1)[:, rank])
    difference = np.sqrt(squares[place, pairs[:, 1]])
    near = difference <= np.minimum(_MOST_DIFFERENCE, _LARGEST_SHARE * usual[place])
    return pairs[near], difference[near]


def _mean_squares(queries: Floats, levels: Floats) -> Floats:
    """Return the mean squared difference of each row of `queries` and each of `levels`."""
    mean = levels.mean(axis=0)
    queries, levels = queries - mean, levels - mean
    lengths = np.sum(queries**2, axis=1)[:, np.newaxis] + np.sum(levels**2, axis=1)
    return np.asarray(np.maximum(lengths - 2 * queries @ levels.T, 0) / mean.size, np.float32)


def _standardized(levels: Floats) -> Floats:
    centred = levels - levels.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1e-6), np.float32)


def _same_picture(first: Photo, second: Photo) -> bool:
    """Return whether two photos show the same in detail, in frames of the same shape."""
    images = decode(first), decode(second)
    if images[0] is None or images[1] is None:
        return False
    shapes = [math.log(image.width / image.height) for image in images if image]
    rounding = sum(1 / min(image.size) for image in images if image)
    if abs(shapes[0] - shapes[1]) > _ASPECT + rounding:
        return False
    one, other = (_standardized(picture(image, _SIDE)[np.newaxis]) for image in images if image)
    return float(np.vdot(one, other)) >= _LEAST_CLOSE_CORRELATION
