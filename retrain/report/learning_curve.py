"""Measure how accuracy grows with the number of training photos, and what twice as many bring."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files, versioned_json
from deploy.errors import BadData
from deploy.untrusted_files import read_json
from retrain.data import split
from retrain.settings.training import HeadSettings
from retrain.training.fit_head import fit_head
from retrain.training.head import Examples, Floats
from retrain.training.load_examples import TrainingData

_VERSION = 1
_STEPS = 150
_LEARNING_RATE = 0.05
"""Chosen with `_STEPS`: on 1,000 flowers, in three splits, 0 to 2 points from 4,000 at 0.01."""
_SHARES_AND_REPEATS = ((0.1, 4), (0.2, 3), (0.4, 2), (0.8, 1), (1.0, 1))
"""Shares of the training photos, and how many draws of each: small ones differ more."""
_PRIOR_PHOTOS = 40.0
"""How many photos of a class must be wrong, over all points, to outweigh the common exponent."""


@dataclass(frozen=True)
class LearningPoint:
    """Heads trained on `photos` photos: the wrong photos of each class, means of the draws."""

    photos: int
    wrong: tuple[float, ...]


@dataclass(frozen=True)
class LearningCurve:
    """The errors on `held_out` photos of each class, those of validation and testing."""

    graph_sha256: str
    labels: tuple[str, ...]
    held_out: tuple[int, ...]
    points: tuple[LearningPoint, ...]

    @property
    def errors(self) -> Floats:
        """The share of wrong photos, (points, classes), 0..1; NaN for a class without photos."""
        totals = np.array(self.held_out, float)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.array([point.wrong for point in self.points]) / totals)

    @property
    def total_errors(self) -> Floats:
        """The share of wrong photos of all classes, (points,)."""
        wrong = np.array([sum(point.wrong) for point in self.points])
        return np.asarray(wrong / sum(self.held_out))

    def errors_with_twice(self) -> tuple[float, list[float | None]]:
        """Return the errors to expect with twice the photos: of all, and of each class.

        They fall as a power of the number of photos. A class's exponent is drawn to the common one
        where its photos say little; a class without held-out photos has None.
        """
        photos = np.array([point.photos for point in self.points], float)
        common = _exponent(photos, self.total_errors, sum(self.held_out))
        now = self.errors[-1]
        later: list[float | None] = []
        for column, total in enumerate(self.held_out):
            if not total:
                later.append(None)
                continue
            weight = float(np.nansum(self.errors[:, column]) * total)
            own = _exponent(photos, self.errors[:, column], total)
            exponent = (weight * own + _PRIOR_PHOTOS * common) / (weight + _PRIOR_PHOTOS)
            later.append(float(now[column] * 2**-exponent))
        return float(self.total_errors[-1] * 2**-common), later

    def gains_with_twice(self) -> list[float | None]:
        """Return the share of each class, 0..1, that is wrong now and not with twice the photos."""
        _, later = self.errors_with_twice()
        return [
            None if error is None else float(now - error)
            for now, error in zip(self.errors[-1], later, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the content of learning_curve.json."""
        return {"schema": _VERSION, **asdict(self)}


def _exponent(photos: Floats, errors: Floats, held_out: int) -> float:
    """Return b, 0..1, of errors = a photos^-b, by least squares of logarithms."""
    # Half a photo more is wrong: no logarithm of 0. A point weighs as many photos as are wrong.
    wrong = errors * held_out + 0.5
    x, y = np.log(photos), np.log(wrong)
    x, y = x - np.average(x, weights=wrong), y - np.average(y, weights=wrong)
    slope = np.sum(wrong * x * y) / max(np.sum(wrong * x * x), 1e-9)
    return float(min(1.0, max(0.0, -slope)))


def measure(data: TrainingData, settings: HeadSettings, graph_sha256: str) -> LearningCurve:
    """Train heads on shares of the training photos, of each class, and return their errors."""
    settings = replace(
        settings,
        how_many_training_steps=_STEPS,
        learning_rate=_LEARNING_RATE,
        optimizer="standardized",
        weight_decay=None,
        eval_step_interval=_STEPS,
        intermediate_store_frequency=0,
        early_stop=0,
    )
    validation, testing = data.examples[split.VALIDATION], data.examples[split.TESTING]
    held_out = Examples(
        validation.store,
        np.concatenate([validation.rows[:, :1], testing.rows[:, :1]]),
        np.concatenate([validation.labels, testing.labels]),
    )
    classes = len(data.labels)
    points = []
    for share, repeats in _SHARES_AND_REPEATS:
        wrong = np.zeros(classes)
        for draw in range(repeats):
            training = _drawn(data.examples[split.TRAINING], share, draw)
            *_, last = fit_head(training, validation, classes, settings)
            # The last head, not the one that is best on the validation photos, which are counted.
            is_wrong = last.head.logits_of(held_out).argmax(axis=1) != held_out.labels
            wrong += np.bincount(held_out.labels, is_wrong, classes) / repeats
        points.append(LearningPoint(len(training.labels), tuple(wrong.tolist())))
    counts = np.bincount(held_out.labels, minlength=classes)
    return LearningCurve(graph_sha256, data.labels, tuple(counts.tolist()), tuple(points))


def _drawn(training: Examples, share: float, draw: int) -> Examples:
    """Return a share of the photos of each class, at least one, without distorted views."""
    random = np.random.default_rng(draw)
    numbers = []
    for label in np.unique(training.labels):
        members = random.permutation(np.flatnonzero(training.labels == label))
        numbers.append(members[: max(1, round(share * len(members)))])
    chosen = np.sort(np.concatenate(numbers))
    return Examples(training.store, training.rows[chosen, :1], training.labels[chosen])


def read(path: Path, graph_sha256: str) -> LearningCurve | None:
    """Return the curve at `path`; None without one of the graph, or if it is damaged."""
    try:
        fields = versioned_json.read(read_json(path), str(path), _VERSION, "")
        curve = fields.record(LearningCurve)
    except BadData:
        return None
    return curve if curve.graph_sha256 == graph_sha256 else None


def write(path: Path, curve: LearningCurve) -> None:
    """Write learning_curve.json."""
    files.write_json(path, curve.to_json())
