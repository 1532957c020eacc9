"""A run as TensorBoard shows it: curves, histograms, a confusion matrix and a projector.

Written with tensorboard's own parts, but not with its EventFileWriter: that one opens files
with TensorFlow where it is installed, and loading TensorFlow takes seconds.
"""

import io
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from PIL import Image, ImageDraw, ImageFont, ImageOps
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from deploy.system.error_messages import doing

MAX_POINTS = 1000
"""How many points the projector is given at most."""

THUMBNAIL = 48
"""The side in pixels of a point's picture in the projector."""

_BUCKETS = 30
_MATRIX, _CELL, _NAMES = 1600, 96, 400
"""In pixels, at most: the side of a confusion matrix and of its cells, the width of its names."""
_COUNTED = 20
"""Up to this many classes, counts are written into the cells."""
_FULL = (8, 48, 107)
"""The colour of a cell that holds all of its row; one that holds nothing is white."""

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


class Events:
    """Writes below `folder`, into a folder of this run's own; each call's data is then on disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.run = _new_folder(folder)
        self._files: dict[str, _EventFile] = {}

    def evaluation(
        self,
        step: int,
        train: tuple[float, float],
        validation: tuple[float, float],
        learning_rate: float,
    ) -> None:
        """Write scalars; `train` and `validation` are accuracy (0..1) and cross entropy (nats)."""
        for name, (accuracy, cross_entropy) in (("train", train), ("validation", validation)):
            values = [_scalar("accuracy", accuracy), _scalar("cross_entropy", cross_entropy)]
            if name == "train":
                values.append(_scalar("learning_rate", learning_rate))
            self._to(name).add(step, values)

    def layer(self, step: int, weights: Floats, bias: Floats, logits: Floats) -> None:
        """Write how the final layer's values spread: weights (D, C), bias (C,), logits (N, C)."""
        values = [_histogram("final_layer/logits", logits)]
        for tag, found in (("final_layer/weights", weights), ("final_layer/biases", bias)):
            values += [
                _histogram(tag, found),
                _scalar(f"{tag}/mean", found.mean()),
                _scalar(f"{tag}/stddev", found.std()),
                _scalar(f"{tag}/min", found.min()),
                _scalar(f"{tag}/max", found.max()),
            ]
        self._to("train").add(step, values)

    def confusion(self, step: int, matrix: Integers, labels: Sequence[str]) -> None:
        """Write counts (C, C), rows true and columns predicted, as a picture."""
        picture = _confusion(matrix, [_line(label) for label in labels])
        content = [str(picture.width).encode(), str(picture.height).encode(), _png(picture)]
        self._to("test").add(step, [_value(images, "confusion_matrix", content)])

    def projector(
        self, bottlenecks: Floats, labels: Sequence[str], thumbnails: Sequence[Image.Image]
    ) -> None:
        """Write 1..MAX_POINTS points (N, D), each with its label and picture; else ValueError.

        To be called before `confusion`: a TensorBoard that is open already looks for these files
        once, when the first event is in their folder.
        """
        if not 0 < len(bottlenecks) == len(labels) == len(thumbnails) <= MAX_POINTS:
            raise ValueError(
                f"{len(bottlenecks)} points, {len(labels)} labels, {len(thumbnails)} thumbnails: "
                f"expected 1 to {MAX_POINTS}, as many of each"
            )
        folder = self.run / "test"
        folder.mkdir(exist_ok=True)
        raw = np.asarray(bottlenecks, "<f4").tobytes()
        # A file that is not UTF-8 is taken for raw floats, any other for text. This byte is in no
        # UTF-8, and changes the first value by 2**-15 of it at most.
        (folder / "bottlenecks.bytes").write_bytes(b"\xff" + raw[1:])
        lines = "".join(f"{_line(label)}\n" for label in labels)
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
        embedding.sprite.single_image_dim.extend((THUMBNAIL, THUMBNAIL))
        (folder / "projector_config.pbtxt").write_text(text_format.MessageToString(config), "utf-8")
        self._to("test")

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _to(self, name: str) -> "_EventFile":
        if name not in self._files:
            self._files[name] = _EventFile(self.run / name)
        return self._files[name]


@contextmanager
def events(folder: Path) -> Iterator[Events]:
    """Open event files below `folder`; they are closed, whole, when the block ends."""
    opened = Events(folder)
    try:
        yield opened
    finally:
        opened.close()


class _EventFile:
    """The event file of `folder`, which is made: a run by TensorBoard's word."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._path = folder / "events.out.tfevents"
        self._records = RecordWriter(self._path.open("wb"))
        self._write(file_version="brain.Event:2")

    def add(self, step: int, values: list[Any]) -> None:
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        self._records.close()

    def _write(self, **content: Any) -> None:
        with doing("write", self._path):
            self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
            self._records.flush()


def _new_folder(parent: Path) -> Path:
    while True:
        folder = parent / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        try:
            folder.mkdir()
        except FileExistsError:  # another run's, of the same microsecond
            continue
        return folder


def _value(plugin: Any, tag: str, content: Any) -> Any:
    metadata = plugin.create_summary_metadata(display_name=None, description=None)
    return Summary.Value(tag=tag, tensor=make_tensor_proto(content), metadata=metadata)


def _scalar(tag: str, value: float | np.floating[Any]) -> Any:
    return _value(scalars, tag, np.float32(value))


def _histogram(tag: str, values: Floats) -> Any:
    # tensorboard's own histogram_pb takes 20 times as long.
    finite = values[np.isfinite(values)].astype(np.float64)
    counts, edges = np.histogram(finite, _BUCKETS)
    return _value(histograms, tag, np.stack([edges[:-1], edges[1:], counts], axis=1))


def _line(label: str) -> str:
    """Return `label` as one line without tabs, which would start a new row or column."""
    return " ".join(label.split()) or "?"


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _sprite(thumbnails: Sequence[Image.Image]) -> Image.Image:
    """Return the thumbnails row by row in a square, as the projector wants them."""
    across = math.ceil(math.sqrt(len(thumbnails)))
    sprite = Image.new("RGB", (across * THUMBNAIL, across * THUMBNAIL))
    for i, thumbnail in enumerate(thumbnails):
        square = ImageOps.fit(thumbnail.convert("RGB"), (THUMBNAIL, THUMBNAIL))
        sprite.paste(square, (i % across * THUMBNAIL, i // across * THUMBNAIL))
    return sprite


def _confusion(matrix: Integers, names: list[str]) -> Image.Image:
    """Return a picture of at most 2048 px a side: names left and below, cells by row share."""
    classes = len(names)
    side = min(_MATRIX, classes * max(1, min(_CELL, _MATRIX // classes)))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = np.rint(255 - shares[:, :, np.newaxis] * (255 - np.array(_FULL))).astype(np.uint8)
    cells = Image.fromarray(colours).resize(
        (side, side), Image.Resampling.NEAREST if classes <= side else Image.Resampling.BOX
    )
    pitch = side / classes
    pen = ImageDraw.Draw(cells)
    if pitch >= 10:
        for edge in range(0, side, round(pitch)):
            pen.line((edge, 0, edge, side), "#e6e6e6")
            pen.line((0, edge, side, edge), "#e6e6e6")
    if classes <= _COUNTED:
        for row, column in np.argwhere(matrix):
            ink = "white" if shares[row, column] > 0.5 else "black"
            centre = (column + 0.5) * pitch, (row + 0.5) * pitch
            pen.text(centre, str(matrix[row, column]), ink, _font(16), anchor="mm")
    beside = _names(names, side)
    top, left = 24, beside.width
    picture = Image.new("RGB", (left + side + 8, top + side + left), "white")
    picture.paste(cells, (left, top))
    picture.paste(beside, (0, top))
    picture.paste(beside.transpose(Image.Transpose.ROTATE_90), (left, top + side))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left - 1, top - 1, left + side, top + side), outline="grey")
    pen.text((4, 4), "row: true, column: predicted", "black", _font(13))
    return picture


def _names(names: list[str], height: int) -> Image.Image:
    """Return a strip of names, evenly spread and flush right; of many, those that have room."""
    pitch = height / len(names)
    size = min(14, max(10, int(pitch)))
    font = _font(size)
    shown = [name[:32] for name in names]
    width = min(_NAMES, math.ceil(max(font.getlength(name) for name in shown)) + 8)
    strip = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(strip)
    for i in range(0, len(names), math.ceil(size / pitch)):
        pen.text((width - 4, (i + 0.5) * pitch), shown[i], "black", font, anchor="rm")
    return strip


@cache
def _font(size: int) -> Any:
    # Pillow's own has the letters of ASCII only: it shows others as boxes.
    for name in ("DejaVuSans.ttf", "arial.ttf", "Arial.ttf"):
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)
