"""Keep the scores of a training as curves of a few points."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_MAX_POINTS = 50


class CurvePoint(NamedTuple):
    """Accuracy (0..1) and cross entropy (nats) after a step, or after an epoch of fine-tuning."""

    step: int
    train: tuple[float, float]
    validation: tuple[float, float]


def to_json(points: Sequence[CurvePoint]) -> dict[str, Any]:
    """Return a list for each axis; of many points, each 50th share of them becomes its mean.

    Points that are not finite, after which training went on to better ones, are left out.
    """
    rows = [(point.step, *point.train, *point.validation) for point in points]
    finite = np.array([row for row in rows if np.isfinite(row).all()]).reshape(-1, 5)
    groups = np.array_split(finite, max(1, min(len(finite), _MAX_POINTS)))
    means = np.array(
        [(group[-1, 0], *group[:, 1:].mean(axis=0)) for group in groups if len(group)]
    ).reshape(-1, 5)
    return {
        "step": means[:, 0].astype(int).tolist(),
        "train_accuracy": means[:, 1].tolist(),
        "train_cross_entropy": means[:, 2].tolist(),
        "validation_accuracy": means[:, 3].tolist(),
        "validation_cross_entropy": means[:, 4].tolist(),
    }
