"""Count the photos of predictions, with the gallery of them behind the number."""

from collections.abc import Iterable

from retrain.predictions import Prediction
from retrain.report.page_values import Count
from retrain.report.photo_book import PhotoBook
from retrain.report.run_inputs import RunInputs


def count_rows(inputs: RunInputs, book: PhotoBook, title: str, rows: Iterable[Prediction]) -> Count:
    """Return the number of `rows`, and a new gallery `title` of their photos in their order."""
    members = list(rows)
    return Count(len(members), book.gallery(title, inputs.photos_of(members)))


def worst_first(rows: Iterable[Prediction]) -> list[Prediction]:
    """Return rows in the order of how much the network prefers another label to their own."""
    return sorted(rows, key=lambda row: (row.label_probability - row.probability, row.path))


def least_sure(rows: Iterable[Prediction]) -> list[Prediction]:
    """Return the rows that are right, the least probable first."""
    return sorted((row for row in rows if row.is_right), key=lambda row: row.probability)
