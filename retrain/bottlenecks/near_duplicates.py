"""Find photos that show the same picture: resized, cropped, recompressed or brightened copies."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.system.counts import with_noun
from retrain import parallel
from retrain.bottlenecks.compare_pictures import decode_small, is_same_picture, standardized
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data.folder_layout import TRAINING
from retrain.data.photo import Photo, shown
from retrain.progress import Progress

_MAX_COPIES = 8
"""Copies of one photo that are looked at: the nearest ones."""
_MAX_DISTANCE_SHARE = 0.6
"""Largest distance of the thumbnails of two copies, as a share of the usual one: that to the ninth
nearest photo. It is at most this share in 98% of 480 copies of flowers with up to 10% cropped."""
_LEAST_USUAL_SHARE = 0.35
"""The usual distance is at least this share of the distance within which a quarter of the photos
lie, both as half of their squares. Without it a photo with nine copies or more would have none: its
ninth nearest photo is a copy too. It is the median share of flowers and of solar cells."""
_ALIKE_RANK = 64
"""If so many photos are much alike, they are parts of one product or frames of one video; the
pictures do not tell which."""
_MIN_USUAL_DIFFERENCE = 25.0
"""Least root mean square difference to the 65th nearest thumbnail, in levels of 0..255, of photos
that are not all alike. Of solar cells, which are alike, the median is 13, of 1,000 flowers 57."""
_MAX_ALIKE_DIFFERENCE = 0.8
"""Largest such difference of copies among photos that are alike: copies of other size or quality
differ by 0.55 at most, the most similar two cells by 0.88."""
_KEPT_PICTURES = 1000
"""Small pictures in memory, 49 kB each: a photo that is in many candidates is decoded once."""
_GROUP_SIZE = 2048
"""From about twice as many photos on, only photos of one group are compared."""
_BLOCK_CORRELATIONS = 4_000_000
"""Correlations in memory at a time."""
_GROUPINGS = 6
_SAMPLE = 64
"""Photos that show how much those of a group differ."""
_SEED = 0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Two photos that show the same; `photo` is the one that does not train, if only one trains."""

    photo: Photo
    split: str
    other: Photo
    other_split: str

    @property
    def is_across_splits(self) -> bool:
        """Whether the two are in different splits."""
        return self.split != self.other_split

    def __str__(self) -> str:
        return (
            f"{shown(self.photo.path)} ({self.split}) and {shown(self.other.path)} "
            f"({self.other_split})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the absolute paths, labels and splits of both."""
        return {
            "paths": [shown(photo.path.absolute()) for photo in (self.photo, self.other)],
            "labels": [self.photo.label, self.other.label],
            "splits": [self.split, self.other_split],
        }


def warning(pairs: Sequence[Pair]) -> str:
    """Return what `pairs` across splits mean for the user."""
    count = len({pair.photo.digest for pair in pairs})
    looks = "looks" if count == 1 else "look"
    return (
        f"{with_noun(count, 'photo')} of validation or testing {looks} the same as a photo in "
        "another split: resized or recompressed copies, or one thing photographed twice. They make "
        "accuracies too good: remove one of each pair"
    )


def find(
    photos: Sequence[Photo], splits: Sequence[str], cache: ThumbnailCache, progress: Progress
) -> list[Pair]:
    """Return the pairs of photos that show the same, in any split; those of one photo in order.

    Thumbnails of 8x8 pixels name the candidates, which are then decoded and compared in detail.
    Time grows with the number of photos, not with its square.
    """
    store, rows, readable = cache.load(photos, progress)
    if len(readable) < len(photos):
        unreadable = len(photos) - len(readable)
        progress.warn(f"{with_noun(unreadable, 'photo')} could not be compared with the others")
    split_by_digest = dict(zip((photo.digest for photo in photos), splits, strict=True))
    split_of = [split_by_digest[photo.digest] for photo in readable]
    candidates = _candidates(store, rows)

    small_picture = lru_cache(_KEPT_PICTURES)(decode_small)

    def compare(_tool: None, pair: tuple[int, int]) -> bool:
        pictures = [picture for i in pair if (picture := small_picture(readable[i]))]
        return len(pictures) == 2 and is_same_picture(*pictures)

    is_copy = parallel.run_in_order(candidates, lambda: None, compare, lambda _: None)
    pairs = [pair for pair, same in zip(candidates, is_copy, strict=True) if same]
    return [
        Pair(readable[i], split_of[i], readable[j], split_of[j])
        for i, j in sorted((j, i) if split_of[i] == TRAINING else (i, j) for i, j in pairs)
    ]


def _candidates(store: FeatureStore, rows: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the pairs of photos, by number, the smaller first, whose thumbnails are so near."""
    candidates: set[tuple[int, int]] = set()
    for members in _groups(store, rows):
        levels = store.take(rows[members])
        size = max(1, _BLOCK_CORRELATIONS // len(members))
        for start in range(0, len(members), size):
            near = _near(levels, np.arange(start, min(start + size, len(members))))
            pairs = np.sort(members[near], axis=1).tolist()
            candidates.update((first, second) for first, second in pairs)
    return _by_group(sorted(candidates))


def _by_group(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the sorted `pairs` so that those of the copies of one photo follow each other.

    So a picture is still in memory when its next copy comes, however far apart their names are.
    """
    first_of: dict[int, int] = {}
    for first, second in pairs:
        first_of.setdefault(second, first_of.setdefault(first, first_of.get(second, first)))
    return sorted(pairs, key=lambda pair: first_of[pair[0]])


def _groups(store: FeatureStore, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield groups of photos, by number; a photo and its copy nearly always share one.

    Every grouping sorts the photos by the signs of a few random projections of their thumbnails.
    """
    count = len(rows)
    bits = max(0, math.ceil(math.log2(max(1, count) / _GROUP_SIZE)))
    if not bits:
        if count:
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


def _near(levels: Floats, queries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows of `levels`, int64 (N, 2), of `queries` and of what may be their copies.

    Two thumbnails are near by what they show, whatever their brightness and contrast: their
    distance after standardizing.
    """
    rank = min(_MAX_COPIES, len(levels) - 1)  # a query is itself one of `levels`
    directions = standardized(levels)
    distances = 1 - directions[queries] @ directions.T  # half the square of the distance
    quarter = max(rank, len(levels) // 4)
    order = np.argpartition(distances, rank, axis=1)[:, : rank + 1]
    nearest = np.take_along_axis(distances, order, axis=1)
    far = np.partition(distances, quarter, axis=1)[:, quarter : quarter + 1]
    usual = np.maximum(nearest[:, rank:], _LEAST_USUAL_SHARE * far)
    query, place = np.nonzero(nearest <= _MAX_DISTANCE_SHARE**2 * usual)
    pairs = np.stack([queries[query], order[query, place]], axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if not len(pairs):
        return np.asarray(pairs)
    first, place = np.unique(pairs[:, 0], return_inverse=True)
    differences = _differences(levels[first], levels)
    sample = queries[:: max(1, len(queries) // _SAMPLE)]
    rank = max(rank, min(_ALIKE_RANK, len(levels) // 4))
    # An unusual part of a product is alike the others too.
    typical = np.median(np.partition(_differences(levels[sample], levels), rank, axis=1)[:, rank])
    usual = np.minimum(np.partition(differences, rank, axis=1)[:, rank], typical)
    are_alike = usual[place] < _MIN_USUAL_DIFFERENCE
    difference = differences[place, pairs[:, 1]]
    return np.asarray(pairs[~are_alike | (difference <= _MAX_ALIKE_DIFFERENCE)])


def _differences(queries: Floats, levels: Floats) -> Floats:
    """Return the root mean square difference of each row of `queries` and each of `levels`."""
    mean = levels.mean(axis=0)
    queries, levels = queries - mean, levels - mean
    lengths = np.sum(queries**2, axis=1)[:, np.newaxis] + np.sum(levels**2, axis=1)
    squares = np.maximum(lengths - 2 * queries @ levels.T, 0) / mean.size
    return np.asarray(np.sqrt(squares), np.float32)
