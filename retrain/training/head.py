"""The final layer: softmax regression on bottlenecks, and how it is to be trained."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.errors import WrongUse
from retrain.bottlenecks.feature_store import Matrix

_CHUNK = 4096
"""Rows that are looked at together."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
ClassWeight = Literal["none", "balanced"]
Optimizer = Literal["standardized", "sgd"]

WEIGHT_DECAY: dict[Optimizer, float] = {"standardized": 0.1, "sgd": 0.0}


@dataclass(frozen=True)
class HeadConfig:
    """How to train; steps, rate and sizes are those of TensorFlow's image_retraining/retrain.py.

    `optimizer` "sgd" is the classic's: bottlenecks as they are, one `learning_rate`.
    "standardized" is SGD on bottlenecks of mean 0 and deviation 1, the rate falling to zero along
    a cosine; `weight_decay` None is 0.1 with it, 0 with "sgd". A batch draws a class, then a photo
    of it, so that a rare class is learned as well as any. With `class_weight` "balanced", scores
    are probabilities for classes that are equally frequent; with "none" the bias takes in how
    frequent each is in the folder. -1 as `validation_batch_size` is the whole validation set.
    `early_stop` is after how many twentieths of the run without a lower cross entropy on the
    validation set to stop; 0 is never.
    """

    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    train_batch_size: int = 100
    validation_batch_size: int = 100
    eval_step_interval: int = 10
    intermediate_store_frequency: int = 0
    optimizer: Optimizer = "standardized"
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    class_weight: ClassWeight = "none"
    early_stop: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise WrongUse(f"--learning-rate {self.learning_rate} is not a number above 0")
        # Said so that NaN, which compares false, is refused as well.
        if not (self.weight_decay is None or self.weight_decay >= 0):
            raise WrongUse(f"--weight-decay {self.weight_decay} is not a number of 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise WrongUse(f"--label-smoothing {self.label_smoothing} is not within 0..1")
        if self.validation_batch_size == 0:
            raise WrongUse("--validation-batch-size 0 validates nothing: -1 is the whole set")

    @property
    def decay(self) -> float:
        """The weight decay that is meant."""
        return WEIGHT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay


class Examples(NamedTuple):
    """Photos as rows of `matrix`, int64 (N, V), and the index of each one's label, int64 (N,).

    The first of a photo's V rows is the photo as it is, the others are distorted views of it.
    """

    matrix: Matrix
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
