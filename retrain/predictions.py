"""Hold what a network predicts for the photos of a run; write and read it as a Parquet table.

A row has the columns `path`, `digest` (32 bytes), `label`, `split`, `predicted`, `probability` (of
the predicted label) and `label_probability` (of the photo's own), float32 of 0..1. The table's
metadata hold `sha256`, that of the file of the network, and the version, by the rule of
`deploy.versioned_json`: a reader ignores columns that it does not know.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from deploy import files, versioned_json
from deploy.errors import BadData
from deploy.untrusted_files import MAX_RECORD_BYTES, damaged, read
from retrain.data.photo import Photo, shown

_VERSION = 1
_VERSION_KEYS = ("schema", versioned_json.MIN_READER)
_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "digest": pa.binary(32),
        "label": pa.string(),
        "split": pa.string(),
        "predicted": pa.string(),
        "probability": pa.float32(),
        "label_probability": pa.float32(),
    }
)


class Prediction(NamedTuple):
    """The best label of a photo, its probability, and that of the photo's own label.

    `path` is text as `shown` gives it; `digest` identifies the photo.
    """

    path: str
    digest: bytes
    label: str
    split: str
    predicted: str
    probability: float
    label_probability: float

    @property
    def is_right(self) -> bool:
        """Whether the best label is the photo's own."""
        return self.predicted == self.label


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network, in the order of the photos; `sha256` is that of its file."""

    sha256: str
    rows: tuple[Prediction, ...]


def predict(
    scores: npt.NDArray[Any], photos: Sequence[Photo], split: str, labels: Sequence[str]
) -> list[Prediction]:
    """Return the predictions in `scores` (N, C), probabilities of `labels`, for photos (N,)."""
    index = {label: i for i, label in enumerate(labels)}
    best = scores.argmax(axis=1)
    return [
        Prediction(
            shown(photo.path.absolute()),
            photo.digest,
            photo.label,
            split,
            labels[column],
            float(row[column]),
            float(row[index[photo.label]]),
        )
        for photo, row, column in zip(photos, scores, best, strict=True)
    ]


def write(path: Path, predictions: Predictions) -> None:
    """Write the table `path`, whole or not at all."""
    rows = [prediction._asdict() for prediction in predictions.rows]
    schema = _SCHEMA.with_metadata({"schema": str(_VERSION), "sha256": predictions.sha256})
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), content, compression="zstd")
    files.write(path, content.getvalue())


def read_predictions(path: Path, remedy: str) -> Predictions:
    """Return the table at `path`; raise BadData, with `remedy`, if it is damaged, OSError."""
    with damaged(f"{path}: cannot be read as predictions", remedy):
        content = pa.BufferReader(read(path, MAX_RECORD_BYTES))
        with pq.ParquetFile(content) as table:
            texts = table.schema_arrow.metadata or {}
            values = {name.decode(): text.decode() for name, text in texts.items()}
            versions = {
                name: int(values[name]) for name in ("schema", "min_reader") if name in values
            }
            versioned_json.read(versions, str(path), _VERSION, remedy)
            rows = table.read(columns=_SCHEMA.names)
        if rows.schema.types != _SCHEMA.types:
            raise ValueError("its columns have other types")
        columns = (rows[name].to_pylist() for name in _SCHEMA.names)
        return Predictions(values["sha256"], tuple(map(Prediction, *columns)))


def sha256_of(path: Path) -> str | None:
    """Return the SHA-256 of the network that the table at `path` is of; None without a table."""
    try:
        return read_predictions(path, "").sha256
    except (OSError, BadData):
        return None
