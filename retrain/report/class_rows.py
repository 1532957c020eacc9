"""Show the figures of each class, and the photos behind them."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np

from retrain.data import split
from retrain.data.photo import Photo
from retrain.metrics import class_scores, confusion_matrix
from retrain.report.learning_curve import LearningCurve
from retrain.report.page_values import ClassRow, Count
from retrain.report.photo_book import PhotoBook
from retrain.report.photo_counts import count_rows, least_sure, worst_first
from retrain.report.run_inputs import RunInputs


def class_rows(
    inputs: RunInputs,
    curve: LearningCurve | None,
    book: PhotoBook,
) -> tuple[ClassRow, ...]:
    """Return the figures of each class, in the order of the labels.

    `curve` is None where it says nothing of the run's network.
    """
    count = partial(count_rows, inputs, book)
    labels, tested = inputs.contract.labels, inputs.test_rows
    index = {label: i for i, label in enumerate(labels)}
    predicted = np.array([index[row.predicted] for row in tested])
    true = np.array([index[row.label] for row in tested])
    scores = class_scores(confusion_matrix(predicted, true, len(labels)))
    gains = _gains_with_twice(curve, labels, [score.recall for score in scores])
    photos: dict[tuple[str, str], list[Photo]] = defaultdict(list)
    for photo, name in inputs.manifest:
        photos[photo.label, name].append(photo)
    rows = []
    for label, score in zip(labels, scores, strict=True):
        splits = tuple(
            Count(
                len(photos[label, name]),
                book.gallery(f"{label}: photos for {name}", photos[label, name]),
            )
            for name in split.SPLITS
        )
        own = [row for row in tested if row.label == label]
        rows.append(
            ClassRow(
                label,
                splits,
                score,
                len(own),
                count(f"{label}, recognised; the least sure first", least_sure(own)),
                count(
                    f"{label}, taken for another class",
                    worst_first(row for row in own if not row.is_right),
                ),
                count(
                    f"Taken for {label}, and another class",
                    worst_first(
                        row for row in tested if row.predicted == label and not row.is_right
                    ),
                ),
                gains[label],
            )
        )
    return tuple(rows)


def _gains_with_twice(
    curve: LearningCurve | None, labels: Sequence[str], recalls: Sequence[float | None]
) -> dict[str, float | None]:
    """Return how much the recall of each class may grow, at most to 1."""
    if curve is None or curve.labels != tuple(labels):
        return dict.fromkeys(labels)
    return {
        label: gain if gain is None or recall is None else min(gain, 1 - recall)
        for label, gain, recall in zip(labels, curve.gains_with_twice(), recalls, strict=True)
    }
