"""Find ringleaders: photos near which those of another class are taken for theirs."""

import math
from collections.abc import Sequence

import numpy as np

from deploy.system.counts import with_noun
from retrain.data.photo import Photo
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.training.fit_head import DEVIATION_OFFSET
from retrain.training.head import Examples, Floats, Ints

_NEIGHBOURS = 10
_MIN_MISLED = 5
_MIN_MISLED_SHARE = 0.5
"""Of the photos that a ringleader is near to, the least share that it misleads."""
_MAX_COMPARED = 4000
"""Most photos whose neighbours are looked for."""
_BLOCK = 1024


def find_ringleaders(
    photos: Sequence[Photo], predicted: Ints, examples: Examples, names: Sequence[str]
) -> list[Finding]:
    """Return the photos that mislead more photos of other classes than they are near to else.

    A photo is misled that is taken for the class of a photo that is near to it, and not its own.
    At most `_MAX_COMPARED` photos are compared with all.
    """
    labels = examples.labels
    compared = np.arange(0, len(photos), math.ceil(len(photos) / _MAX_COMPARED))
    neighbours = nearest(examples, compared)
    is_confused = predicted[compared] != labels[compared]
    is_misled = labels[neighbours] == predicted[compared][:, np.newaxis]
    is_misled &= is_confused[:, np.newaxis]
    near = np.bincount(neighbours.ravel(), minlength=len(photos))
    misled = np.bincount(neighbours[is_misled], minlength=len(photos))
    is_leader = (misled >= _MIN_MISLED) & (misled >= _MIN_MISLED_SHARE * near)
    leaders = np.flatnonzero(is_leader)
    leaders = leaders[np.argsort(-misled[leaders], kind="stable")]
    if not len(leaders):
        return []

    def describe(number: int) -> FindingPhoto:
        victims = compared[(is_misled & (neighbours == number)).any(axis=1)]
        truth = int(np.bincount(labels[victims]).argmax())
        photo = photos[number]
        reason = (
            f"{len(victims)} photos of other classes, most of {names[truth]}, are near to it and "
            f"are taken for {photo.label}"
        )
        return FindingPhoto(photo.path, photo.label, reason, other=photos[int(victims[0])].path)

    return [
        Finding(
            "ringleader",
            f"{with_noun(len(leaders), 'photo')} may mislead many others",
            "Photos of another class are near to them, and are taken for their class.",
            "Look whether they show their class clearly: if not, set them aside; if so, add photos "
            "that show the difference.",
            tuple(describe(number) for number in leaders.tolist()),
        )
    ]


def nearest(examples: Examples, queries: Ints) -> Ints:
    """Return the numbers of the photos nearest to each of `queries`, (Q, at most 10), by cosine.

    Bottlenecks are standardized; they are read in blocks.
    """
    store, rows = examples.store, examples.rows[:, 0]
    sample = store.take(rows[:: max(1, len(rows) // _BLOCK)])
    mean, deviation = sample.mean(axis=0), sample.std(axis=0) + DEVIATION_OFFSET

    def directions(numbers: Ints) -> Floats:
        values = (store.take(rows[numbers]) - mean) / deviation
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)

    query_directions = directions(queries)
    cosines = np.empty((len(queries), 0), np.float32)
    neighbours = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, len(rows)))
        block = query_directions @ directions(numbers).T
        block[queries[:, np.newaxis] == numbers] = -np.inf
        cosines = np.hstack([cosines, block])
        neighbours = np.hstack([neighbours, np.broadcast_to(numbers, block.shape)])
        if cosines.shape[1] > _NEIGHBOURS:
            best = np.argpartition(cosines, -_NEIGHBOURS, axis=1)[:, -_NEIGHBOURS:]
            cosines = np.take_along_axis(cosines, best, axis=1)
            neighbours = np.take_along_axis(neighbours, best, axis=1)
    return neighbours
