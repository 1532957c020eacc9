"""A table of photos is a sequence of them, and holds a tenth of what they take."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrain.data.photo import Photo
from retrain.data.photo_table import PhotoTable
from retrain.data.remote_path import photo_path


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


PHOTOS = [
    Photo(Path(os.fsdecode(b"photos/\xff\xfe.jpg")), "zebra", digest("1"), "testing"),
    Photo(Path("photos/żółw ☀.jpg"), "Ape", digest("2")),
    *(Photo(Path(f"/p/{i}.jpg"), f"{i % 7}", digest(f"n{i}"), "training") for i in range(9000)),
]


def columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table[name] for name in table.column_names}


def test_a_table_is_a_sequence_of_its_photos() -> None:
    table = PhotoTable.of(iter(PHOTOS))
    assert len(table) == len(PHOTOS)
    assert list(table) == PHOTOS
    assert table == PHOTOS
    assert table != PHOTOS[::-1]
    assert table[0] == PHOTOS[0]
    assert table[-1] == PHOTOS[-1]
    assert table[5000:20:-3] == PHOTOS[5000:20:-3]
    assert PhotoTable.of(table) is table
    with pytest.raises(IndexError):
        table[len(PHOTOS)]
    assert PhotoTable.of(()) == []


def test_photos_are_taken_by_number_and_by_mask() -> None:
    table = PhotoTable.of(PHOTOS)
    numbers = np.array([7000, 3, 3, 0])
    assert table.take(numbers) == [PHOTOS[i] for i in numbers]
    assert table.take(np.arange(len(PHOTOS)) % 2 == 0) == PHOTOS[::2]
    assert table.take(np.empty(0, np.int64)) == []


def test_labels_and_splits_are_numbers() -> None:
    table = PhotoTable.of(PHOTOS[:4])
    assert table.label_names == ("0", "1", "Ape", "zebra")
    assert table.labels_in(("zebra", "1", "Ape", "0")).tolist() == [0, 2, 3, 1]
    with pytest.raises(KeyError, match="Ape"):
        table.labels_in(("zebra", "1", "0"))
    assert table.label_counts() == {"0": 1, "1": 1, "Ape": 1, "zebra": 1}
    assert table.split_counts() == {"": 1, "training": 2, "validation": 0, "testing": 1}
    few = table.take(np.array([0]))
    assert few.label_counts() == {"zebra": 1}
    assert few.labels_in(("zebra",)).tolist() == [0]


def test_labels_get_other_names() -> None:
    table = PhotoTable.of(PHOTOS[:4]).relabelled({"Ape": "x", "1": "x", "zebra": "a"})
    assert [photo.label for photo in table] == ["a", "x", "x"]
    assert table[0].path == PHOTOS[0].path


def test_photos_are_found_by_their_paths() -> None:
    paths = [PHOTOS[0].path, PHOTOS[4000].path, Path("elsewhere")]
    assert np.flatnonzero(PhotoTable.of(PHOTOS).is_at(paths)).tolist() == [0, 4000]


@pytest.mark.parametrize("chunks", [1, 3])
def test_columns_of_arrow_become_photos(chunks: int) -> None:
    photos = PHOTOS[1:50]
    table = pa.table(
        {
            "path": [str(photo.path) for photo in photos],
            "label": pa.array([photo.label for photo in photos]).dictionary_encode(),
            "digest": [photo.digest for photo in photos],
            "split": [photo.split for photo in photos],
            "size": [1] * len(photos),
        }
    )
    size = -(-len(photos) // chunks)
    batches = [
        batch for start in range(0, 49, size) for batch in table[start : start + size].to_batches()
    ]
    read = PhotoTable.of_arrow(columns(pa.Table.from_batches(batches)))
    assert read == photos
    assert read.label_names == PhotoTable.of(photos).label_names


def test_paths_of_arrow_are_those_of_their_photos() -> None:
    texts = ["a//b.jpg", "./c.jpg", "d/./e.jpg", "/f/g.jpg", "s3://h//i.jpg", "file:///j/k.jpg"]
    table = pa.table(
        {"path": texts, "label": ["a"] * 6, "digest": [bytes(32)] * 6, "split": [""] * 6}
    )
    photos = PhotoTable.of_arrow(columns(table))
    assert [str(photo.path) for photo in photos] == [str(photo_path(text)) for text in texts]
    assert photos.is_at([photo_path(text) for text in texts]).all()


@pytest.mark.parametrize(
    ("name", "value"), [("split", "test"), ("digest", None), ("label", None), ("path", None)]
)
def test_columns_that_are_no_photos_are_an_error(name: str, value: str | None) -> None:
    row = {"path": "a.jpg", "label": "a", "digest": bytes(32), "split": "", name: value}
    with pytest.raises(ValueError, match="split"):
        PhotoTable.of_arrow(columns(pa.Table.from_pylist([row])))


def test_a_table_takes_little_memory() -> None:
    count = 10_000
    table = PhotoTable.of(
        Photo(Path(f"/data/photos/class/{i:08}.jpg"), "class", i.to_bytes(32)) for i in range(count)
    )
    columns = (table.paths, table.digests, table.label_numbers, table.split_codes)
    assert len(table) == count
    assert sum(column.nbytes for column in columns) / count < 80  # an object of each takes 700


def test_help_does_without_arrow() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from retrain.cli import commands\n"
        "CliRunner().invoke(commands, ['--help']); print('pyarrow' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "False"
