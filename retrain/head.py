"""The final layer: softmax regression on bottlenecks, trained in memory."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.errors import WrongUse

_QUIET = np.float32(0.01)
"""Added to a deviation, so that a value that hardly moves is not blown up."""

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
ClassWeight = Literal["none", "balanced"]


@dataclass(frozen=True)
class HeadConfig:
    """How to train; steps, rate and sizes are those of TensorFlow's image_retraining/retrain.py.

    `learning_rate` is the first step's, and falls to zero along a cosine. A batch draws a class,
    then a photo of it, so that a rare class is learned as well as any. With `class_weight`
    "balanced", scores are probabilities for classes that are equally frequent; with "none" the
    bias then takes in how frequent each is in the folder. -1 as `validation_batch_size` is the
    whole validation set. `weight_decay` is of the weights of standardized bottlenecks.
    """

    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    train_batch_size: int = 100
    validation_batch_size: int = 100
    eval_step_interval: int = 10
    weight_decay: float = 0.3
    class_weight: ClassWeight = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise WrongUse(f"--learning-rate {self.learning_rate} is not a number above 0")
        if self.validation_batch_size == 0:
            raise WrongUse("--validation-batch-size 0 validates nothing: -1 is the whole set")


@dataclass(frozen=True)
class Head:
    """The final layer: `weights` float32 (D, C), `bias` float32 (C,)."""

    weights: Floats
    bias: Floats

    def logits(self, bottlenecks: npt.NDArray[Any]) -> Floats:
        """Return float32 (N, C) of bottlenecks (N, D)."""
        return np.asarray(bottlenecks, np.float32) @ self.weights + self.bias


class Evaluation(NamedTuple):
    """What a step reports: accuracies of 0..1, cross entropies in nats."""

    step: int
    train_accuracy: float
    train_cross_entropy: float
    validation_accuracy: float
    validation_cross_entropy: float


class Examples(NamedTuple):
    """Bottlenecks (N, D) and the index of each one's label, int64 (N,)."""

    bottlenecks: npt.NDArray[Any]
    labels: Labels


def fit(
    training: Examples,
    validation: Examples,
    classes: int,
    config: HeadConfig,
    report: Callable[[Evaluation], None],
) -> Head:
    """Train by stochastic gradient descent on cross entropy; `report` gets each evaluation.

    Bottlenecks are standardized while training; the head that is returned takes them as they
    are. Over eight splits that and the decay are worth 0.8 points of accuracy on 1,000 flowers,
    1.4 on 2,223 solar cells, and an int8 model that agrees more. The same seed, data and settings
    give the same head. Every label of 0..classes-1 must be in `training`. Measured without
    class weights: with them the solar cells lose 0.4 points, and 1 of agreement. The settings
    were chosen on the photos that these figures are of.
    """
    random = np.random.default_rng(config.seed)
    x = np.array(training.bottlenecks, np.float32)
    mean, deviation = x.mean(axis=0), x.std(axis=0) + _QUIET
    x -= mean
    x /= deviation
    order = np.argsort(training.labels, kind="stable")
    counts = np.bincount(training.labels, minlength=classes)
    first = np.cumsum(counts) - counts
    head = Head(
        random.normal(0, 0.001, (x.shape[1], classes)).astype(np.float32),
        np.zeros(classes, np.float32),
    )
    size = config.train_batch_size
    rows = np.arange(size)
    for step in range(config.how_many_training_steps):
        labels = random.integers(classes, size=size)
        chosen = order[first[labels] + (random.random(size) * counts[labels]).astype(np.int64)]
        batch = x[chosen]
        logits = head.logits(batch)
        gradient = softmax(logits)
        gradient[rows, labels] -= 1
        fall = 0.5 * (1 + math.cos(math.pi * step / config.how_many_training_steps))
        rate = config.learning_rate * fall
        gradient *= rate / size
        last = step == config.how_many_training_steps - 1
        if step % config.eval_step_interval == 0 or last:
            sample = _sample(validation, config.validation_batch_size, random)
            measured = score(_raw(head, mean, deviation).logits(sample.bottlenecks), sample.labels)
            report(Evaluation(step, *score(logits, labels), *measured))
        np.multiply(head.weights, 1 - rate * config.weight_decay, out=head.weights)
        np.subtract(head.weights, batch.T @ gradient, out=head.weights)
        np.subtract(head.bias, gradient.sum(axis=0), out=head.bias)
    if config.class_weight == "none":
        head.bias[:] += np.log(counts * (classes / counts.sum()))
    return _raw(head, mean, deviation)


def _raw(head: Head, mean: Floats, deviation: Floats) -> Head:
    """Return the head that does to bottlenecks what `head` does to standardized ones."""
    weights = head.weights / deviation[:, np.newaxis]
    return Head(weights, head.bias - mean @ weights)


def _sample(examples: Examples, size: int, random: np.random.Generator) -> Examples:
    if size == -1:
        return examples
    chosen = random.integers(len(examples.labels), size=size)
    return Examples(examples.bottlenecks[chosen], examples.labels[chosen])


def softmax(logits: Floats) -> Floats:
    """Return probabilities (N, C) of logits (N, C)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def score(logits: Floats, labels: Labels) -> tuple[float, float]:
    """Return accuracy of 0..1 and mean cross entropy in nats."""
    chosen = softmax(logits)[np.arange(len(labels)), labels]
    tiny = np.finfo(np.float32).tiny
    accuracy = np.mean(logits.argmax(axis=1) == labels)
    return float(accuracy), float(-np.mean(np.log(np.maximum(chosen, tiny))))
