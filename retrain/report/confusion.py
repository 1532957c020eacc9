"""Show which classes are taken for which, and the photos behind each number."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial

from retrain.predictions import Prediction
from retrain.report.advice import ConfusedPair
from retrain.report.page_values import Count, PairRow
from retrain.report.photo_book import PhotoBook
from retrain.report.photo_counts import count_rows, worst_first
from retrain.report.run_inputs import RunInputs

_MAX_MATRIX_CLASSES = 20
"""Of more classes the page shows the pairs that are confused most, without the matrix."""
_MAX_PAIRS = 12

Cells = Mapping[tuple[str, str], list[Prediction]]
"""Test photos by label and predicted label, the worst first."""


def cells_of(inputs: RunInputs) -> Cells:
    """Return the test photos of each cell that has any."""
    cells = defaultdict(list)
    for row in worst_first(inputs.test_rows):
        cells[row.label, row.predicted].append(row)
    return dict(cells)


def pair_rows(inputs: RunInputs, book: PhotoBook, cells: Cells) -> tuple[PairRow, ...]:
    """Return the cells of misclassified photos, those with the most photos first."""
    wrong = sorted(
        (cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -len(cells[cell])
    )
    return tuple(
        PairRow(
            label,
            predicted,
            count_rows(inputs, book, f"{label}, taken for {predicted}", cells[label, predicted]),
        )
        for label, predicted in wrong[:_MAX_PAIRS]
    )


def matrix(
    inputs: RunInputs, book: PhotoBook, cells: Cells
) -> tuple[tuple[Count, ...], ...] | None:
    """Return the confusion matrix, a row for each label; None with too many classes."""
    labels = inputs.contract.labels
    if len(labels) > _MAX_MATRIX_CLASSES:
        return None
    count = partial(count_rows, inputs, book)
    return tuple(
        tuple(
            count(
                f"{label}, recognised" if label == other else f"{label}, taken for {other}",
                cells.get((label, other), ()),
            )
            for other in labels
        )
        for label in labels
    )


def wrong_by_label(cells: Cells) -> Mapping[str, int]:
    """Return the number of misclassified test photos of each class that has any."""
    counts: Counter[str] = Counter()
    for (label, predicted), rows in cells.items():
        if label != predicted:
            counts[label] += len(rows)
    return counts


def confused_pairs(cells: Cells) -> list[ConfusedPair]:
    """Return the pairs of classes with photos taken for each other, the most first."""
    counts: Counter[tuple[str, ...]] = Counter()
    for (label, predicted), rows in cells.items():
        if label != predicted:
            counts[tuple(sorted((label, predicted)))] += len(rows)
    return [ConfusedPair((first, second), n) for (first, second), n in counts.most_common()]
