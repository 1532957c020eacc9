"""Compare extraction rates: `python -m bench.extract DIR`.

By turns, each in a process of its own: (A) `retrain bottlenecks`; (B) one loop that decodes the
same photos with the same code and gives them to the frozen graph in TensorFlow, 64 at a time,
on threads of TensorFlow's choice; (C) as B, each batch decoded on all cores. No loading counts:
neither the product's backbone nor TensorFlow, the graph and a first batch.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from bench.machine import save
from bench.models import load_graph
from bench.runners import About, Loaded, started
from deploy.contract import InputSpec
from deploy.errors import BadData, RetrainError
from deploy.image import open_image, to_tensor, why_not_photo

BATCH = 64
NAMES = {"A": "retrain bottlenecks", "B": "one loop", "C": "decoding on all cores"}


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--graph",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A frozen graph for B and C, `input` to `bottleneck`, instead of the product's own.",
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Save the figures here.")
def main(folder: Path, rounds: int, graph: Path | None, output: Path | None) -> None:
    """Print the photos per second of `retrain bottlenecks` on DIR and of two plain loops."""
    figures = compare(folder, rounds, graph)
    if output:
        save(output, figures)
    click.echo(table(figures))


def compare(folder: Path, rounds: int, graph: Path | None = None) -> dict[str, Any]:
    """Return each round's photos per second of A, B and C, as JSON values; raise RetrainError."""
    photos = find_photos(folder)
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        first = _product(_one_of_each(photos, folder, place / "few"), place, "few-bottlenecks")
        graph, spec = graph or Path(first["graph"]), InputSpec(**first["input"])
        for turn in range(rounds):
            made = _product(folder, place, f"bottlenecks-{turn}")
            rates["A"].append(made["analysed"] / made["seconds"]["bottlenecks"])
            for name, workers in (("B", 1), ("C", os.cpu_count() or 1)):
                load = partial(baseline, graph, spec, photos, workers)
                with started(NAMES[name], load, patience_s=float("inf")) as runner:
                    rates[name].append(len(photos) / (runner.run(1)[0] / 1e9))
    return {
        "photos": len(photos),
        "analysed": made["analysed"],
        "batch": BATCH,
        "baseline": runner.about._asdict(),
        "names": NAMES,
        "photos_per_s": rates,
    }


def find_photos(folder: Path) -> list[Path]:
    """Return the photos in the sub-folders of `folder`, known by content, in a fixed order."""
    photos = []
    for path in sorted(path for path in folder.glob("*/**/*") if path.is_file()):
        with path.open("rb") as stream:
            if why_not_photo(stream.read(16)) is None:
                photos.append(path)
    if not photos:
        raise BadData(f"no photos under {folder}: expected one folder per label holding photos")
    return photos


def baseline(graph: Path, spec: InputSpec, photos: list[Path], workers: int) -> Loaded:
    """Load the backbone's frozen graph; a call takes all `photos` through it, to bottlenecks."""
    import tensorflow as tf

    start = time.perf_counter()
    infer = load_graph(graph, "bottleneck")
    infer(np.zeros((BATCH, spec.height, spec.width, 3), np.float32))
    load_s = time.perf_counter() - start

    def extract() -> None:
        with ThreadPoolExecutor(workers) as pool:
            decode = pool.map if workers > 1 else map
            for first in range(0, len(photos), BATCH):
                tensors = decode(partial(_tensor, spec), photos[first : first + BATCH])
                infer(np.concatenate(list(tensors)))

    return Loaded(extract, About("TensorFlow", tf.__version__, None, "float32", load_s))


def _tensor(spec: InputSpec, photo: Path) -> npt.NDArray[np.float32]:
    try:
        with photo.open("rb") as stream:
            return to_tensor(open_image(stream, spec), spec)
    except BadData as error:
        raise BadData(f"{photo}: {error}: remove it to compare rates") from error


def _one_of_each(photos: list[Path], folder: Path, few: Path) -> Path:
    """Copy a photo of each label, so that the product prepares its backbone before the clock."""
    by_label = {photo.relative_to(folder).parts[0]: photo for photo in photos}
    for label, photo in by_label.items():
        (few / label).mkdir(parents=True)
        shutil.copy(photo, few / label)
    return few


def _product(folder: Path, place: Path, bottlenecks: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "retrain", "bottlenecks", str(folder), "--json"]
    command += ["--cache-dir", str(place / "cache"), "--bottleneck-dir", str(place / bottlenecks)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 (our own)
    if done.returncode:
        raise BadData(f"`retrain bottlenecks` ended with exit code {done.returncode}")
    return dict(json.loads(done.stdout))


def table(figures: dict[str, Any]) -> str:
    """Return the text that shows photos per second, and the medians of each round's ratios."""
    rates = figures["photos_per_s"]
    lines = [f"{figures['photos']} photos; photos per second"]
    lines += [f"{name}: {meaning}" for name, meaning in figures["names"].items()]
    lines.append("round" + "".join(f"{name:>10}" for name in rates))
    for turn, row in enumerate(zip(*rates.values(), strict=True), 1):
        lines.append(f"{turn:<5}" + "".join(f"{rate:>10.1f}" for rate in row))
    for other in ("B", "C"):
        ratio = median(a / b for a, b in zip(rates["A"], rates[other], strict=True))
        lines.append(f"A/{other} {ratio:.2f} (median)")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except RetrainError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
