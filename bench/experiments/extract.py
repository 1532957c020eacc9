"""Compare extraction rates: `python -m bench.experiments.extract DIR`.

By turns, each in a process of its own: (A) `retrain bottlenecks`, (L) with TFLite forced, (T) with
TensorFlow; (B) one loop that decodes the same photos with the same code and gives them to the
frozen graph in TensorFlow, 64 at a time, on threads of TensorFlow's choice; (C) as B, each batch
decoded on all cores; (D) as B, one photo at a time; (E) as D, with one TFLite interpreter on one
thread. Loading counts in A, L and T, as does a probe in the first A, but not the backbone's; in
the others neither the runtime's, the graph's nor a first batch's. Before that, `retrain train`,
which prepares the backbone, and `retrain convert` are run on few photos, for their memory. Other
options go to every `retrain bottlenecks` and `train`: --architecture NAME.
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt

from bench.experiments import memory
from bench.experiments.accuracy import NO_BOUNDS
from bench.load_tensorflow import load_graph
from bench.load_tflite import About, Loaded
from bench.machine import save
from bench.worker_process import call, packages
from deploy.cli import ending
from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import HEAD, open_image, to_tensor, why_not_photo
from deploy.runtime import Model
from deploy.system.cores import cores
from deploy.system.terminal import say_table

BATCH = 64
PRODUCT = {"A": "auto", "L": "tflite", "T": "tensorflow"}
LOOPS = {"B": (BATCH, 1), "C": (BATCH, cores()), "D": (1, 1)}
"""How many photos a batch of TensorFlow's, and how many threads decode."""
NAMES = {
    **{name: f"retrain bottlenecks --extract-engine {engine}" for name, engine in PRODUCT.items()},
    "B": "one loop",
    "C": "decoding on all cores",
    "D": "one loop, one photo at a time",
    "E": "one loop, one TFLite interpreter on one thread",
}


class Product(NamedTuple):
    """What a command of `retrain` printed as JSON, and the most memory it held, in MB."""

    made: dict[str, Any]
    peak_mb: float


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--graph",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A frozen graph for B and C, `input` to `bottleneck`, instead of the product's own.",
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Save the figures here.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(
    folder: Path, rounds: int, graph: Path | None, output: Path | None, options: tuple[str, ...]
) -> None:
    """Print the photos per second of `retrain bottlenecks` on DIR and of three plain loops."""
    figures = compare(folder, rounds, graph, options)
    if output:
        save(output, figures)
    say_table(table(figures))


def compare(
    folder: Path, rounds: int, graph: Path | None = None, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Return each round's photos per second of each of NAMES, as JSON values.

    `options` go to every `retrain bottlenecks`. Raises RetrainError.
    """
    photos = find_photos(folder)
    loops = dict(LOOPS) if graph else {**LOOPS, "E": (1, 1)}
    rates: dict[str, list[float]] = {name: [] for name in (*PRODUCT, *loops)}
    peaks: dict[str, list[float]] = {name: [] for name in PRODUCT}
    with TemporaryDirectory() as temporary, packages() as code:
        place = Path(temporary)
        few = some_of_each(photos, folder, place / "few")
        peaks |= {name: [mb] for name, mb in road_mb(few, place, options).items()}
        first = product(few, place, "few-bottlenecks", options).made
        graph, spec = graph or Path(first["graph"]), InputSpec(**first["input"])
        for turn in range(rounds):
            for name, engine in PRODUCT.items():
                forced = (*options, "--extract-engine", engine)
                made, peak_mb = product(folder, place, f"bottlenecks-{turn}-{name}", forced)
                rates[name].append(made["analysed"] / made["seconds"]["bottlenecks"])
                peaks[name].append(peak_mb)
            for name, (batch, workers) in loops.items():
                loop: dict[str, Any] = {
                    "path": str(graph.resolve()),
                    "spec": asdict(spec),
                    "photos": [str(photo.resolve()) for photo in photos],
                }
                if name == "E":
                    load = "bench.experiments.extract:alone"
                    loop["path"] = str(graph.with_name("model.tflite").resolve())
                else:
                    load = "bench.experiments.extract:baseline"
                    loop |= {"batch": batch, "workers": workers}
                job = {"load": load, "arguments": loop, "runs": 0, "seconds": 0}
                taken = call(
                    NAMES[name], "bench.time_one_round:measure", job, code, patience_s=None
                )
                rates[name].append(len(photos) / (taken["first_ns"] / 1e9))
    return {
        "photos": len(photos),
        "analysed": made["analysed"],
        "options": list(options),
        "batch": BATCH,
        "baseline": {name: taken[name] for name in About._fields},
        "names": {name: NAMES[name] for name in rates},
        "photos_per_s": rates,
        "peak_mb": peaks,
    }


def find_photos(folder: Path) -> list[Path]:
    """Return the photos in the sub-folders of `folder`, known by content, in a fixed order."""
    photos = []
    for path in sorted(path for path in folder.glob("*/**/*") if path.is_file()):
        with path.open("rb") as stream:
            if why_not_photo(stream.read(HEAD), path) is None:
                photos.append(path)
    if not photos:
        raise BadData(f"no photos under {folder}: expected one folder per label holding photos")
    return photos


def baseline(
    path: str, spec: dict[str, Any], photos: list[str], batch: int, workers: int
) -> Loaded:
    """Load the backbone's frozen graph; a call takes all `photos` through it, to bottlenecks."""
    import tensorflow as tf

    start, asked = time.perf_counter(), InputSpec(**spec)
    infer = load_graph(Path(path), ("input", "bottleneck")).infer
    infer(np.zeros((batch, asked.height, asked.width, 3), np.float32))
    load_s = time.perf_counter() - start

    def extract() -> None:
        with ThreadPoolExecutor(workers) as pool:
            decode = pool.map if workers > 1 else map
            for first in range(0, len(photos), batch):
                some = [Path(photo) for photo in photos[first : first + batch]]
                tensors = decode(partial(_tensor, asked), some)
                infer(np.concatenate(list(tensors)))

    return Loaded(extract, About("TensorFlow", tf.__version__, None, "float32", load_s))


def alone(path: str, spec: dict[str, Any], photos: list[str]) -> Loaded:
    """Load the backbone's flatbuffer; a call takes `photos` through it, one after the other."""
    start, asked = time.perf_counter(), InputSpec(**spec)
    model = Model(Path(path).read_bytes())
    load_s = time.perf_counter() - start

    def extract() -> None:
        for photo in photos:
            model(_tensor(asked, Path(photo)))

    name, version, _ = model.runtime
    return Loaded(extract, About(name, version, None, "float32", load_s))


def _tensor(spec: InputSpec, photo: Path) -> npt.NDArray[np.float32]:
    try:
        with photo.open("rb") as stream:
            return to_tensor(open_image(stream, spec), spec)
    except BadData as error:
        raise BadData(f"{photo}: {error}: remove it to compare rates") from error


def some_of_each(photos: list[Path], folder: Path, few: Path) -> Path:
    """Copy six photos of each label, so that the product prepares its backbone before the clock."""
    by_label: dict[str, list[Path]] = {}
    for photo in photos:
        by_label.setdefault(photo.relative_to(folder).parts[0], []).append(photo)
    for label, of_label in by_label.items():
        (few / label).mkdir(parents=True)
        for number, photo in enumerate(of_label[:6]):
            shutil.copy(photo, few / label / f"{number}{photo.suffix}")
    return few


def road_mb(few: Path, place: Path, options: Sequence[str]) -> dict[str, float]:
    """Return the most memory of `retrain train`, from an empty cache, and `convert`, in MB."""
    run = ("--output-dir", str(place / "run"))
    caches = ("--cache-dir", str(place / "cache"), "--bottleneck-dir", str(place / "few-train"))
    train = retrain("train", str(few), *run, *caches, "--how-many-training-steps", "20", *options)
    return {"train": train.peak_mb, "convert": retrain("convert", *run, *NO_BOUNDS).peak_mb}


def product(folder: Path, place: Path, bottlenecks: str, options: Sequence[str]) -> Product:
    """Run `retrain bottlenecks` on `folder`, caches below `place`; raise BadData if it fails."""
    caches = ("--cache-dir", str(place / "cache"), "--bottleneck-dir", str(place / bottlenecks))
    return retrain("bottlenecks", str(folder), *caches, *options)


def retrain(*arguments: str) -> Product:
    """Run a command of the product; raise BadData if it fails."""
    done = memory.run([sys.executable, "-m", "retrain", *arguments, "--json"])
    if done.exit_code:
        raise BadData(f"`retrain {arguments[0]}` ended with exit code {done.exit_code}")
    return Product(json.loads(done.stdout), done.peak_mb)


def table(figures: dict[str, Any]) -> str:
    """Return the text that shows photos per second, and the medians of each round's ratios."""
    rates = figures["photos_per_s"]
    lines = [f"{figures['photos']} photos; photos per second"]
    lines += [f"{name}: {meaning}" for name, meaning in figures["names"].items()]
    lines.append("round" + "".join(f"{name:>10}" for name in rates))
    for turn, row in enumerate(zip(*rates.values(), strict=True), 1):
        lines.append(f"{turn:<5}" + "".join(f"{rate:>10.1f}" for rate in row))
    for other in list(rates)[1:]:
        ratio = median(a / b for a, b in zip(rates["A"], rates[other], strict=True))
        lines.append(f"A/{other} {ratio:.2f} (median)")
    lines += [f"{name} peak {max(peaks):.0f} MB" for name, peaks in figures["peak_mb"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
