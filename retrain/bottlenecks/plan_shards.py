"""Plan the shards: which photos and views are analysed together, and written into one file."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrain.data.photo import Photo

_MIN_SHARD_VIEWS, _MAX_SHARD_VIEWS = 16, 4096
_MAX_SHARD_BYTES = 1 << 24
"""A killed run loses the shards in hand, and a worker holds one in memory."""
_SHARDS_PER_WORKER = 32
"""At least so many, if they are not too small, so that all workers end together."""
_SHARDS_AT_THE_END = 4
"""Of what is left, a shard is at most this part of one worker's share."""


class Task(NamedTuple):
    """A photo to decode once, and the numbers of its views to compute."""

    photo: Photo
    views: Sequence[int]


def plan(
    photos: Sequence[Photo],
    views: range,
    missing: npt.NDArray[np.int64],
    width: int,
    workers: Callable[[], int],
) -> Iterator[tuple[Task, ...]]:
    """Yield the tasks of each shard: the photos with those of `views` that are `missing`.

    `missing` are numbers of views, photo by photo. Shards of bottlenecks of `width` values are
    small enough, and at the end ever smaller, that all `workers` end together; their number is
    first asked for here, as Ray must run for it.
    """
    if not len(missing):
        return
    worker_count, first = workers(), 0
    most = shard_photos(len(missing), len(views), width, worker_count)
    least = max(1, _MIN_SHARD_VIEWS // len(views))
    while first < len(missing):
        share = (len(missing) - first) // (_SHARDS_AT_THE_END * worker_count * len(views))
        size = min(most, max(least, share))
        block = missing[first : first + size * len(views)]  # of at least `size` photos, if there
        numbers, places = np.divmod(block, len(views))
        starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        ends = [*starts[1:], len(block)][:size]
        yield tuple(
            Task(photos[int(numbers[start])], tuple(views[i] for i in places[start:end].tolist()))
            for start, end in zip(starts, ends, strict=False)
        )
        first += ends[-1]


def shard_photos(view_count: int, views: int, width: int, workers: int) -> int:
    """Return how many photos of up to `views` views a shard has, of `view_count` views in all."""
    size = view_count // (_SHARDS_PER_WORKER * workers)
    most = max(_MIN_SHARD_VIEWS, min(_MAX_SHARD_VIEWS, _MAX_SHARD_BYTES // (2 * width)))
    return max(1, min(max(size, _MIN_SHARD_VIEWS), most) // views)
