"""Figures of merit, and how far a finite test lets one believe them."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]

_Z95 = 1.959963984540054
"""Standard deviations that hold 95% of a normal distribution."""

# Where halving starts: a factor of 20 either way, as a trained layer's logits are within a few of
# calibrated. Only logits no better than chance, or all but equal and always right, lie beyond.
_COLDEST, _HOTTEST = 0.05, 20.0

_FIRMNESS = 4.0
"""How firmly temperature 1 is believed before any photo: log T to about 1 / sqrt(4) = 0.5."""


@dataclass(frozen=True)
class Accuracy:
    """How many of `total` photos were right."""

    right: int
    total: int

    @classmethod
    def of(cls, scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> "Accuracy":
        """Count how often the best of `scores` (N, C) is the one of `labels` (N,)."""
        return cls(int(np.sum(scores.argmax(axis=1) == labels)), len(labels))

    @property
    def value(self) -> float:
        """The share that was right, of 0..1."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of Wilson (1927), of 0..1."""
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
    """How well one class is told from the others; shares are of 0..1, None where undefined.

    `precision` is the share of right ones among the photos said to be of the class: undefined if
    there are none. `recall` is the share that was found of the `support` photos of the class:
    undefined if there are none. `f1` is their harmonic mean, computed as scikit-learn does from
    counts, 2 TP / (2 TP + FP + FN): so a class that was never found has 0 even if its precision
    is undefined, and a mean over classes does not skip it. Undefined only if both others are.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with null where undefined."""
        return self._asdict()


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> Labels:
    """Count photos as int64 (C, C), a row for each true class, a column for each predicted one.

    `predicted` and `labels` (N,) are indices of 0..classes-1.
    """
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def per_class(matrix: Labels) -> list[ClassScore]:
    """Score each class of a confusion matrix (C, C)."""

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    found: list[int] = matrix.diagonal().tolist()
    said: list[int] = matrix.sum(axis=0).tolist()
    support: list[int] = matrix.sum(axis=1).tolist()
    return [
        ClassScore(share(tp, p), share(tp, n), share(2 * tp, p + n), n)
        for tp, p, n in zip(found, said, support, strict=True)
    ]


def expected_calibration_error(
    probabilities: npt.NDArray[Any], labels: Labels, bins: int = 15
) -> float:
    """Return how far confidence and accuracy differ, of 0..1 (Guo et al., ICML 2017, equation 3).

    Photos are put into `bins` equally wide ones by their best of `probabilities` (N, C); the gaps
    between mean confidence and accuracy are averaged, each weighted by its bin's photos. Few
    photos raise it: it is above 0 then even if the probabilities are right.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    # A bin has its upper edge, as in the paper: 1 is in the last, and 0 joins the first.
    chosen = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(chosen, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum()) / len(labels)


def fit_temperature(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Return the T of 0.05..20 for which softmax(logits / T) fits `labels` (N,) best.

    It minimises the cross entropy of `logits` (N, C), as Guo et al. (ICML 2017) do, plus a prior:
    4 (1/T - 1 + log T) nats, a gamma distribution of 1/T whose mode is 1. Without it T falls to
    its bound as soon as every validation photo is right, which says little if they are few. With
    it a few photos that are right hardly move T from 1, no photo and equal logits leave it there,
    and thousands of photos outweigh it; the sum is still convex in 1/T. For heads trained on
    flowers and on solar cells, ten photos gave a T that cost this many nats more, on other
    photos, than their best: 0.3 to 0.7 without the prior, 0.005 to 0.06 with it; 0.02 to 0.08
    with targets smoothed by 1 / (N + 2), as Platt does, instead; T = 1 cost 0.003 to 0.09. So
    ten photos are too few to gain much.
    """
    rows = np.arange(len(labels))
    z = np.asarray(logits, np.float64)
    # None is above 0 then: exp cannot overflow, and one power of each row is 1.
    z = z - z.max(axis=1, keepdims=True)
    right = z[rows, labels].sum()
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    # Convex: the slope's sign says on which side the minimum is. 30 halvings leave 6e-9 of log T.
    for _ in range(30):
        middle = (low + high) / 2
        inverse = math.exp(-middle)
        powers = np.exp(z * inverse)
        mean = (powers * z).sum(axis=1) / powers.sum(axis=1)
        slope = mean.sum() - right + _FIRMNESS * (1 - 1 / inverse)
        if slope > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
