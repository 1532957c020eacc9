"""Training as TensorBoard shows it: one event file each for training and validation."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrain.graph import tensorflow
from retrain.head import Evaluation


class Events:
    """Writes evaluations below `folder`, in a sub-folder of this run's own."""

    def __init__(self, folder: Path) -> None:
        tf = tensorflow()
        run = folder / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        self._training, self._validation = (
            tf.summary.create_file_writer(str(run / name)) for name in ("train", "validation")
        )

    def write(self, evaluation: Evaluation) -> None:
        """Write the scalars `accuracy` and `cross_entropy` of both sides."""
        step, *values = evaluation
        _scalars(self._training, step, values[:2])
        _scalars(self._validation, step, values[2:])

    def close(self) -> None:
        """Put everything on disk."""
        self._training.close()
        self._validation.close()


def _scalars(writer: Any, step: int, values: list[float]) -> None:
    summary = tensorflow().summary
    with writer.as_default(step=step):
        for name, value in zip(("accuracy", "cross_entropy"), values, strict=True):
            summary.scalar(name, value)


@contextmanager
def events(folder: Path) -> Iterator[Events]:
    """Open event files below `folder`; they are closed, whole, when the block ends."""
    opened = Events(folder)
    try:
        yield opened
    finally:
        opened.close()
