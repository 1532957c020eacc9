"""Time `model.tflite` against `output_graph.pb`: by turns, on the same image, array to array."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.models import frozen_graph, tflite
from bench.runners import Runner, started
from deploy import metadata
from deploy.errors import BadData

GRAPH, MODEL = "output_graph.pb", "model.tflite"


@dataclass(frozen=True)
class Settings:
    """`runs` timed calls of each after `warmup`, `round_runs` at a turn, on `threads` threads."""

    runs: int = 100
    warmup: int = 10
    threads: int = 1
    round_runs: int = 10


class Timed(Protocol):
    """What a Runner can do."""

    def run(self, times: int) -> list[int]:
        """Return the nanoseconds of each of `times` calls, in order."""


def compare(folder: Path, settings: Settings) -> dict[str, Any]:
    """Time both files of the run folder and return the figures, as JSON values.

    What is timed of both is the call from a prepared input array, one image, to the output
    array: no decoding, no resizing, no normalising. Raises BadData for files that are missing
    or damaged, and MissingPackage without TensorFlow or a TFLite runtime.
    """
    graph, model = folder / GRAPH, folder / MODEL
    for path, command in ((graph, "train"), (model, "convert")):
        if not path.is_file():
            raise BadData(f"{path}: no such file: run `retrain {command}` first")
    start = time.perf_counter()
    contract = metadata.read(model).contract
    with (
        started(MODEL, partial(tflite, model, settings.threads)) as second,
        started(GRAPH, partial(frozen_graph, graph, contract, settings.threads)) as first,
    ):
        samples = alternate((first, second), settings)
    runners = {
        path.name: _figures(path, runner, taken)
        for path, runner, taken in zip((graph, model), (first, second), samples, strict=True)
    }
    ratio = runners[MODEL]["ms"]["p50"] / runners[GRAPH]["ms"]["p50"]
    return {
        "graph_sha256": contract.graph_sha256,
        "settings": asdict(settings),
        "ratio_p50": ratio,
        "runners": runners,
        "seconds": {"bench": time.perf_counter() - start},
    }


def alternate(runners: Sequence[Timed], settings: Settings) -> list[list[int]]:
    """Return the samples (ns) of each runner, taken by turns so that drift hits all alike.

    Each second round goes in reverse. The first call of a turn is not kept: it finds the
    processor's caches filled by the other runner.
    """
    samples: list[list[int]] = [[] for _ in runners]
    turns = list(zip(runners, samples, strict=True))
    for runner in runners:
        runner.run(settings.warmup)
    for done in range(0, settings.runs, settings.round_runs):
        times = min(settings.round_runs, settings.runs - done)
        for runner, kept in turns:
            kept += runner.run(times + 1)[1:]
        turns.reverse()
    return samples


def summary(samples: Sequence[int]) -> dict[str, float]:
    """Return percentiles and the mean, in milliseconds, of samples in nanoseconds."""
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)) / 1e6
    mean = np.mean(samples) / 1e6
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "mean": float(mean)}


def _figures(path: Path, runner: Runner, samples: list[int]) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "sha256": digest,
        "size_bytes": path.stat().st_size,
        **runner.about._asdict(),
        "ms": summary(samples),
        "samples_ns": samples,
    }
