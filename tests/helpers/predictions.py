"""Make tables of predictions from single ones."""

from collections.abc import Iterable

import pyarrow as pa

from retrain.predictions import SCHEMA, Prediction, PredictionRows


def prediction_rows(rows: Iterable[Prediction]) -> PredictionRows:
    """Return the table of `rows`."""
    return PredictionRows(pa.Table.from_pylist([row._asdict() for row in rows], SCHEMA))
