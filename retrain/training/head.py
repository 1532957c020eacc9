"""Define the head, a softmax regression on bottlenecks, and score its logits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain import metrics
from retrain.bottlenecks.feature_store import POOL_BYTES, Rows
from retrain.metrics import Accuracy

_ROWS_PER_READ = 4096

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Examples(NamedTuple):
    """Photos as rows of `store`, int64 (N, V), and the index of each photo's label, int64 (N,).

    The first of a photo's V rows is its undistorted view, the others are distorted views.
    """

    store: Rows
    rows: Ints
    labels: Ints


def evenly_spaced(examples: Examples, count: int) -> Examples:
    """Return about `count` of the photos, evenly spaced, or all if they are fewer."""
    stride = max(1, len(examples.labels) // count)
    return Examples(examples.store, examples.rows[::stride], examples.labels[::stride])


def smoothed_targets(classes: int, smoothing: float) -> Floats:
    """Return float32 (C, C): the target probabilities of each label, in a row.

    The share `smoothing` of a target is spread over all labels.
    """
    targets = np.eye(classes, dtype=np.float32) * (1 - smoothing)
    targets += smoothing / classes
    return targets


def log_frequencies(labels: Ints, classes: int) -> Floats:
    """Return float32 (C,): the logarithm of C times each class's share of `labels` (N,).

    It is 0 for classes that are equally frequent.
    """
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.log(counts * (classes / counts.sum())), np.float32)


@dataclass(frozen=True)
class Head:
    """The final dense layer: `weights` float32 (D, C), `bias` float32 (C,)."""

    weights: Floats
    bias: Floats

    def logits(self, bottlenecks: npt.NDArray[Any]) -> Floats:
        """Return float32 (N, C) for bottlenecks (N, D)."""
        return np.asarray(bottlenecks, np.float32) @ self.weights + self.bias

    def logits_of(self, examples: Examples) -> Floats:
        """Return float32 (N, C) for the undistorted photos; rows are read in blocks."""
        logits = np.empty((len(examples.labels), len(self.bias)), np.float32)
        for photos, block in self._blocks(examples):
            logits[photos] = block
        return logits

    def accuracy_on(self, examples: Examples) -> Accuracy:
        """Return the accuracy on the undistorted photos; the logits are never all in memory."""
        right = 0
        for photos, block in self._blocks(examples):
            right += Accuracy.of(block, examples.labels[photos]).right
        return Accuracy(right, len(examples.labels))

    def _blocks(self, examples: Examples) -> Iterator[tuple[Ints, Floats]]:
        """Yield photos, by number, and their logits; many are read in the order of the file."""
        rows = examples.rows[:, 0]
        photos = np.arange(len(rows))
        if 2 * rows.size * examples.store.width > POOL_BYTES:
            photos = np.argsort(rows, kind="stable")
        for first in range(0, len(rows), _ROWS_PER_READ):
            block = photos[first : first + _ROWS_PER_READ]
            yield block, self.logits(examples.store.take(rows[block]))

    def with_temperature(self, temperature: float) -> "Head":
        """Return the head whose logits are divided by `temperature`."""
        scale = np.float32(1 / temperature)
        return Head(self.weights * scale, self.bias * scale)


# Not scipy.special.softmax, whose bytes are the same: loading scipy takes half a second, a call
# takes twice as long, and trained weights would depend on another library's version.
def softmax(logits: Floats) -> Floats:
    """Return probabilities (N, C) for logits (N, C)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


class Score(NamedTuple):
    """Accuracy, 0..1, and mean cross entropy in nats."""

    accuracy: float
    cross_entropy: float


def score(logits: Floats, labels: Ints) -> Score:
    """Return the score of `logits` (N, C) for photos with `labels` (N,)."""
    label_probabilities = np.concatenate(
        [
            softmax(block)[np.arange(len(block)), labels[first : first + len(block)]]
            for first, block in metrics.blocks(logits)
        ]
    )
    tiny = np.finfo(np.float32).tiny
    accuracy = np.mean(logits.argmax(axis=1) == labels)
    return Score(float(accuracy), float(-np.mean(np.log(np.maximum(label_probabilities, tiny)))))
