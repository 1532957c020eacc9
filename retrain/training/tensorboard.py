"""Write a run's events for TensorBoard: curves, histograms, a confusion matrix, a projector.

TensorBoard's EventFileWriter would open files with TensorFlow where that is installed, and loading
TensorFlow takes seconds.
"""

import io
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from PIL import Image, ImageOps
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.plugins.scalar import metadata as scalars

from deploy.system.error_messages import doing
from retrain.tensor_proto import to_proto
from retrain.training.confusion_picture import Integers, draw_confusion_matrix
from retrain.training.curves import CurvePoint
from retrain.training.event_records import write_record

MAX_POINTS = 1000
"""The most points in the projector."""
THUMBNAIL_SIDE = 48
"""Pixels of a side of a point's picture in the projector."""
_HISTOGRAM_BUCKETS = 30

Floats = npt.NDArray[np.floating[Any]]


class EventWriter:
    """Writes events into a new folder below `folder`; every method leaves its data on disk.

    `curves` holds the scores that were written, by stage, after those of `continue_curve`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.run = _new_folder(folder)
        self.curves: dict[str, list[CurvePoint]] = {}
        self._files: dict[str, _EventFile] = {}

    def write_scores(
        self,
        step: int,
        train: tuple[float, float],
        validation: tuple[float, float],
        learning_rate: float,
        stage: str = "",
    ) -> None:
        """Write accuracy (0..1) and cross entropy (nats) of `train` and `validation`.

        `stage` begins the names of their runs in TensorBoard, so that each stage has its curves.
        """
        self.curves.setdefault(stage, []).append(CurvePoint(step, train, validation))
        for name, (accuracy, cross_entropy) in (("train", train), ("validation", validation)):
            values = [_scalar("accuracy", accuracy), _scalar("cross_entropy", cross_entropy)]
            if name == "train":
                values.append(_scalar("learning_rate", learning_rate))
            self._file(stage + name).add(step, values)

    def continue_curve(self, stage: str, points: Sequence[CurvePoint]) -> None:
        """Begin the curve of a stage with the points of the training that this one continues."""
        if points:
            self.curves[stage] = list(points)

    def write_layer(self, step: int, weights: Floats, bias: Floats, logits: Floats) -> None:
        """Write histograms of the head's weights (D, C), bias (C,) and logits (N, C)."""
        values = [_histogram("final_layer/logits", logits)]
        for tag, parameters in (("final_layer/weights", weights), ("final_layer/biases", bias)):
            values += [
                _histogram(tag, parameters),
                _scalar(f"{tag}/mean", parameters.mean()),
                _scalar(f"{tag}/stddev", parameters.std()),
                _scalar(f"{tag}/min", parameters.min()),
                _scalar(f"{tag}/max", parameters.max()),
            ]
        self._file("train").add(step, values)

    def write_confusion_matrix(self, step: int, matrix: Integers, labels: Sequence[str]) -> None:
        """Write a picture of counts (C, C), a row for each true label."""
        picture = draw_confusion_matrix(matrix, [_one_line(label) for label in labels])
        content = [str(picture.width).encode(), str(picture.height).encode(), _png(picture)]
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(content))])
        tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=content)
        self._file("test").add(step, [_value(images, "confusion_matrix", tensor)])

    def write_projector(
        self, bottlenecks: Floats, labels: Sequence[str], thumbnails: Sequence[Image.Image]
    ) -> None:
        """Write 1..MAX_POINTS points (N, D), each with its label and picture.

        Call it before `write_confusion_matrix`: an open TensorBoard looks for these files only
        once, at the first event in their folder. Raises ValueError for another number of points,
        labels or thumbnails.
        """
        if not 0 < len(bottlenecks) == len(labels) == len(thumbnails) <= MAX_POINTS:
            raise ValueError(
                f"{len(bottlenecks)} points, {len(labels)} labels, {len(thumbnails)} thumbnails: "
                f"expected 1 to {MAX_POINTS}, as many of each"
            )
        folder = self.run / "test"
        folder.mkdir(exist_ok=True)
        raw = np.asarray(bottlenecks, "<f4").tobytes()
        # TensorBoard reads a file that is valid UTF-8 as text, any other as raw floats. The byte
        # 255 is never valid, and changes the first value by at most 2**-15 of it.
        (folder / "bottlenecks.bytes").write_bytes(b"\xff" + raw[1:])
        lines = "".join(f"{_one_line(label)}\n" for label in labels)
        (folder / "labels.tsv").write_bytes(lines.encode())
        (folder / "sprite.png").write_bytes(_png(_sprite(thumbnails)))
        config = ProjectorConfig()
        embedding = config.embeddings.add(
            tensor_name="bottlenecks",
            tensor_shape=bottlenecks.shape,
            tensor_path="bottlenecks.bytes",
            metadata_path="labels.tsv",
        )
        embedding.sprite.image_path = "sprite.png"
        embedding.sprite.single_image_dim.extend((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        (folder / "projector_config.pbtxt").write_text(text_format.MessageToString(config), "utf-8")
        self._file("test")

    def close(self) -> None:
        """Close the files, each of them also if the disk is full."""
        with ExitStack() as stack:
            for file in self._files.values():
                stack.callback(file.close)

    def _file(self, name: str) -> "_EventFile":
        if name not in self._files:
            self._files[name] = _EventFile(self.run / name)
            self._files[name].begin()
        return self._files[name]


class _EventFile:
    """The event file in the new folder `folder`, which TensorBoard shows as a run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._path = folder / "events.out.tfevents"
        self._stream = self._path.open("wb")

    def begin(self) -> None:
        self._write(file_version="brain.Event:2")

    def add(self, step: int, values: list[Any]) -> None:
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        with doing("write", self._path):
            self._stream.close()

    def _write(self, **content: Any) -> None:
        with doing("write", self._path):
            event = Event(wall_time=time.time(), **content)
            write_record(self._stream, event.SerializeToString())
            self._stream.flush()


def _new_folder(parent: Path) -> Path:
    while True:
        folder = parent / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        try:
            folder.mkdir()
        except FileExistsError:  # another run began in the same microsecond
            continue
        return folder


def _value(plugin: Any, tag: str, tensor: Any) -> Any:
    metadata = plugin.create_summary_metadata(display_name=None, description=None)
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def _scalar(tag: str, value: float | np.floating[Any]) -> Any:
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(), float_val=[value])
    return _value(scalars, tag, tensor)


def _histogram(tag: str, values: Floats) -> Any:
    # tensorboard's histogram_pb takes 20 times as long.
    finite = values[np.isfinite(values)].astype(np.float64)
    counts, edges = np.histogram(finite, _HISTOGRAM_BUCKETS)
    table = np.stack([edges[:-1], edges[1:], counts], axis=1)
    return _value(histograms, tag, to_proto(table))


def _one_line(label: str) -> str:
    """Return `label` on one line without tabs, which would start a new row or column."""
    return " ".join(label.split()) or "?"


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _sprite(thumbnails: Sequence[Image.Image]) -> Image.Image:
    """Return the thumbnails in a square, row by row: the projector's format."""
    columns = math.ceil(math.sqrt(len(thumbnails)))
    sprite = Image.new("RGB", (columns * THUMBNAIL_SIDE, columns * THUMBNAIL_SIDE))
    for i, thumbnail in enumerate(thumbnails):
        square = ImageOps.fit(thumbnail.convert("RGB"), (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        sprite.paste(square, (i % columns * THUMBNAIL_SIDE, i // columns * THUMBNAIL_SIDE))
    return sprite
