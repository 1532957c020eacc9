"""Measure what classifying costs besides the network: `bench.experiments.device MODEL PHOTO`.

A JPEG of 320x240 and one of 12 megapixels are made of PHOTO. By turns, in one process: (A)
`Classifier.classify(path)`; (B) only the calls of Pillow and the runtime that it needs; (C) A on
the large photo; (D) the decoding of that alone, at reduced scale; (E) A with 2 threads. Then the
time until `classify.pyz` prints its first label in a new process, its memory, and the growth of a
process's memory over many classifications.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import psutil
from PIL import Image

from bench.experiments.shared import find_photos, json_option, run, run_with_memory, save
from bench.stats import milliseconds
from bench.worker_process import call, packages
from deploy import Classifier
from deploy.bundle import write
from deploy.classifier import to_image
from deploy.image import kept_box, open_image
from deploy.system.terminal import say_table

SMALL, LARGE = (320, 240), (4000, 3000)
FIRST_CLASSIFICATIONS = 500
"""Classifications after which the memory of a process should not grow."""
_WARM_UP_TURNS = 10
_MB = 1e6


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.argument("photo", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=200, show_default=True, type=click.IntRange(min=10))
@click.option("--starts", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--classifications", default=10_000, show_default=True, type=click.IntRange(min=1000))
@click.option(
    "--enlarge",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of photos to enlarge.",
)
@json_option
def main(
    model: Path,
    photo: Path,
    rounds: int,
    starts: int,
    classifications: int,
    enlarge: Path | None,
    output: Path | None,
) -> None:
    """Print what classifying PHOTO by MODEL costs besides the network."""
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        small, large = (_write_jpeg(photo, place, size) for size in (SMALL, LARGE))
        figures = _time_turns(model, small, large, rounds)
        bundle = write(model, place / "bundle").folder
        figures |= _time_starts(Path(bundle) / "classify.pyz", small, starts)
        figures |= _measure_growth(model, small, classifications)
        if enlarge:
            figures["enlarged"] = _count_same_labels(model, find_photos(enlarge), place)
    if output:
        save(output, figures)
    say_table(table(figures))


def _write_jpeg(photo: Path, folder: Path, size: tuple[int, int]) -> Path:
    path = folder / f"{size[0]}.jpg"
    with photo.open("rb") as stream:
        image = open_image(stream)
    # Reading is measured, not enlarging, so that as much as possible of the photo stays.
    image.resize(size, Image.Resampling.LANCZOS).save(path, quality=95)
    return path


def _count_same_labels(model: Path, photos: list[Path], folder: Path) -> dict[str, int]:
    """Count the `photos` with the same best label when enlarged to as many pixels as LARGE.

    `same` are decoded at reduced scale, as `classify` does it, and `in_full` at full scale.
    """
    classifier = Classifier.open(model)
    same = in_full = 0
    for photo in photos:
        with photo.open("rb") as stream:
            width, height = open_image(stream).size
        scale = math.sqrt(LARGE[0] * LARGE[1] / (width * height))
        large = _write_jpeg(photo, folder, (round(scale * width), round(scale * height)))
        with large.open("rb") as stream:
            whole = open_image(stream)
        first, second, third = (
            classifier.classify(version, top=1)[0] for version in (photo, large, whole)
        )
        same += first.label == second.label
        in_full += first.label == third.label
        large.unlink()
    return {"same": same, "in_full": in_full, "total": len(photos)}


def bare_calls(classifier: Classifier, path: Path) -> Callable[[], Any]:
    """Return a function that decodes, resizes and invokes with the libraries' own calls only."""
    spec = classifier.contract.input
    interpreter = classifier.model.runtime.interpreter(
        model_content=classifier.file.flatbuffer, num_threads=1
    )
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    out = interpreter.get_output_details()[0]["index"]
    with Image.open(path) as image:
        box = kept_box(image, spec)
    size, as_float = (spec.width, spec.height), classifier.model.input_dtype == np.float32

    def call() -> Any:
        with Image.open(path) as image:
            resized = image.resize(size, Image.Resampling.BICUBIC, box=box)
        tensor = np.asarray(resized)[np.newaxis]
        if as_float:
            tensor = (tensor.astype(np.float32) - spec.mean) / spec.std
        interpreter.set_tensor(into, tensor)
        interpreter.invoke()
        return interpreter.get_tensor(out)

    return call


def _time_turns(model: Path, small: Path, large: Path, rounds: int) -> dict[str, Any]:
    single, double = Classifier.open(model), Classifier.open(model, threads=2)
    calls: dict[str, Callable[[], Any]] = {
        "classify": lambda: single.classify(small),
        "bare": bare_calls(single, small),
        "classify 12 MP": lambda: single.classify(large),
        "decode 12 MP": lambda: to_image(large, single.contract.input),
        "classify, 2 threads": lambda: double.classify(small),
    }
    samples: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    for number in range(rounds + _WARM_UP_TURNS):
        for name in order:
            start = time.perf_counter_ns()
            calls[name]()
            if number >= _WARM_UP_TURNS:
                samples[name].append(time.perf_counter_ns() - start)
        order.reverse()
    return {
        "runtime": f"{single.model.runtime.name} {single.model.runtime.version}",
        "rounds": rounds,
        "bytes": {name: path.stat().st_size for name, path in (("small", small), ("12 MP", large))},
        "ms": {name: asdict(milliseconds([times])) for name, times in samples.items()},
        "ratios": {
            name: _ratio(samples[first], samples[second])
            for name, (first, second) in {
                "classify / bare": ("classify", "bare"),
                "12 MP / small": ("classify 12 MP", "classify"),
                "its decoding / small": ("decode 12 MP", "classify"),
                "2 threads / 1": ("classify, 2 threads", "classify"),
            }.items()
        },
        "samples_ns": samples,
    }


def _ratio(first: list[int], second: list[int]) -> float:
    """Return the median of the ratios of two samples of the same turn."""
    return median(a / b for a, b in zip(first, second, strict=True))


def _time_starts(program: Path, photo: Path, times: int) -> dict[str, Any]:
    """Time `classify.pyz` from its start to the first byte it prints; then watch its memory."""
    command = [sys.executable, str(program), str(photo)]
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:  # noqa: S603 (our own)
            assert process.stdout  # noqa: S101 (it is a pipe)
            process.stdout.read(1)
            seconds.append(time.perf_counter() - start)
            process.stdout.read()
    return {"first_label_s": seconds, "peak_mb": run_with_memory(command).peak_mb}


def _measure_growth(model: Path, photo: Path, times: int) -> dict[str, Any]:
    """Return the growth in MB of a new process that classifies `times` times."""
    arguments = {"model": str(model.resolve()), "photo": str(photo.resolve()), "times": times}
    with packages() as code:
        growth_mb = call(
            "classifying", "bench.experiments.device:grow", arguments, code, timeout_s=None
        )
    return {"classifications": times, "growth_mb": growth_mb}


def grow(model: str, photo: str, times: int) -> float:
    """Classify `photo` `times` times; return the MB that this process grew after the first 500."""
    classifier, process = Classifier.open(Path(model)), psutil.Process()
    before = 0
    for number in range(times):
        if number == FIRST_CLASSIFICATIONS:
            before = process.memory_info().rss
        classifier.classify(Path(photo))
    return float((process.memory_info().rss - before) / _MB)


def table(figures: dict[str, Any]) -> str:
    """Return the figures as text."""
    small, large = (f"{size / _MB:.2f} MB" for size in figures["bytes"].values())
    growth = f"MB over {figures['classifications']} classifications, after {FIRST_CLASSIFICATIONS}"
    lines = [
        f"{figures['runtime']}; photos of {small} and, 12 megapixels, {large}",
        f"{figures['rounds']} rounds by turns; p50, p90 in ms",
        *(f"{name:<22}{ms['p50']:>9.2f}{ms['p90']:>9.2f}" for name, ms in figures["ms"].items()),
        *(
            f"{name:<22}{ratio:>9.3f}  (median of the turns)"
            for name, ratio in figures["ratios"].items()
        ),
        f"first label, cold     {median(figures['first_label_s']):>9.3f} s (median)",
        f"most memory           {figures['peak_mb']:>9.1f} MB",
        f"growth                {figures['growth_mb']:>9.2f} {growth}",
    ]
    if "enlarged" in figures:
        same, in_full, total = (figures["enlarged"][key] for key in ("same", "in_full", "total"))
        lines.append(f"same best label at 12 MP {same} of {total} photos, in full {in_full}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
