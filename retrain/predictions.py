"""Hold what a network predicts for the photos of a run; write and read it as a Parquet table.

A row has the columns `path`, `digest` (32 bytes), `label`, `split`, `predicted`, `probability` (of
the predicted label) and `label_probability` (of the photo's own), float32 of 0..1. Where all
probabilities are 0, `predicted` is UNKNOWN, which may be the name of a class too. The table's
metadata hold `sha256`, that of the file of the network, and the version, by the rule of
`deploy.versioned_json`: a reader ignores columns that it does not know.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from deploy import files, versioned_json
from deploy.classifier import UNKNOWN
from deploy.errors import BadData
from deploy.untrusted_files import MAX_RECORD_BYTES, damaged, read
from retrain.data.digest_index import to_list
from retrain.data.photo import shown
from retrain.data.photo_table import PhotoTable
from retrain.metrics import NO_LABEL, best_labels

_VERSION = 1
_BLOCK = 4096
"""Predictions that are objects at a time."""
_VERSION_KEYS = ("schema", versioned_json.MIN_READER)
SCHEMA = pa.schema(
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
        return self.predicted == self.label and self.probability > 0


class PredictionRows(Sequence[Prediction]):
    """Predictions as columns. One becomes an object only while it is used."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of_scores(
        cls,
        blocks: Iterable[tuple[npt.NDArray[Any], PhotoTable, str]],
        labels: Sequence[str],
    ) -> "PredictionRows":
        """Return the predictions in each block: scores (N, C), photos (N,), and their split.

        The scores are probabilities of `labels`.
        """
        names = pa.array([*labels, UNKNOWN], pa.string())
        tables = [SCHEMA.empty_table()]
        for scores, photos, split in blocks:
            best, own = best_labels(scores), photos.labels_in(labels)
            rows = np.arange(len(scores))
            columns = [
                pa.array((shown(text) for text, _, _ in photos.texts()), pa.string()),
                pa.array(to_list(photos.digests), pa.binary(32)),
                names.take(pa.array(own)),
                pa.repeat(split, len(scores)),
                names.take(pa.array(np.where(best == NO_LABEL, len(labels), best))),
                pa.array(scores.max(axis=1), pa.float32()),
                pa.array(scores[rows, own], pa.float32()),
            ]
            tables.append(pa.table(columns, schema=SCHEMA))
        return cls(pa.concat_tables(tables).combine_chunks())

    def __len__(self) -> int:
        """Return the number of predictions."""
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, selection: int) -> Prediction: ...
    @overload
    def __getitem__(self, selection: slice) -> "PredictionRows": ...
    def __getitem__(self, selection: int | slice) -> "Prediction | PredictionRows":
        """Return a prediction, or some of them."""
        if isinstance(selection, slice):
            return PredictionRows(self.table.take(list(range(len(self))[selection])))
        number = range(len(self))[selection]
        (prediction,) = PredictionRows(self.table.slice(number, 1))
        return prediction

    def __iter__(self) -> Iterator[Prediction]:
        """Yield each prediction."""
        for batch in self.table.to_batches(_BLOCK):
            columns = (batch[name].to_pylist() for name in SCHEMA.names)
            yield from map(Prediction, *columns)

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is a sequence of the same predictions."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network, in the order of the photos; `sha256` is that of its file."""

    sha256: str
    rows: PredictionRows


def write(path: Path, predictions: Predictions) -> None:
    """Write the table `path`, whole or not at all."""
    metadata = {"schema": str(_VERSION), "sha256": predictions.sha256}
    table = predictions.rows.table.replace_schema_metadata(metadata)
    with files.atomic(path) as stream:
        pq.write_table(table, stream, compression="zstd")


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
            rows = table.read(columns=SCHEMA.names, use_threads=False)
        if rows.schema.types != SCHEMA.types:
            raise ValueError("its columns have other types")
        return Predictions(values["sha256"], PredictionRows(rows))


def sha256_of(path: Path) -> str | None:
    """Return the SHA-256 of the network that the table at `path` is of; None without a table."""
    try:
        return read_predictions(path, "").sha256
    except (OSError, BadData):
        return None
