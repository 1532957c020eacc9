"""Compare the predictions of the graph with those of the graph before, and of the model."""

from functools import partial

from retrain.data import split
from retrain.predictions import Prediction
from retrain.report.page_values import Change, Count
from retrain.report.photo_book import PhotoBook
from retrain.report.photo_counts import count_rows
from retrain.report.run_inputs import RunInputs


def changes(inputs: RunInputs, book: PhotoBook) -> tuple[Change, ...]:
    """Return each class before and after, on the test photos that both graphs saw."""
    count = partial(count_rows, inputs, book)
    before = {row.digest: row for row in inputs.previous_rows if row.split == split.TESTING}
    both = [(before[row.digest], row) for row in inputs.test_rows if row.digest in before]
    rows_of_classes = []
    for label in ("", *inputs.contract.labels):
        members = [(old, new) for old, new in both if label in ("", new.label)]
        if not members:
            continue
        # A photo counts by its present label, so that both networks are measured alike.
        was_right = [old.predicted == new.label for old, new in members]
        rows = [new for _, new in members]
        zipped = list(zip(was_right, rows, strict=True))
        rows_of_classes.append(
            Change(
                label,
                len(members),
                sum(was_right),
                sum(row.is_right for row in rows),
                count(
                    f"{label or 'All classes'}: right now, wrong before",
                    (row for right, row in zipped if row.is_right and not right),
                ),
                count(
                    f"{label or 'All classes'}: wrong now, right before",
                    (row for right, row in zipped if right and not row.is_right),
                ),
            )
        )
    return tuple(rows_of_classes)


def disagreements(
    inputs: RunInputs, book: PhotoBook
) -> tuple[tuple[tuple[int, Prediction, Prediction], ...], Count]:
    """Return photos whose best label differs between graph and model, the surest first."""
    of_model = {row.digest: row for row in inputs.model_rows}
    rows = [
        (row, of_model[row.digest])
        for row in inputs.test_rows
        if row.digest in of_model and of_model[row.digest].predicted != row.predicted
    ]
    rows.sort(key=lambda pair: -(pair[0].probability + pair[1].probability))
    total = count_rows(inputs, book, "Graph and model disagree", (row for row, _ in rows))
    listed = tuple(
        (book.show(inputs.photo_of[row.digest]), row, other)
        for row, other in rows[:12]
        if row.digest in inputs.photo_of
    )
    return listed, total
