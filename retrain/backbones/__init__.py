"""The networks whose bottlenecks a final layer can be trained on, ready to run."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files
from deploy.contract import InputSpec
from deploy.image import decoder
from deploy.system.temporary_files import sweep
from retrain import tf_graph
from retrain.backbones import efficientnet_lite, keras_applications
from retrain.backbones.custom.input_spec import Sides
from retrain.backbones.network import Network, Weights
from retrain.backbones.round_kernels import round_kernels
from retrain.fingerprint import fingerprint
from retrain.isolated import run_isolated

_PREPARED = 3
"""Raised when the preparation below changes what it writes."""
_PATIENCE_S = 1800.0


@dataclass(frozen=True)
class Backbone:
    """A network cut before its last layer, prepared: a frozen graph and the same as TFLite.

    Both take float32 (N, height, width, 3), normalised as `spec` says, and give float32
    (N, width): operation `input` to `bottleneck` in `graph_path`, N = 1 in `flatbuffer`.
    """

    name: str
    spec: InputSpec
    width: int
    weights_sha256: str
    graph_path: Path
    flatbuffer: bytes

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides a bottleneck's value: the cache's key."""
        cause = {
            "weights": self.weights_sha256,
            "preparation": _PREPARED,
            "cut": tf_graph.BOTTLENECK,
            "input": asdict(self.spec),
            "decoder": decoder(),
            "distortion": None,
            "dtype": "float16",
        }
        return fingerprint(cause)


NETWORKS: dict[str, Network] = {
    network.name: network for network in (*efficientnet_lite.NETWORKS, *keras_applications.NETWORKS)
}
NAMES = tuple(NETWORKS)


def digest(weights: Weights) -> str:
    """Return the SHA-256 of weights: name, dtype, shape and bytes of each, in order."""
    total = hashlib.sha256()
    for name, values in weights.items():
        total.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        total.update(np.ascontiguousarray(values).data)
    return total.hexdigest()


def load(name: str, cache_dir: Path, weights: Path | None = None) -> Backbone:
    """Return the backbone `name`, preparing it under `cache_dir` if it is not there whole.

    Its weights are those of the file `weights`, or ImageNet's, downloaded where they come in no
    package. Raises BadData for a file that does not hold them.
    """
    network = NETWORKS[name]
    path = weights or network.obtain()
    sha256 = digest(network.read(path))
    trace = partial(_rounded, network, path)
    sides = (network.spec.height, network.spec.width)
    prepared = prepare(name, sha256, trace, sides, cache_dir)
    return Backbone(name, network.spec, network.width, sha256, *prepared)


def _rounded(network: Network, weights: Path) -> Any:
    return round_kernels(network.graph_def(weights))


def prepare(
    name: str, sha256: str, trace: Callable[[], Any], sides: Sides, cache_dir: Path
) -> tuple[Path, bytes]:
    """Return the path of a backbone's graph, and its flatbuffer, prepared under `cache_dir`.

    What is not there whole is made of the GraphDef that `trace` returns, which takes photos of
    height and width `sides`; `name` and `sha256` name its cause. Tracing and converting have a
    process each, whose memory, 1.9 GB for Inception v3, does not stay.
    """
    folder = cache_dir / "backbones" / f"{name}-{sha256[:16]}-{_PREPARED}"
    graph_path, lite_path, sums_path = (
        folder / part for part in ("graph.pb", "model.tflite", "sha256.json")
    )
    try:
        flatbuffer = lite_path.read_bytes()
        whole = json.loads(sums_path.read_text()) == _sums(graph_path.read_bytes(), flatbuffer)
    except (OSError, ValueError, RecursionError):
        whole = False
    if not whole:
        sweep(folder)
        run_isolated("preparing the backbone", _PATIENCE_S, _write_traced, trace, graph_path)
        flatbuffer = run_isolated(
            "converting the backbone", _PATIENCE_S, _to_float32, graph_path, sides
        )
        files.write(lite_path, flatbuffer)
        files.write_json(sums_path, _sums(graph_path.read_bytes(), flatbuffer))
    return graph_path, flatbuffer


def _sums(*parts: bytes) -> list[str]:
    return [hashlib.sha256(part).hexdigest() for part in parts]


def _write_traced(trace: Callable[[], Any], path: Path) -> None:
    files.write(path, trace().SerializeToString(deterministic=True))


def _to_float32(graph_path: Path, sides: Sides) -> bytes:
    converter = tf_graph.lite_converter(graph_path, *sides, tf_graph.BOTTLENECK)
    flatbuffer: bytes = converter.convert()
    return flatbuffer
