"""One round: load something, warm it up until it is steady, and time its calls. No more."""

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

WINDOW, STEADY, LEAST_WARM_UP_S, WARM_UP_S = 5, 0.05, 0.5, 10.0
"""Calls are warm once the medians of two windows in a row differ by this share at most, after the
least seconds, in which a clock governor notices the load; given up after the most."""
PHOTO_SHARE = 0.25
"""Photos, from bytes to scores, take this share of the runs and seconds of a round."""


class Limits(NamedTuple):
    """A round ends after `runs` calls or `seconds`, what comes first; at least one call."""

    runs: int
    seconds: float


def measure(
    load: str, arguments: Mapping[str, Any], runs: int, seconds: float, photo: str | None = None
) -> dict[str, Any]:
    """Return a round of what `load`, as "module:name", makes of `arguments`, as JSON values.

    Times are ns, memory is the process's peak in bytes: before anything was loaded, and after.
    `photo` is the path of a file to take through the steps of a model that has them. With 0 `runs`
    there is one call, the first, and nothing else.
    """
    bare = peak_bytes()
    module, _, name = load.partition(":")
    loaded: Loaded = getattr(importlib.import_module(module), name)(**arguments)
    first = timed(loaded.call, Limits(1, 0))[0]
    gc.disable()  # as timeit does: a collection is not the model's time
    warm_up, steady = warm(loaded.call) if runs else (0, False)
    samples = timed(loaded.call, Limits(runs, seconds)) if runs else []
    photos = {}
    if runs and photo and loaded.steps:
        limits = Limits(max(1, round(runs * PHOTO_SHARE)), seconds * PHOTO_SHARE)
        try:
            photos = timed_steps(loaded.steps, Path(photo).read_bytes(), limits)
        except BadData as error:
            raise BadData(f"{photo}: {error}") from error
    return {
        **loaded.about._asdict(),
        "first_ns": first,
        "warm_up": warm_up,
        "steady": steady,
        "samples_ns": samples,
        "photo_ns": photos,
        "bare_bytes": bare,
        "peak_bytes": peak_bytes(),
    }


def warm(call: Callable[[], Any]) -> tuple[int, bool]:
    """Call until two windows in a row are alike; return how many calls, and whether they were."""
    taken: list[int] = []
    start = time.perf_counter()
    least, end = start + LEAST_WARM_UP_S, start + WARM_UP_S
    while True:
        taken += timed(call, Limits(WINDOW, end - time.perf_counter()))
        before, now = taken[-2 * WINDOW : -WINDOW], taken[-WINDOW:]
        if len(before) == WINDOW and time.perf_counter() >= least:
            middles = median(before), median(now)
            if max(middles) - min(middles) <= STEADY * min(middles):
                return len(taken), True
        if time.perf_counter() > end:
            return len(taken), False


def timed(call: Callable[[], Any], limits: Limits) -> list[int]:
    """Return the nanoseconds of each call, in order."""
    samples: list[int] = []
    clock = time.perf_counter_ns
    end = clock() + limits.seconds * 1e9
    while not samples or (len(samples) < limits.runs and clock() < end):
        start = clock()
        call()
        samples.append(clock() - start)
    return samples


def timed_steps(steps: Sequence[Step], photo: bytes, limits: Limits) -> dict[str, list[int]]:
    """Return the nanoseconds of each step, and of all of them: `total`."""
    taken: dict[str, list[int]] = {name: [] for name, _ in steps}
    clock = time.perf_counter_ns

    def classify() -> None:
        value: Any = photo
        for name, step in steps:
            start = clock()
            value = step(value)
            taken[name].append(clock() - start)

    classify()  # the first is not kept: it finds the decoder cold
    for each in taken.values():
        each.clear()
    total = timed(classify, limits)
    return {**taken, "total": total}


def peak_bytes() -> int:
    """Return the most memory that this process held, from the start of its program.

    Linux hands `ru_maxrss` down from the parent through exec, so it is read elsewhere there.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
