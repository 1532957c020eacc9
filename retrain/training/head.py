"""The final layer: softmax regression on bottlenecks, and how it is to be trained."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain.bottlenecks.feature_store import FeatureStore

_CHUNK = 4096
"""Rows that are looked at together."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Examples(NamedTuple):
    """Photos as rows of `matrix`, int64 (N, V), and the index of each one's label, int64 (N,).

    The first of a photo's V rows is the photo as it is, the others are distorted views of it.
    """

    matrix: FeatureStore
    rows: Ints
    labels: Ints


@dataclass(frozen=True)
class Head:
    """The final layer: `weights` float32 (D, C), `bias` float32 (C,)."""

    weights: Floats
    bias: Floats

    def logits(self, bottlenecks: npt.NDArray[Any]) -> Floats:
        """Return float32 (N, C) of bottlenecks (N, D)."""
        return np.asarray(bottlenecks, np.float32) @ self.weights + self.bias

    def logits_of(self, examples: Examples) -> Floats:
        """Return float32 (N, C) of the photos as they are, reading a few rows at a time."""
        rows = examples.rows[:, 0]
        parts = (rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK))
        found = [self.logits(examples.matrix.take(part)) for part in parts]
        return np.concatenate([np.empty((0, len(self.bias)), np.float32), *found])

    def cooled(self, temperature: float) -> "Head":
        """Return the head whose logits are these, divided by `temperature`."""
        scale = np.float32(1 / temperature)
        return Head(self.weights * scale, self.bias * scale)


def softmax(logits: Floats) -> Floats:
    """Return probabilities (N, C) of logits (N, C)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


class Score(NamedTuple):
    """Accuracy of 0..1 and mean cross entropy in nats."""

    accuracy: float
    cross_entropy: float


def score(logits: Floats, labels: Ints) -> Score:
    """Return how good `logits` (N, C) are for photos of `labels` (N,)."""
    chosen = softmax(logits)[np.arange(len(labels)), labels]
    tiny = np.finfo(np.float32).tiny
    accuracy = np.mean(logits.argmax(axis=1) == labels)
    return Score(float(accuracy), float(-np.mean(np.log(np.maximum(chosen, tiny)))))
