"""Compute accuracy with its interval, scores of classes, calibration error and temperature."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]

_Z95 = 1.959963984540054
"""Standard deviations on each side of the mean that hold 95% of a normal distribution."""

# A trained layer's logits are within a small factor of calibrated. Only logits no better than
# chance, or nearly equal and always right, reach these limits.
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0

_BLOCK_VALUES = 1 << 24
"""Values that are computed of at a time."""

_PRIOR_STRENGTH = 4.0
"""Weight of the prior for temperature 1: it keeps log T within about 1 / sqrt(4) = 0.5."""


NO_LABEL = -1
"""Stands for the index of a label where there is none."""


def best_labels(probabilities: npt.NDArray[Any]) -> Labels:
    """Return int64 (N,), the index of the best of `probabilities` (N, C); NO_LABEL if all are 0.

    All are 0 for a photo that resembles no class, if the model was converted with `reject_rate`.
    """
    best = np.asarray(probabilities.argmax(axis=1), np.int64)
    return np.where(probabilities.max(axis=1) > 0, best, NO_LABEL)


@dataclass(frozen=True)
class Accuracy:
    """The number of photos, of `total`, whose best label was `right`."""

    right: int
    total: int

    @classmethod
    def of(cls, scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> "Accuracy":
        """Count how often the best of `scores` (N, C) is the one of `labels` (N,)."""
        return cls.of_best(scores.argmax(axis=1), labels)

    @classmethod
    def of_best(cls, best: npt.NDArray[Any], labels: npt.NDArray[Any]) -> "Accuracy":
        """Count how often the index `best` (N,) is the one of `labels` (N,)."""
        return cls(int(np.sum(best == labels)), len(labels))

    @property
    def value(self) -> float:
        """The share of right photos, 0..1."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of Wilson (1927), 0..1."""
        # scipy.stats has it too, equal to 3e-16: metrics.json would change in the last digits, and
        # every command would take a second longer to start.
        n, z = self.total, _Z95
        centre = (self.value + z * z / (2 * n)) / (1 + z * z / n)
        spread = math.sqrt(self.value * (1 - self.value) / n + z * z / (4 * n * n))
        half = z / (1 + z * z / n) * spread
        return max(0.0, centre - half), min(1.0, centre + half)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: accuracy, its 95% interval, and both counts."""
        return {
            "accuracy": self.value,
            "interval95": list(self.interval),
            "right": self.right,
            "total": self.total,
        }

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} (N={self.total}, 95% interval {low:.1%} to {high:.1%})"


class ClassScore(NamedTuple):
    """Precision, recall and F1 of one class, 0..1; None where undefined.

    `precision` is the share of right photos among those predicted as the class, undefined without
    any. `recall` is the share of right photos among the `support` photos of the class, undefined
    without any. `f1` is their harmonic mean, computed from counts as scikit-learn does: 2 TP /
    (2 TP + FP + FN). So a class that is never predicted has an F1 of 0, and a mean over classes
    includes it. `f1` is undefined only if both others are.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with null where undefined."""
        return self._asdict()


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> Labels:
    """Return counts, int64 (C, C): a row for each true class, a column for each predicted one.

    `predicted` and `labels` (N,) are indices of 0..classes-1.
    """
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def class_scores(matrix: Labels) -> list[ClassScore]:
    """Return the scores of each class of a confusion matrix (C, C)."""

    def ratio(count: int, total: int) -> float | None:
        return count / total if total else None

    right: list[int] = matrix.diagonal().tolist()
    predicted: list[int] = matrix.sum(axis=0).tolist()
    support: list[int] = matrix.sum(axis=1).tolist()
    return [
        ClassScore(ratio(tp, p), ratio(tp, n), ratio(2 * tp, p + n), n)
        for tp, p, n in zip(right, predicted, support, strict=True)
    ]


def calibration_error(
    confidence: npt.NDArray[Any], right: npt.NDArray[np.bool_], bins: int = 15
) -> float:
    """Return the expected calibration error, 0..1 (Guo et al., ICML 2017, equation 3).

    Photos (N,) go into `bins` equally wide bins by `confidence`, their highest probability. The
    error is the mean gap between confidence and accuracy, weighted by each bin's photos. `right`
    (N,) is whether the label of that probability is the photo's own. With few photos the error is
    above 0 even for right probabilities.
    """
    confidence = confidence.astype(np.float64)
    # A bin holds its upper edge, as in the paper; 0 goes into the first.
    indices = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(indices, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum()) / len(right)


def blocks(values: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield blocks of the rows of `values` (N, C), each with the number of its first row.

    What is computed of a block is bounded in memory. Up to 16 million values are one block.
    """
    size = max(1, _BLOCK_VALUES // max(1, values.shape[1]))
    for first in range(0, max(1, len(values)), size):
        yield first, values[first : first + size]


def fit_temperature(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Return the T, 0.05..20, for which softmax(logits / T) fits `labels` (N,) best.

    It minimises the cross entropy of `logits` (N, C), as Guo et al. (ICML 2017) do, plus a prior of
    4 (1/T - 1 + log T) nats: a gamma distribution of 1/T with mode 1. Without the prior, T falls
    to its limit whenever every validation photo is right, which proves little if they are few. With
    it a few right photos hardly move T from 1, and no photos or equal logits leave it at 1;
    thousands of photos outweigh it. The sum stays convex in 1/T. Of logits of more than 16 million
    values, evenly spaced rows are taken.

    Measured on heads for flowers and solar cells: the T of ten photos cost this many nats more, on
    other photos, than their best T: 0.3 to 0.7 without the prior, 0.005 to 0.06 with it, 0.02 to
    0.08 with Platt's smoothed targets 1 / (N + 2) instead; T = 1 cost 0.003 to 0.09.
    """
    stride = -(-max(1, logits.size) // _BLOCK_VALUES)
    logits, labels = logits[::stride], labels[::stride]
    rows = np.arange(len(labels))
    z = np.asarray(logits, np.float64)
    # The maximum of each row becomes 0: exp cannot overflow, and no sum is 0.
    z = z - z.max(axis=1, keepdims=True)
    right = z[rows, labels].sum()
    low, high = math.log(_MIN_TEMPERATURE), math.log(_MAX_TEMPERATURE)
    # Convex: the sign of the slope says on which side the minimum is. 30 halvings leave 6e-9 of
    # log T. scipy.optimize would stop elsewhere within that, and change every exported graph.
    for _ in range(30):
        middle = (low + high) / 2
        inverse = math.exp(-middle)
        powers = np.exp(z * inverse)
        mean = (powers * z).sum(axis=1) / powers.sum(axis=1)
        slope = mean.sum() - right + _PRIOR_STRENGTH * (1 - 1 / inverse)
        if slope > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def calibrated_cross_entropies(logits: npt.NDArray[Any], labels: Labels) -> npt.NDArray[np.float64]:
    """Return each photo's cross entropy in nats, (N,), of `logits` (N, C) at their temperature.

    The temperature is the one that `fit_temperature` fits to the same photos.
    """
    z = np.asarray(logits, np.float64) / fit_temperature(logits, labels)
    z -= z.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels])
