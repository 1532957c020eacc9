"""What classifying costs besides the network: `python -m bench.experiments.device MODEL PHOTO`.

Of PHOTO a JPEG of 320x240 and one of 12 megapixels are made. By turns, in one process: (A)
`Classifier.classify(path)`; (B) the bare calls of Pillow and the runtime that it cannot do without;
(C) A on the large photo; (D) the decoding of that alone, at reduced scale; (E) A with 2 threads.
Then the first label of `classify.pyz` from a new process, its memory, and how the memory of a
process grows over many classifications.
"""

import io
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from PIL import Image

from bench.experiments.extract import find_photos
from bench.machine import save
from bench.stats import milliseconds
from deploy import Classifier
from deploy.bundle import write
from deploy.classifier import to_image
from deploy.cli import ending
from deploy.image import kept_box, open_image
from deploy.system.terminal import say_table

SMALL, LARGE = (320, 240), (4000, 3000)
SETTLED = 500
"""Classifications after which the memory of a process should not grow."""
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
@click.option("--json", "output", type=click.Path(path_type=Path), help="Save the figures here.")
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
        small, large = (_jpeg(photo, place, size) for size in (SMALL, LARGE))
        figures = _turns(model, small, large, rounds)
        bundle = write(model, place / "bundle").folder
        figures |= _starts(Path(bundle) / "classify.pyz", small, starts)
        figures |= _growth(model, small, classifications)
        if enlarge:
            figures["enlarged"] = _enlarged(model, find_photos(enlarge), place)
    if output:
        save(output, figures)
    say_table(table(figures))


def _jpeg(photo: Path, folder: Path, size: tuple[int, int]) -> Path:
    path = folder / f"{size[0]}.jpg"
    with photo.open("rb") as stream:
        image = open_image(stream)
    # As much of the photo as can be kept: it is the reading that is measured, not the enlarging.
    image.resize(size, Image.Resampling.LANCZOS).save(path, quality=95)
    return path


def _enlarged(model: Path, photos: list[Path], folder: Path) -> dict[str, int]:
    """Count the `photos` that keep their best label when they have as many pixels as LARGE.

    Decoded at reduced scale, as `classify` does it, and in full.
    """
    classifier = Classifier.open(model)
    same = in_full = 0
    for photo in photos:
        with photo.open("rb") as stream:
            width, height = open_image(stream).size
        scale = math.sqrt(LARGE[0] * LARGE[1] / (width * height))
        large = _jpeg(photo, folder, (round(scale * width), round(scale * height)))
        with large.open("rb") as stream:
            whole = open_image(stream)
        first, second, third = (classifier.classify(p, top=1)[0] for p in (photo, large, whole))
        same += first.label == second.label
        in_full += first.label == third.label
        large.unlink()
    return {"same": same, "in_full": in_full, "total": len(photos)}


def bare(classifier: Classifier, path: Path) -> Callable[[], Any]:
    """Return a function that decodes, resizes and invokes by the libraries' own calls alone."""
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


def _turns(model: Path, small: Path, large: Path, rounds: int) -> dict[str, Any]:
    one, two = Classifier.open(model), Classifier.open(model, threads=2)
    calls: dict[str, Callable[[], Any]] = {
        "classify": lambda: one.classify(small),
        "bare": bare(one, small),
        "classify 12 MP": lambda: one.classify(large),
        "decode 12 MP": lambda: to_image(large, one.contract.input),
        "classify, 2 threads": lambda: two.classify(small),
    }
    samples: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    for turn in range(rounds + 10):
        for name in order:
            start = time.perf_counter_ns()
            calls[name]()
            if turn >= 10:
                samples[name].append(time.perf_counter_ns() - start)
        order.reverse()
    return {
        "runtime": f"{one.model.runtime.name} {one.model.runtime.version}",
        "rounds": rounds,
        "bytes": {name: path.stat().st_size for name, path in (("small", small), ("12 MP", large))},
        "ms": {name: milliseconds([taken]) for name, taken in samples.items()},
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
    """Return the median of the ratios of samples taken in one turn."""
    return median(a / b for a, b in zip(first, second, strict=True))


def _starts(program: Path, photo: Path, times: int) -> dict[str, Any]:
    """Time `classify.pyz` from its start to the first line it prints, and its most memory."""
    seconds, peaks = [], []
    for _ in range(times):
        start = time.perf_counter()
        command = [sys.executable, str(program), str(photo)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:  # noqa: S603 (our own)
            assert process.stdout  # noqa: S101 (a pipe was asked for)
            process.stdout.read(1)
            seconds.append(time.perf_counter() - start)
            process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        peaks.append(_bytes(usage.ru_maxrss) / _MB)
    return {"first_label_s": seconds, "peak_mb": max(peaks)}


def _growth(model: Path, photo: Path, times: int) -> dict[str, Any]:
    """Return how many MB a new process grew between SETTLED and `times` classifications."""
    code = (
        "import sys; from pathlib import Path; from bench.experiments.device import grow\n"
        "print(grow(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))"
    )
    command = [sys.executable, "-c", code, str(model), str(photo), str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own)
    return {"classifications": times, "growth_mb": float(done.stdout)}


def grow(model: Path, photo: Path, times: int) -> float:
    """Classify `photo` `times` times; return the MB by which this process grew after SETTLED."""
    classifier = Classifier.open(model)
    settled = 0
    for done in range(times):
        if done == SETTLED:
            settled = _resident()
        classifier.classify(photo)
    return (_resident() - settled) / _MB


def _resident() -> int:
    """Return this process's memory now in bytes, on Linux; elsewhere the most that it was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return _bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return pages * resource.getpagesize()


def _bytes(maxrss: int) -> int:
    return maxrss * (1 if sys.platform == "darwin" else 1024)


def table(figures: dict[str, Any]) -> str:
    """Return the text that shows the figures to a person."""
    out = io.StringIO()
    small, large = (f"{size / _MB:.2f} MB" for size in figures["bytes"].values())
    print(f"{figures['runtime']}; photos of {small} and, 12 megapixels, {large}", file=out)
    print(f"{figures['rounds']} rounds by turns; p50, p90 in ms", file=out)
    for name, ms in figures["ms"].items():
        print(f"{name:<22}{ms['p50']:>9.2f}{ms['p90']:>9.2f}", file=out)
    for name, ratio in figures["ratios"].items():
        print(f"{name:<22}{ratio:>9.3f}  (median of each turn's)", file=out)
    print(f"first label, cold     {median(figures['first_label_s']):>9.3f} s (median)", file=out)
    print(f"most memory           {figures['peak_mb']:>9.1f} MB", file=out)
    grown = f"MB over {figures['classifications']} classifications, after {SETTLED}"
    print(f"growth                {figures['growth_mb']:>9.2f} {grown}", file=out)
    if "enlarged" in figures:
        same, in_full, total = (figures["enlarged"][key] for key in ("same", "in_full", "total"))
        print(f"same best label at 12 MP {same} of {total} photos, in full {in_full}", file=out)
    return out.getvalue().rstrip()


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
