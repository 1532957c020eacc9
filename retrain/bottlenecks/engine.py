"""Choose the engine that runs a backbone faster on this machine.

An engine takes the pixels of photos, and normalises them where the network is of float32.
The TFLite runtime has an interpreter per core, each on one thread and one photo at a time.
TensorFlow runs one batch at a time on all cores. Their bottlenecks are equal to 1e-3 of the
largest, so the engine is no part of a bottleneck's fingerprint: a cache may hold both. An int8
trunk runs on TFLite only.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deploy import files, versioned_json
from deploy.errors import BadData
from deploy.image import normalise
from deploy.runtime import Model, find_runtime
from deploy.system.cores import cores
from deploy.system.machine import cpu_name
from deploy.system.temporary_files import sweep
from deploy.untrusted_files import read_json
from retrain import parallel, tf_graph
from retrain.backbones import Backbone
from retrain.fingerprint import fingerprint
from retrain.isolated import run_isolated
from retrain.progress import Progress
from retrain.settings.source import Executor, ExtractEngine, Source

Pixels = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]
RunBackbone = Callable[[Pixels], Tensor]
"""Computes bottlenecks, float32 (N, width), of pixels, uint8 (N, height, width, 3)."""

MIN_PROBED_VIEWS = 1000
MIN_PROBED_MB = 20.0
"""Below either, TFLite runs unprobed: loading TensorFlow and the probe, ten seconds, cost more
than they could save, and TFLite is built for small networks."""
_TENSORFLOW_START_S = 4.0
"""Seconds that TensorFlow takes before its first batch."""
_TENSORFLOW_BATCH = 4
"""A batch of 8 takes 0.1 GB more with Inception v3."""
_PROBE_S = 1.0
"""Least time in seconds for which an engine is measured, once it is warm."""
_PROBE_TIMEOUT_S = 300.0
_PROBE_VERSION = 1


class Engine(NamedTuple):
    """What runs a backbone: `make` returns a thread's function, for up to `batch` photos.

    The one of TFLite can be pickled.
    """

    name: str
    make: Callable[[], RunBackbone]
    batch: int


def tflite(backbone: Backbone) -> Engine:
    """Return the TFLite runtime, an interpreter per thread."""
    return Engine("tflite", partial(_interpreter, backbone), 1)


def _interpreter(backbone: Backbone) -> RunBackbone:
    model = Model(backbone.flatbuffer)

    def run_backbone(pixels: Pixels) -> Tensor:
        tensors = pixels if backbone.precision == "int8" else normalise(pixels, backbone.spec)
        return np.stack([model(tensor[np.newaxis]) for tensor in tensors])

    return run_backbone


def tensorflow(backbone: Backbone) -> Engine:
    """Return TensorFlow: while one thread's batch runs on all cores, the other threads decode."""
    run = tf_graph.session(tf_graph.read(backbone.graph_path), tf_graph.BOTTLENECK)
    lock = threading.Lock()  # two batches at once are no faster, and take more memory

    def run_backbone(pixels: Pixels) -> Tensor:
        tensors = normalise(pixels, backbone.spec)
        with lock:
            return run(tensors)

    return Engine("tensorflow", lambda: run_backbone, _TENSORFLOW_BATCH)


_ENGINES = {"tflite": tflite, "tensorflow": tensorflow}


@dataclass(frozen=True)
class EngineChoice:
    """The engine setting, the folder that keeps the probed rates of each backbone, the executor.

    `ray_address` is that of a standing cluster; None starts Ray on this machine.
    """

    setting: ExtractEngine
    probes: Path
    executor: Executor = "threads"
    ray_address: str | None = None

    @classmethod
    def of(cls, source: Source) -> "EngineChoice":
        """Return what `source` says."""
        return cls(source.extract_engine, source.engines, source.executor, source.ray_address)

    def choose(self, backbone: Backbone, view_count: int, progress: Progress) -> Engine:
        """Return the engine for `view_count` views; print its name and the reason."""
        name, reason = self._decide(backbone, view_count)
        progress.info(f"engine {name}: {reason}", "engine", engine=name, why=reason)
        return _ENGINES[name](backbone)

    def _decide(self, backbone: Backbone, view_count: int) -> tuple[str, str]:
        """Return an engine's name and the reason to take it."""
        if self.executor == "ray":
            return "tflite", "the executor is ray"
        if backbone.precision == "int8":
            return "tflite", "an int8 trunk"
        if self.setting != "auto":
            return self.setting, "as asked"
        size_mb = len(backbone.flatbuffer) / 1e6
        if size_mb < MIN_PROBED_MB:
            return "tflite", f"a small network, {size_mb:.0f} MB"
        if view_count < MIN_PROBED_VIEWS:
            return "tflite", f"fewer than {MIN_PROBED_VIEWS} to analyse"
        try:
            rates = self._rates(backbone)
        except BadData as error:
            return "tflite", str(error)
        seconds = {name: view_count / rate for name, rate in rates.items()}
        seconds["tensorflow"] += _TENSORFLOW_START_S
        faster, slower = sorted(seconds, key=lambda name: seconds[name])
        return faster, f"{rates[faster]:.1f}/s on this machine, {slower} {rates[slower]:.1f}/s"

    def _rates(self, backbone: Backbone) -> dict[str, float]:
        """Return the tensors per second of each engine: the kept ones, or else probed ones.

        Each engine is probed in a process of its own, so that only one's memory is in use.
        """
        runtime = find_runtime()
        cause = {
            "backbone": backbone.fingerprint,
            "cpu": cpu_name(),
            "cores": cores(),
            "tensorflow": metadata.version("tensorflow"),
            runtime.name: runtime.version,
        }
        path = self.probes / f"{fingerprint(cause)}.json"
        try:
            return _read_rates(path)
        except BadData:  # there are none, or the file is damaged
            rates = {
                name: run_isolated("the probe", _PROBE_TIMEOUT_S, measure_rate, name, backbone)
                for name in _ENGINES
            }
            sweep(self.probes)
            files.write_json(path, {"cause": cause, "per_s": rates})
            return rates


def _read_rates(path: Path) -> dict[str, float]:
    """Return the tensors per second of each engine in a probe's file; raise BadData without."""
    probe = versioned_json.read(read_json(path), str(path), _PROBE_VERSION, "probe again")
    per_s = probe.object("per_s")
    rates = {name: per_s.number(name, least=0) for name in _ENGINES}
    if not all(rates.values()):
        raise probe.error("a rate is 0")
    return rates


def measure_rate(name: str, backbone: Backbone) -> float:
    """Return how many random photos an engine runs per second on all cores, once warm."""
    engine = _ENGINES[name](backbone)
    shape = (engine.batch, backbone.spec.height, backbone.spec.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def run_once(run_backbone: RunBackbone, batch: Pixels) -> int:
        return len(run_backbone(batch))

    completed = parallel.run(repeat(pixels), engine.make, run_once)
    for _ in range(cores()):
        next(completed)
    start, count, seconds = time.perf_counter(), 0, 0.0
    while seconds < _PROBE_S:
        count += next(completed)
        seconds = time.perf_counter() - start
    return count / seconds
