"""Prepare a backbone: its frozen graph and the same network as TFLite, kept in the cache."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files
from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import decoder
from deploy.system.temporary_files import sweep
from retrain import tf_graph
from retrain.backbones.network import Weights
from retrain.backbones.surgery.photo_input import Sides
from retrain.fingerprint import fingerprint
from retrain.frozen_graph import BOTTLENECK, FrozenGraph
from retrain.isolated import run_isolated
from retrain.settings.source import Precision

_PREPARATION_VERSION = 3
"""Raised when the preparation below changes what it writes."""
_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Backbone:
    """A network below a cut, prepared: a frozen graph and the same as TFLite.

    Both take float32 (N, height, width, 3), normalised as `spec` says, and give float32
    (N, width): operation `input` to `bottleneck` in `graph_path`, N = 1 in `flatbuffer`. It ends
    before its last layer, or as a trunk with a deeper cut (`load_trunk`) at the operation `cut` of
    that graph, whose feature map is flattened. With `precision` int8 (`int8_trunk`) `flatbuffer`
    takes uint8 pixels instead.
    """

    name: str
    spec: InputSpec
    width: int
    weights_sha256: str
    graph_path: Path
    flatbuffer: bytes
    cut: str = BOTTLENECK
    precision: Precision = "float32"

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides a bottleneck's value: the cache's key."""
        cause = {
            **self.identity,
            "decoder": decoder(),
            "distortion": None,
            "dtype": "float16",
        }
        if self.precision == "int8":
            cause["flatbuffer"] = self.flatbuffer_sha256
        return fingerprint(cause)

    @property
    def flatbuffer_sha256(self) -> str:
        """The SHA-256 of `flatbuffer`."""
        return hashlib.sha256(self.flatbuffer).hexdigest()

    @property
    def identity(self) -> dict[str, Any]:
        """What an int8 trunk must have in common with the backbone that it stands for."""
        return {
            "weights": self.weights_sha256,
            "preparation": _PREPARATION_VERSION,
            "cut": self.cut,
            "input": asdict(self.spec),
        }

    def read_graph(self) -> FrozenGraph:
        """Return the graph in `graph_path`; raise OSError."""
        return FrozenGraph(self.graph_path.read_bytes(), self.spec, BOTTLENECK)


def weights_digest(weights: Weights) -> str:
    """Return the SHA-256 of weights: name, dtype, shape and bytes of each, in order."""
    digest = hashlib.sha256()
    for name, values in weights.items():
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def prepare(
    name: str, sha256: str, trace: Callable[[], Any], sides: Sides, cache_dir: Path
) -> tuple[Path, bytes]:
    """Return the path of a backbone's graph, and its flatbuffer, prepared under `cache_dir`.

    If either is missing or damaged there, both are written anew: `trace` returns the GraphDef,
    which takes photos of height and width `sides`. `name` and the digest `sha256` of what decides
    the graph name its folder. A process of its own traces and converts: its memory, 2.0 GB for
    Inception v3, is freed. Raises BadData if the graph cannot be converted.
    """
    folder = cache_dir / "backbones" / f"{name}-{sha256[:16]}-{_PREPARATION_VERSION}"
    graph_path, lite_path, digests_path = (
        folder / file for file in ("graph.pb", "model.tflite", "sha256.json")
    )
    try:
        flatbuffer = lite_path.read_bytes()
        digests = _digests(graph_path.read_bytes(), flatbuffer)
        intact = json.loads(digests_path.read_text()) == digests
    except (OSError, ValueError, RecursionError):
        intact = False
    if not intact:
        sweep(folder)
        flatbuffer = run_isolated(
            "preparing the backbone", _TIMEOUT_S, _prepare, trace, graph_path, sides
        )
        files.write(lite_path, flatbuffer)
        files.write_json(digests_path, _digests(graph_path.read_bytes(), flatbuffer))
    return graph_path, flatbuffer


def _digests(*contents: bytes) -> list[str]:
    return [hashlib.sha256(content).hexdigest() for content in contents]


def _prepare(trace: Callable[[], Any], graph_path: Path, sides: Sides) -> bytes:
    """Write the graph that `trace` returns, and return it as TFLite: TensorFlow is loaded once."""
    files.write(graph_path, trace().SerializeToString(deterministic=True))
    try:
        converter = tf_graph.lite_converter(graph_path, *sides, BOTTLENECK)
    except OSError as error:
        raise BadData(
            f"{graph_path}: removed by another program while it was prepared: run this again"
        ) from error
    flatbuffer: bytes = converter.convert()
    return flatbuffer
