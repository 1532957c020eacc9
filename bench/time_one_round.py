"""Run one round: load a model, warm it up until it is steady, and time its calls."""

import gc
import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.load_tflite import Loaded, Step
from deploy.errors import BadData

WINDOW_CALLS, STEADY_SHARE = 5, 0.05
"""Calls are warm once the medians of two windows in a row differ by at most this share."""
MIN_WARM_UP_S, MAX_WARM_UP_S = 0.5, 10.0
"""A clock governor notices the load within the least time."""
PHOTO_SHARE = 0.25
"""Share of the runs and seconds of a round for photos, from bytes to scores."""


class Limits(NamedTuple):
    """Time at least one call: until `runs` calls or `seconds`, whichever comes first."""

    runs: int
    seconds: float


def measure(
    load: str, arguments: Mapping[str, Any], runs: int, seconds: float, photo: str | None = None
) -> dict[str, Any]:
    """Load a model, time its calls, and return the figures as JSON values.

    `load` names the loader as "module:name". Times are in ns; memory is the process's peak in
    bytes, before the model is loaded and at the end. `photo` is the path of a file that goes
    through the steps of a model that has them. With 0 `runs` only the first call is timed.
    """
    bare = peak_bytes()
    module, _, name = load.partition(":")
    loaded: Loaded = getattr(importlib.import_module(module), name)(**arguments)
    first = time_calls(loaded.call, Limits(1, 0))[0]
    gc.disable()  # as timeit does: a collection is not part of a call
    calls, steady = warm_up(loaded.call) if runs else (0, False)
    samples = time_calls(loaded.call, Limits(runs, seconds)) if runs else []
    photos = {}
    if runs and photo and loaded.steps:
        limits = Limits(max(1, round(runs * PHOTO_SHARE)), seconds * PHOTO_SHARE)
        try:
            photos = time_steps(loaded.steps, Path(photo).read_bytes(), limits)
        except BadData as error:
            raise BadData(f"{photo}: {error}") from error
    return {
        **loaded.about._asdict(),
        "first_ns": first,
        "warm_up": calls,
        "steady": steady,
        "samples_ns": samples,
        "photo_ns": photos,
        "bare_bytes": bare,
        "peak_bytes": peak_bytes(),
    }


def warm_up(call: Callable[[], Any]) -> tuple[int, bool]:
    """Call until two windows in a row are alike; return the calls, and whether they were alike."""
    samples: list[int] = []
    start = time.perf_counter()
    earliest, latest = start + MIN_WARM_UP_S, start + MAX_WARM_UP_S
    while True:
        samples += time_calls(call, Limits(WINDOW_CALLS, latest - time.perf_counter()))
        before, last = samples[-2 * WINDOW_CALLS : -WINDOW_CALLS], samples[-WINDOW_CALLS:]
        if len(before) == WINDOW_CALLS and time.perf_counter() >= earliest:
            medians = median(before), median(last)
            if max(medians) - min(medians) <= STEADY_SHARE * min(medians):
                return len(samples), True
        if time.perf_counter() > latest:
            return len(samples), False


def time_calls(call: Callable[[], Any], limits: Limits) -> list[int]:
    """Return the nanoseconds of each call."""
    samples: list[int] = []
    clock = time.perf_counter_ns
    end = clock() + limits.seconds * 1e9
    while not samples or (len(samples) < limits.runs and clock() < end):
        start = clock()
        call()
        samples.append(clock() - start)
    return samples


def time_steps(steps: Sequence[Step], photo: bytes, limits: Limits) -> dict[str, list[int]]:
    """Return the nanoseconds of each step for each call, and those of all steps as `total`."""
    samples: dict[str, list[int]] = {name: [] for name, _ in steps}
    clock = time.perf_counter_ns

    def classify() -> None:
        value: Any = photo
        for name, step in steps:
            start = clock()
            value = step(value)
            samples[name].append(clock() - start)

    classify()  # not counted: the decoder is cold
    for times in samples.values():
        times.clear()
    total = time_calls(classify, limits)
    return {**samples, "total": total}


def peak_bytes() -> int:
    """Return the most memory in bytes that this process held since its program started.

    On Linux it is read from /proc: a process inherits `ru_maxrss` from its parent there.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
