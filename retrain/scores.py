"""Figures of merit, and how far a finite test lets one believe them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Z95 = 1.959963984540054
"""Standard deviations that hold 95% of a normal distribution."""


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
