"""Choose photos so that each class has as many as any other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retrain.data.photo import Photo
from retrain.data.photo_table import PhotoTable


def take_in_turn(photos: Sequence[Photo], count: int) -> list[Photo]:
    """Return at most `count` of `photos`, one of each class in turn.

    The classes come in the order of their first photos, and each class's photos in their order.
    """
    table = PhotoTable.of(photos)
    return list(table.take(in_turn(table.label_numbers, count)))


def in_turn(labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Return the places of at most `count` of `labels` (N,), as `take_in_turn` chooses photos."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    by_label = np.argsort(label, kind="stable")
    sizes = np.bincount(label, minlength=len(first))
    turn = np.empty(len(labels), np.int64)
    turn[by_label] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.lexsort((first[label], turn))[:count]
