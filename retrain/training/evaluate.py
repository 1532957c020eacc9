"""What a trained head is worth: measured on photos that it did not learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain import metrics
from retrain.data.photo_folder import shown
from retrain.metrics import Accuracy
from retrain.training.head import Examples, Head, score, softmax


class Misclassified(NamedTuple):
    """A test photo that is called another label than its own; `runner_up` is the second best."""

    path: Path
    true: str
    predicted: str
    probability: float
    runner_up: str
    runner_up_probability: float

    def __str__(self) -> str:
        return (
            f"{shown(self.path)}: {self.true}, not {self.predicted} ({self.probability:.1%}), "
            f"then {self.runner_up} ({self.runner_up_probability:.1%})"
        )


@dataclass(frozen=True)
class Results:
    """Figures of a head on the test photos; `confusion` (C, C) has rows true, columns predicted."""

    labels: tuple[str, ...]
    accuracy: Accuracy
    cross_entropy: float
    calibration_error: float
    confusion: npt.NDArray[np.int64]
    misclassified: tuple[Misclassified, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        per_class = zip(self.labels, metrics.per_class(self.confusion), strict=True)
        return {
            **self.accuracy.to_json(),
            "cross_entropy": self.cross_entropy,
            "expected_calibration_error": self.calibration_error,
            "per_class": {label: found.to_json() for label, found in per_class},
            "confusion_matrix": self.confusion.tolist(),
            "misclassified": [
                {**each._asdict(), "path": shown(each.path)} for each in self.misclassified
            ],
        }


def assess(
    head: Head, testing: Examples, paths: Sequence[Path], labels: tuple[str, ...]
) -> Results:
    """Measure `head` on the photos `testing`, which lie at `paths`."""
    logits = head.logits_of(testing)
    probabilities = softmax(logits)
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    misclassified = []
    for i in map(int, np.flatnonzero(ranked[:, 0] != testing.labels)):
        best, second = ranked[i, :2]
        misclassified.append(
            Misclassified(
                paths[i],
                labels[testing.labels[i]],
                labels[best],
                float(probabilities[i, best]),
                labels[second],
                float(probabilities[i, second]),
            )
        )
    return Results(
        labels,
        Accuracy.of(logits, testing.labels),
        score(logits, testing.labels).cross_entropy,
        metrics.expected_calibration_error(probabilities, testing.labels),
        metrics.confusion_matrix(ranked[:, 0], testing.labels, len(labels)),
        tuple(misclassified),
    )
