"""Keep the scores of a training as curves of a few points."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MEMBER = "curve"
"""The name of a curve in a checkpoint."""

_MAX_POINTS = 50


class CurvePoint(NamedTuple):
    """Accuracy (0..1) and cross entropy (nats) after a step, or after an epoch of fine-tuning."""

    step: int
    train: tuple[float, float]
    validation: tuple[float, float]


def to_array(points: Sequence[CurvePoint]) -> npt.NDArray[np.float64]:
    """Return a row for each point, (N, 5): step, those of training, those of validation."""
    rows = [(point.step, *point.train, *point.validation) for point in points]
    return np.array(rows, np.float64).reshape(-1, 5)


def from_members(members: Mapping[str, npt.NDArray[Any]]) -> tuple[CurvePoint, ...]:
    """Return the points in a checkpoint of these members; () if an earlier version wrote it.

    Raises ValueError for an array of another form.
    """
    rows = members.get(MEMBER, to_array(()))
    if rows.dtype != np.float64 or rows.ndim != 2 or rows.shape[1] != 5:
        raise ValueError(f"{MEMBER} has another type")
    if not np.isfinite(rows[:, 0]).all():
        raise ValueError(f"{MEMBER} has a step that is no number")
    return tuple(
        CurvePoint(int(step), (row[0], row[1]), (row[2], row[3])) for step, *row in rows.tolist()
    )


def to_json(points: Sequence[CurvePoint]) -> dict[str, Any]:
    """Return a list for each axis; of many points, each 50th share of them becomes its mean.

    Points that are not finite, after which training went on to better ones, are left out.
    """
    rows = to_array(points)
    finite = rows[np.isfinite(rows).all(axis=1)]
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
