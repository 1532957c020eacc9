"""Test the table of predictions: what is written is read, by the rule for versions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.classifier import UNKNOWN
from deploy.errors import BadData
from retrain.data.photo import Photo
from retrain.data.photo_table import PhotoTable
from retrain.predictions import (
    PredictionRows,
    Predictions,
    read_predictions,
    sha256_of,
    write,
)
from tests.helpers.predictions import prediction_rows

PHOTOS = [Photo(Path(f"/photos/{i}\udce9.jpg"), "ab"[i % 2], bytes([i]) * 32) for i in range(3)]
SCORES = np.array([[0.75, 0.25], [0.625, 0.375], [0.125, 0.875]], np.float32)


def written(folder: Path) -> tuple[Path, Predictions]:
    blocks = [(SCORES[:2], PhotoTable.of(PHOTOS[:2]), "testing")]
    blocks.append((SCORES[2:], PhotoTable.of(PHOTOS[2:]), "testing"))
    predictions = Predictions("f" * 64, PredictionRows.of_scores(blocks, ("a", "b")))
    write(folder / "predictions.parquet", predictions)
    return folder / "predictions.parquet", predictions


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path, predictions = written(tmp_path)
    assert read_predictions(path, "train again") == predictions
    first, second, third = predictions.rows
    assert first == ("/photos/0\\xe9.jpg", bytes(32), "a", "testing", "a", 0.75, 0.75)
    assert (second.predicted, second.probability, second.label_probability) == ("a", 0.625, 0.375)
    assert [row.is_right for row in (first, second, third)] == [True, False, False]


@pytest.mark.parametrize("labels", [("a", "b"), (UNKNOWN, "b")])
def test_a_photo_without_any_probability_is_unknown_and_not_right(labels: tuple[str, str]) -> None:
    photo = replace(PHOTOS[0], label=labels[0])
    block = (np.zeros((1, 2), np.float32), PhotoTable.of([photo]), "testing")
    (row,) = PredictionRows.of_scores([block], labels)
    assert (row.predicted, row.probability, row.is_right) == (UNKNOWN, 0, False)


def test_columns_hold_what_rows_do(tmp_path: Path) -> None:
    columns = written(tmp_path)[1].rows
    rows = list(columns)
    assert columns == rows
    assert columns[1:] == rows[1:]
    assert columns[-1] == rows[-1]
    assert prediction_rows(rows).table == columns.table


def test_a_table_of_a_later_version_is_read_unless_it_says_otherwise(tmp_path: Path) -> None:
    path, predictions = written(tmp_path)
    table = pq.read_table(path).append_column("added", pa.array([1, 2, 3]))
    metadata = {**table.schema.metadata, b"schema": b"9"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert read_predictions(path, "").rows == predictions.rows
    pq.write_table(table.replace_schema_metadata({**metadata, b"min_reader": b"2"}), path)
    with pytest.raises(BadData, match="reader of version 2"):
        read_predictions(path, "")


@pytest.mark.parametrize("damage", ["cut", "types"])
def test_a_damaged_table_is_refused_with_a_remedy(tmp_path: Path, damage: str) -> None:
    path, _ = written(tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        table = pq.read_table(path)
        number = table.schema.get_field_index("probability")
        pq.write_table(table.set_column(number, "probability", pa.array(["a", "b", "c"])), path)
    with pytest.raises(BadData, match=r"predictions\.parquet.*train again"):
        read_predictions(path, "train again")
    assert sha256_of(path) is None
