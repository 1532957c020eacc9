"""Run `retrain` in tests, and read what a run of `retrain train` wrote."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from click.testing import Result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from retrain.data.manifest import read_manifest
from retrain.data.photo import Photo

Invoke = Callable[..., Result]
STEPS = 40
"""Training steps of the runs that the fixture `train` makes."""
FEW_CALIBRATION_IMAGES = ("--calibration-images", 12)
"""Options of a quick `convert`: TensorFlow takes 0.1 s for an image of 224 pixels."""


class Streams(Protocol):
    """What a command printed."""

    @property
    def stdout(self) -> str:
        """The data."""

    @property
    def stderr(self) -> str:
        """The progress and the warnings."""


@dataclass(frozen=True)
class Output:
    """What a command printed in another process."""

    stdout: str
    stderr: str


@dataclass(frozen=True)
class Run:
    """A finished run of `retrain train`."""

    folder: Path
    result: Streams

    @property
    def metrics(self) -> Any:
        """The content of metrics.json."""
        return json.loads((self.folder / "metrics.json").read_text("utf-8"))

    @property
    def manifest(self) -> Sequence[tuple[Photo, str]]:
        """Each photo with its split."""
        return read_manifest(self.folder / "manifest.csv")

    @property
    def splits(self) -> dict[bytes, str]:
        """The split of each photo, by its digest."""
        return {photo.digest: name for photo, name in self.manifest}

    def weights(self, name: str = "weights") -> npt.NDArray[Any]:
        """Return an array of the checkpoint."""
        with np.load(self.folder / "checkpoint.npz") as checkpoint:
            return np.asarray(checkpoint[name])

    def curve(self, tag: str, side: str = "train") -> dict[int, npt.NDArray[Any]]:
        """Return the tensors that TensorBoard has under `tag`, by step."""
        (folder,) = self.folder.glob(f"summaries/*/{side}")
        return tensors(folder, tag)


Train = Callable[..., Run]


def tensors(folder: Path, tag: str) -> dict[int, npt.NDArray[Any]]:
    """Return the tensors that TensorBoard has under `tag` in `folder`, by step."""
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload().Tensors(tag)
    return {event.step: make_ndarray(event.tensor_proto) for event in events}


def shards(folder: Path) -> dict[str, dict[tuple[bytes, int], Any]]:
    """Return the bottlenecks in each cache below `folder`, by digest and view."""
    caches: dict[str, dict[tuple[bytes, int], Any]] = {}
    for path in folder.glob("*/shard-*.parquet"):
        for row in pq.read_table(path).to_pylist():
            caches.setdefault(path.parent.name, {})[row["digest"], row["view"]] = row["bottleneck"]
    return caches
