"""Compare extraction rates: `python -m bench.experiments.extract DIR`.

By turns, each in a process of its own: (A) `retrain bottlenecks`, (L) with TFLite forced, (T) with
TensorFlow; (B) one loop that decodes the same photos with the same code and gives them to the
frozen graph in TensorFlow, 64 at a time, on as many threads as TensorFlow chooses; (C) like B, but
each batch is decoded on all cores; (D) like B, one photo at a time; (E) like D, with one TFLite
interpreter on one thread; (Q) `retrain bottlenecks` with the int8 trunk; (F) and (G) bare loops of
decode, resize and invoke, one a core with an interpreter of one thread, in float32 and with the
int8 trunk, which use nothing of this project. A, L, T and Q include loading (the first A also a
probe), but not that of the backbone and of the trunk; the loops exclude the loading of runtime and
graph, and a first batch. --only takes some of these letters.

Before that, `retrain train`, which prepares the backbone, and `retrain convert` run on few photos,
for their memory. Other options go to every `retrain bottlenecks` and `train`: --architecture NAME.
"""

import json
import shutil
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.experiments.shared import (
    NO_BOUNDS,
    find_photos,
    json_option,
    photos_by_label,
    retrain_with_memory,
    run,
    save,
)
from bench.load_tensorflow import load_graph
from bench.load_tflite import About, Loaded
from bench.worker_process import call, packages
from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image, to_tensor
from deploy.runtime import Model, find_runtime
from deploy.system.cores import cores
from deploy.system.terminal import say_table
from retrain.run_folder import RunFolder

BATCH = 64
PRODUCT = {
    **{
        name: f"--extract-engine {engine} --extract-precision float32"
        for name, engine in (("A", "auto"), ("L", "tflite"), ("T", "tensorflow"))
    },
    "Q": "--extract-precision int8",
}
LOOPS = {"B": (BATCH, 1), "C": (BATCH, cores()), "D": (1, 1)}
"""Photos in a batch for TensorFlow, and threads that decode."""
PAIRS = ("Q/L", "L/F", "Q/G")
"""int8 against float32, and each against bare loops."""
NAMES = {
    **{name: f"retrain bottlenecks {options}" for name, options in PRODUCT.items()},
    "B": "one loop",
    "C": "decoding on all cores",
    "D": "one loop, one photo at a time",
    "E": "one loop, one TFLite interpreter on one thread",
    "F": "bare loops on all cores, float32",
    "G": "bare loops on all cores, int8",
}


class Extraction(NamedTuple):
    """The JSON values that `retrain bottlenecks` printed, and the most memory it held, in MB."""

    values: dict[str, Any]
    peak_mb: float


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--graph",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A frozen graph for B and C, `input` to `bottleneck`, instead of the product's own.",
)
@click.option(
    "--only", default="".join(NAMES), show_default=True, help="The letters of what to measure."
)
@json_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(
    folder: Path,
    rounds: int,
    graph: Path | None,
    only: str,
    output: Path | None,
    options: tuple[str, ...],
) -> None:
    """Print the photos per second of `retrain bottlenecks` on DIR and of plain loops."""
    figures = compare(folder, rounds, graph, options, only)
    if output:
        save(output, figures)
    say_table(table(figures))


def compare(
    folder: Path,
    rounds: int,
    graph: Path | None = None,
    options: Sequence[str] = (),
    only: Collection[str] = NAMES.keys(),
) -> dict[str, Any]:
    """Return each round's photos per second of `only` these of NAMES, as JSON values.

    `options` go to every `retrain bottlenecks`. Raises RetrainError.
    """
    photos = find_photos(folder)
    rates: dict[str, list[float]] = {name: [] for name in NAMES if name in only}
    if graph:
        rates.pop("E", None)
    peaks: dict[str, list[float]] = {name: [] for name in PRODUCT if name in only}
    with TemporaryDirectory() as temporary, packages() as code:
        place = Path(temporary)
        few = copy_some(folder, place / "few")
        peaks |= {name: [mb] for name, mb in peaks_of_run(few, place, options).items()}
        first = extract_bottlenecks(few, place, "few-bottlenecks", options).values
        about: dict[str, Any] = {}
        files = Networks.of(graph or Path(first["graph"]), Path(first["graph"]), place)
        for number in range(rounds):
            for name in rates:
                if name in PRODUCT:
                    how = (*options, *PRODUCT[name].split())
                    if name == "Q":
                        how = (*options, "--trunk", str(files.trunk))
                    result = extract_bottlenecks(folder, place, f"bottlenecks-{number}-{name}", how)
                    seconds = result.values["seconds"]["bottlenecks"]
                    rates[name].append(result.values["analysed"] / seconds)
                    peaks[name].append(result.peak_mb)
                    continue
                loop = {"spec": first["input"], "photos": [str(path.resolve()) for path in photos]}
                job = {**files.job(name, loop), "runs": 0, "seconds": 0}
                figures = call(
                    NAMES[name], "bench.time_one_round:measure", job, code, timeout_s=None
                )
                about = {name: figures[name] for name in About._fields}
                rates[name].append(len(photos) / (figures["first_ns"] / 1e9))
    return {
        "photos": len(photos),
        "options": list(options),
        "batch": BATCH,
        "baseline": about,
        "names": {name: NAMES[name] for name in rates},
        "photos_per_s": rates,
        "peak_mb": peaks,
    }


class Networks(NamedTuple):
    """The files that the loops run: a frozen graph, the product's flatbuffer, the int8 trunk."""

    graph: Path
    flatbuffer: Path
    trunk: Path

    @classmethod
    def of(cls, graph: Path, own_graph: Path, place: Path) -> "Networks":
        """Return those beside the product's `own_graph`, and of the run in `place`."""
        trunk = RunFolder(place / "int8").trunk
        return cls(
            *(path.resolve() for path in (graph, own_graph.with_name("model.tflite"), trunk))
        )

    def job(self, name: str, loop: dict[str, Any]) -> dict[str, Any]:
        """Return the function that loads the loop `name`, and its arguments."""
        if name in LOOPS:
            batch, workers = LOOPS[name]
            loop = {**loop, "path": str(self.graph), "batch": batch, "workers": workers}
            return {"load": "bench.experiments.extract:load_graph_loop", "arguments": loop}
        loader = "load_interpreter_loop" if name == "E" else "load_bare_loops"
        path = self.trunk if name == "G" else self.flatbuffer
        return {
            "load": f"bench.experiments.extract:{loader}",
            "arguments": {**loop, "path": str(path)},
        }


def load_graph_loop(
    path: str, spec: dict[str, Any], photos: list[str], batch: int, workers: int
) -> Loaded:
    """Load the backbone's frozen graph; a call computes the bottlenecks of all `photos`."""
    import tensorflow as tf

    start, input_spec = time.perf_counter(), InputSpec(**spec)
    infer = load_graph(Path(path), ("input", "bottleneck")).infer
    infer(np.zeros((batch, input_spec.height, input_spec.width, 3), np.float32))
    load_s = time.perf_counter() - start

    def extract() -> None:
        with ThreadPoolExecutor(workers) as pool:
            decode = pool.map if workers > 1 else map
            for first in range(0, len(photos), batch):
                paths = [Path(photo) for photo in photos[first : first + batch]]
                tensors = decode(partial(_tensor, input_spec), paths)
                infer(np.concatenate(list(tensors)))

    return Loaded(extract, About("TensorFlow", tf.__version__, None, "float32", load_s))


def load_interpreter_loop(path: str, spec: dict[str, Any], photos: list[str]) -> Loaded:
    """Load the backbone's flatbuffer; a call computes the bottlenecks of `photos`, one by one."""
    start, input_spec = time.perf_counter(), InputSpec(**spec)
    model = Model(Path(path).read_bytes())
    load_s = time.perf_counter() - start

    def extract() -> None:
        for photo in photos:
            model(_tensor(input_spec, Path(photo)))

    name, version, _ = model.runtime
    return Loaded(extract, About(name, version, None, "float32", load_s))


def load_bare_loops(path: str, spec: dict[str, Any], photos: list[str]) -> Loaded:
    """Load a flatbuffer once a core; a call computes the bottlenecks of `photos` on all cores."""
    start, (height, width) = time.perf_counter(), (spec["height"], spec["width"])
    runtime = find_runtime()
    interpreters = [runtime.interpreter(path, num_threads=1) for _ in range(cores())]
    for interpreter in interpreters:
        interpreter.allocate_tensors()
        interpreter.invoke()
    load_s = time.perf_counter() - start
    image_in, row_out = (
        details()[0]
        for details in (interpreters[0].get_input_details, interpreters[0].get_output_details)
    )
    is_float = image_in["dtype"] == np.float32

    def extract() -> None:
        waiting, lock = iter(photos), threading.Lock()

        def work(interpreter: Any) -> None:
            while True:
                with lock:
                    photo = next(waiting, None)
                if photo is None:
                    return
                image = Image.open(photo).convert("RGB")
                scale = (spec["crop"] or 1) * min(image.width / width, image.height / height)
                left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
                box = (left, top, left + width * scale, top + height * scale)
                small = image.resize((width, height), Image.Resampling.BICUBIC, box)
                tensor = np.asarray(small)[np.newaxis]
                if is_float:
                    tensor = (tensor - np.float32(spec["mean"])) / np.float32(spec["std"])
                interpreter.set_tensor(image_in["index"], tensor)
                interpreter.invoke()
                interpreter.get_tensor(row_out["index"])

        with ThreadPoolExecutor(len(interpreters)) as pool:
            list(pool.map(work, interpreters))

    precision = "float32" if is_float else "int8"
    return Loaded(extract, About(runtime.name, runtime.version, None, precision, load_s))


def _tensor(spec: InputSpec, photo: Path) -> npt.NDArray[np.float32]:
    try:
        with photo.open("rb") as stream:
            return to_tensor(open_image(stream, spec), spec)
    except BadData as error:
        raise BadData(f"{photo}: {error}: remove it to compare rates") from error


def copy_some(folder: Path, few: Path) -> Path:
    """Copy six photos of each label of `folder` to `few`, to prepare the backbone on."""
    for label, of_label in photos_by_label(folder).items():
        (few / label).mkdir(parents=True)
        for number, photo in enumerate(of_label[:6]):
            shutil.copy(photo, few / label / f"{number}{photo.suffix}")
    return few


def peaks_of_run(few: Path, place: Path, options: Sequence[str]) -> dict[str, float]:
    """Return the most memory of `retrain train`, from an empty cache, and `convert`, in MB."""
    where = ("--output-dir", str(place / "run"))
    caches = ("--cache-dir", str(place / "cache"), "--bottleneck-dir", str(place / "few-train"))
    steps = ("--how-many-training-steps", "20")
    train = retrain_with_memory("train", str(few), *where, *caches, *steps, *options)
    int8 = ("--extract-precision", "int8", "--output-dir", str(place / "int8"))
    retrain_with_memory("train", str(few), *caches, *steps, *options, *int8)
    return {
        "train": train.peak_mb,
        "convert": retrain_with_memory("convert", *where, *NO_BOUNDS).peak_mb,
    }


def extract_bottlenecks(
    folder: Path, place: Path, bottlenecks: str, options: Sequence[str]
) -> Extraction:
    """Run `retrain bottlenecks` on `folder`, with its caches below `place`."""
    caches = ("--cache-dir", str(place / "cache"), "--bottleneck-dir", str(place / bottlenecks))
    finished = retrain_with_memory("bottlenecks", str(folder), *caches, *options)
    return Extraction(json.loads(finished.stdout), finished.peak_mb)


def table(figures: dict[str, Any]) -> str:
    """Return photos per second, the median ratios of the rounds, and peaks of memory."""
    rates = figures["photos_per_s"]
    lines = [f"{figures['photos']} photos; photos per second"]
    lines += [f"{name}: {meaning}" for name, meaning in figures["names"].items()]
    lines.append("round" + "".join(f"{name:>10}" for name in rates))
    for number, row in enumerate(zip(*rates.values(), strict=True), 1):
        lines.append(f"{number:<5}" + "".join(f"{rate:>10.1f}" for rate in row))
    pairs = (*(f"A/{other}" for other in rates if other != "A"), *PAIRS)
    for pair in pairs:
        first, second = pair.split("/")
        if first in rates and second in rates:
            ratio = median(a / b for a, b in zip(rates[first], rates[second], strict=True))
            lines.append(f"{pair} {ratio:.2f} (median)")
    lines += [f"{name} peak {max(peaks):.0f} MB" for name, peaks in figures["peak_mb"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
