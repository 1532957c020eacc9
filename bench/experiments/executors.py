"""Compare executors with a bare loop: `python -m bench.experiments.executors DIR`.

By turns in one process, on the same photos: (B) bare loops, one a core, each with an interpreter,
which read, decode and invoke with the product's functions and keep nothing; (T) the analysis in
threads, from an empty cache; (R) the same by actors of Ray, which runs already. After T the same
photos are scanned and taken from the cache: the warm second run. Every time includes the loading of
the interpreters, and R that of the actors. Exit code 4 if T is above its bound: 3% of time over B,
by the median of the rounds, or 60 microseconds a photo for the warm second run.

The time of the processors shows more than the time of the clock where other programs run. Ray's is
not counted, because its actors are processes of their own.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.experiments.shared import json_option, run, save
from deploy.errors import GateFailed
from deploy.image import normalise, open_image, to_pixels
from deploy.runtime import Model
from deploy.system.cores import cores
from deploy.system.terminal import align, say
from retrain import backbones, ray_pool
from retrain.backbones import Backbone
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import extract
from retrain.data.photo_table import PhotoTable
from retrain.data.source import read_photos
from retrain.progress import Progress
from retrain.settings.cache import default_cache_dir
from retrain.settings.source import DEFAULT_ARCHITECTURE, Executor

NAMES = {"B": "bare loops", "T": "threads", "R": "Ray"}
MAX_RATIO, MAX_WARM_US = 1.03, 60.0


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--photos", "count", default=2000, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--only", default="".join(NAMES), show_default=True, help="The letters to measure.")
@json_option
def main(folder: Path, count: int, rounds: int, only: str, output: Path | None) -> None:
    """Print milliseconds a photo of DIR for each executor, and the ratios to the bare loops."""
    figures = compare(folder, count, rounds, [name for name in NAMES if name in only])
    if output:
        save(output, figures)
    say(*table(figures))
    late = figures["ratios"].get("T/B", 0) > MAX_RATIO
    if late or median(figures["warm_us"] or [0]) > MAX_WARM_US:
        raise GateFailed("above the bound")


def compare(folder: Path, count: int, rounds: int, names: list[str]) -> dict[str, Any]:
    """Return the milliseconds a photo of each round, by the clock and by the processors."""
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    warm: dict[str, list[float]] = {"scan": [], "extract": []}
    backbone = backbones.load(DEFAULT_ARCHITECTURE, default_cache_dir())
    with TemporaryDirectory() as temporary:
        scans = Path(temporary) / "scans"
        everything = read_photos(folder, None, scans).photos
        photos = everything.take(np.arange(len(everything)) < count)
        ray_start = connect_ray() if "R" in names else None
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                place = Path(temporary) / f"{number}-{name}"
                work = job(name, photos, backbone, place)
                seconds = timed(work)
                for times, second in zip((wall, cpu), seconds, strict=True):
                    times[name].append(1e3 * second / len(photos))
                if name == "T":
                    scan_s, _ = timed(lambda: read_photos(folder, None, scans))
                    warm["scan"].append(1e6 * scan_s / len(everything))
                    warm["extract"].append(1e6 * timed(work)[0] / len(photos))
    ratios = {
        f"{name}/B": median(a / b for a, b in zip(wall[name], wall["B"], strict=True))
        for name in names
        if name != "B" and "B" in names
    }
    return {
        "photos": len(photos),
        "workers": cores(),
        "names": {name: NAMES[name] for name in names},
        "wall_ms": wall,
        "cpu_ms": cpu,
        "ratios": ratios,
        "warm_parts_us": warm,
        "warm_us": [sum(parts) for parts in zip(*warm.values(), strict=True)],
        "ray_start_s": ray_start,
    }


def connect_ray() -> float:
    """Start Ray on this machine until this program ends; return the seconds that this takes."""
    start = time.perf_counter()
    ray_pool.connect(None)
    return time.perf_counter() - start


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the clock and of the processors that `work` takes."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def job(name: str, photos: PhotoTable, backbone: Backbone, place: Path) -> Callable[[], object]:
    """Return the work of an executor, with the cache `place`."""
    if name == "B":
        return lambda: bare_loops(photos, backbone)
    executor: Executor = "ray" if name == "R" else "threads"
    how = EngineChoice("tflite", Path("no probe"), executor)
    return lambda: extract(photos, backbone, how, place, Progress(verbosity="ERROR"))


def bare_loops(photos: PhotoTable, backbone: Backbone) -> None:
    """Read, decode and invoke each photo, in as many threads as there are cores."""
    waiting, lock = iter(photos), threading.Lock()

    def work() -> None:
        model = Model(backbone.flatbuffer)
        while True:
            with lock:
                photo = next(waiting, None)
            if photo is None:
                return
            image = open_image(photo.path.read_bytes(), backbone.spec)
            model(normalise(to_pixels(image, backbone.spec), backbone.spec))

    with ThreadPoolExecutor(cores()) as pool:
        for future in [pool.submit(work) for _ in range(cores())]:
            future.result()


def table(figures: dict[str, Any]) -> list[str]:
    """Return the milliseconds a photo, round by round, and the medians of the ratios."""
    names = figures["names"]
    rows = [("round", *(f"{name} {form}" for name in names for form in ("wall", "cpu")))]
    for number in range(len(next(iter(figures["wall_ms"].values())))):
        cells = [figures[kind][name][number] for name in names for kind in ("wall_ms", "cpu_ms")]
        rows.append((str(number + 1), *(f"{cell:.3f}" for cell in cells)))
    lines = [f"{figures['photos']} photos, {figures['workers']} workers; ms a photo"]
    lines += [f"{name}: {meaning}" for name, meaning in names.items()]
    lines += align(rows, ())
    lines += [f"{pair} {value:.3f} (median)" for pair, value in figures["ratios"].items()]
    if figures["warm_us"]:
        parts = {name: median(values) for name, values in figures["warm_parts_us"].items()}
        sums = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
        lines.append(f"warm second run {median(figures['warm_us']):.1f} us a photo ({sums})")
    if figures["ray_start_s"] is not None:
        lines.append(f"Ray starts in {figures['ray_start_s']:.1f} s, once")
    return lines


if __name__ == "__main__":
    run(main)
