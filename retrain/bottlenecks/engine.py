"""Run a backbone on whichever of two engines is faster for it on this machine.

The TFLite runtime has an interpreter a core, each on one thread and on one photo at a time;
TensorFlow takes batches, one after the other, on all cores. Their features are equal to 1e-3 of
the largest, so the engine is no part of a bottleneck's fingerprint: a cache may hold both.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from itertools import repeat
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy import files
from deploy.errors import BadData
from deploy.runtime import Model, find_runtime
from deploy.system.cores import cores
from deploy.system.machine import cpu_name
from deploy.system.temporary_files import sweep
from deploy.untrusted_files import damaged, read_json
from retrain import parallel, tf_graph
from retrain.backbones import Backbone
from retrain.fingerprint import fingerprint
from retrain.isolated import run_isolated
from retrain.progress import Progress

Wanted = Literal["auto", "tensorflow", "tflite"]
Tensor = npt.NDArray[np.float32]
Extract = Callable[[Tensor], Tensor]
"""Makes bottlenecks, float32 (N, width), of tensors, float32 (N, height, width, 3)."""

MIN_PHOTOS = 1000
SMALL_MB = 20.0
"""Below either, TFLite is taken unprobed: loading TensorFlow and the probe, ten seconds, cost more
than they could save, and TFLite is made for networks of a mobile's size."""
_START_S = 4.0
"""What TensorFlow takes before its first batch."""
_BATCH = 4
"""Of Inception v3, 8 at a time take 0.1 GB more."""
_PROBE_S = 1.0
"""The least time that each engine is measured, once it is warm."""
_PATIENCE_S = 300.0


class Engine(NamedTuple):
    """What runs a backbone: `make` gives a thread its own Extract, for up to `batch` tensors."""

    name: str
    make: Callable[[], Extract]
    batch: int


def tflite(backbone: Backbone) -> Engine:
    """Return the TFLite runtime, an interpreter a thread."""

    def make() -> Extract:
        model = Model(backbone.flatbuffer)
        return lambda tensors: np.stack([model(each[np.newaxis]) for each in tensors])

    return Engine("tflite", make, 1)


def tensorflow(backbone: Backbone) -> Engine:
    """Return TensorFlow: while a thread's batch is in it, on all cores, the others decode."""
    run = tf_graph.session(tf_graph.read(backbone.graph_path), tf_graph.BOTTLENECK)
    turn = threading.Lock()  # two batches at once are no faster, and take more memory

    def extract(tensors: Tensor) -> Tensor:
        with turn:
            return run(tensors)

    return Engine("tensorflow", lambda: extract, _BATCH)


_ENGINES = {"tflite": tflite, "tensorflow": tensorflow}


@dataclass(frozen=True)
class Choice:
    """Which engine is `wanted`; what a probe found is remembered in a file below `memory`."""

    wanted: Wanted
    memory: Path

    def engine(self, backbone: Backbone, photos: int, progress: Progress) -> Engine:
        """Return the engine to analyse `photos` photos (or views) with, and say which and why."""
        name, why = self._decide(backbone, photos)
        progress.info(f"engine {name}: {why}", "engine", engine=name, why=why)
        return _ENGINES[name](backbone)

    def _decide(self, backbone: Backbone, photos: int) -> tuple[str, str]:
        if self.wanted != "auto":
            return self.wanted, "as asked"
        size = len(backbone.flatbuffer) / 1e6
        if size < SMALL_MB:
            return "tflite", f"a small network, {size:.0f} MB"
        if photos < MIN_PHOTOS:
            return "tflite", f"fewer than {MIN_PHOTOS} to analyse"
        try:
            rates = self._rates(backbone)
        except BadData as error:
            return "tflite", str(error)
        seconds = {name: photos / rate for name, rate in rates.items()}
        seconds["tensorflow"] += _START_S
        best, other = sorted(seconds, key=lambda name: seconds[name])
        return best, f"{rates[best]:.1f}/s on this machine, {other} {rates[other]:.1f}/s"

    def _rates(self, backbone: Backbone) -> dict[str, float]:
        """Return the tensors per second of each engine, as remembered or else as measured.

        Each is measured in a process of its own: else both would hold their memory at once.
        """
        runtime = find_runtime()
        cause = {
            "backbone": backbone.fingerprint,
            "cpu": cpu_name(),
            "cores": cores(),
            "tensorflow": metadata.version("tensorflow"),
            runtime.name: runtime.version,
        }
        path = self.memory / f"{fingerprint(cause)}.json"
        try:
            with damaged(f"{path}: cannot be read"):
                per_s = read_json(path)["per_s"]
                remembered = {name: float(per_s[name]) for name in _ENGINES}
                if not all(0 < each < math.inf for each in remembered.values()):
                    raise ValueError(f"{remembered} are no rates")
                return remembered
        except BadData:  # none there, or damaged
            rates = {
                name: run_isolated("the probe", _PATIENCE_S, rate, name, backbone)
                for name in _ENGINES
            }
            sweep(self.memory)
            files.write_json(path, {"cause": cause, "per_s": rates})
            return rates


def rate(name: str, backbone: Backbone) -> float:
    """Return how many random tensors an engine takes per second on all cores, once warm."""
    engine = _ENGINES[name](backbone)
    shape = (engine.batch, backbone.spec.height, backbone.spec.width, 3)
    tensors = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    ended = parallel.run(repeat(tensors), engine.make, lambda extract, task: len(extract(task)))
    for _ in range(cores()):
        next(ended)
    start, done, seconds = time.perf_counter(), 0, 0.0
    while seconds < _PROBE_S:
        done += next(ended)
        seconds = time.perf_counter() - start
    return done / seconds
