"""Evaluate a trained network on the test photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain import metrics
from retrain.data.photo import Photo, shown
from retrain.data.remote_path import PhotoPath
from retrain.metrics import Accuracy
from retrain.training.head import Floats, Ints, score, softmax

MAX_MISCLASSIFIED = 10_000
"""The most misclassified photos that are listed; the confusion matrix counts all."""


class Misclassified(NamedTuple):
    """A test photo whose best label is not its own; `runner_up` is the second best label.

    Probabilities are 0..1.
    """

    path: PhotoPath
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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with the absolute path."""
        return {**self._asdict(), "path": shown(self.path.absolute())}


@dataclass(frozen=True)
class Evaluation:
    """A network's figures on the test photos.

    `cross_entropy` is in nats, `calibration_error` 0..1; `confusion` is int64 (C, C), a row for
    each true label, a column for each predicted one.
    """

    labels: tuple[str, ...]
    accuracy: Accuracy
    cross_entropy: float
    calibration_error: float
    confusion: npt.NDArray[np.int64]
    misclassified: tuple[Misclassified, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        scores = zip(self.labels, metrics.class_scores(self.confusion), strict=True)
        return {
            **self.accuracy.to_json(),
            "cross_entropy": self.cross_entropy,
            "expected_calibration_error": self.calibration_error,
            "per_class": {label: score.to_json() for label, score in scores},
            "confusion_matrix": self.confusion.tolist(),
            "misclassified": [photo.to_json() for photo in self.misclassified],
        }


def evaluate(
    logits: Floats, label_indices: Ints, photos: Sequence[Photo], labels: tuple[str, ...]
) -> Evaluation:
    """Return the figures of `logits` (N, C) for test photos with `label_indices` (N,)."""
    ranked, probabilities = _two_best(logits)
    wrong = np.flatnonzero(ranked[:, 0] != label_indices)
    misclassified = tuple(
        Misclassified(
            photos[i].path,
            labels[label_indices[i]],
            labels[ranked[i, 0]],
            float(probabilities[i, 0]),
            labels[ranked[i, 1]],
            float(probabilities[i, 1]),
        )
        for i in wrong[:MAX_MISCLASSIFIED].tolist()
    )
    return Evaluation(
        labels,
        Accuracy.of(logits, label_indices),
        score(logits, label_indices).cross_entropy,
        metrics.calibration_error(probabilities[:, 0], ranked[:, 0] == label_indices),
        metrics.confusion_matrix(ranked[:, 0], label_indices, len(labels)),
        misclassified,
    )


def _two_best(logits: Floats) -> tuple[Ints, Floats]:
    """Return the two best labels of each photo, and their probabilities, (N, 2) both."""
    ranked = np.empty((len(logits), 2), np.int64)
    probabilities = np.empty((len(logits), 2), np.float32)
    for first, block in metrics.blocks(logits):
        values = softmax(block)
        order = np.argsort(-values, axis=1, kind="stable")[:, :2]
        ranked[first : first + len(block)] = order
        probabilities[first : first + len(block)] = np.take_along_axis(values, order, axis=1)
    return ranked, probabilities
