"""Time training steps on few and on very many photos: `python -m bench.experiments.steps`.

By turns, each in a process of its own that imports TensorFlow first, as a run does: a synthetic
cache of 3,000 photos, and one of a million, is read and trained on. The product's own cache,
matrix and loop do the work; photos are not decoded and nothing is written of a run. Memory is the
process's peak, above that of one that does nothing but `import tensorflow`.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.machine import save
from deploy.cli import ending
from deploy.errors import BadData
from deploy.system.terminal import say_table

FEW = 3000
BATCH = 100
BARS = {"few_s": 4.0, "ratio": 1.5, "peak_bytes": 1.5e9}
"""At most: seconds that the steps on few photos take, times as long on many, bytes of memory."""

_COMMON = """
import hashlib, json, resource, sys, time
from pathlib import Path
import numpy as np

WIDTH, CLASSES, SHARD = 1280, 5, 256

def digest(i):
    return hashlib.sha256(b"photo %d" % i).digest()

def peak_bytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

folder, rows, steps, batch = Path(sys.argv[1]), *(int(each) for each in sys.argv[2:])
labels = np.random.default_rng(0).integers(CLASSES, size=rows)
"""

_WRITE = """
from retrain.bottlenecks.cache import Cache, Row

random = np.random.default_rng(1)
centres = random.normal(0, 0.1, (CLASSES, WIDTH)).astype(np.float32)
cache = Cache(folder, WIDTH)
start = time.perf_counter()
for first in range(0, rows, SHARD):
    of = labels[first : first + SHARD]
    values = centres[of] + random.standard_normal((len(of), WIDTH), np.float32)
    cache.add(
        [Row(digest(first + i), 0, None, each) for i, each in enumerate(values.astype(np.float16))]
    )
print(json.dumps({"write_s": time.perf_counter() - start}))
"""

_BASELINE = """
import tensorflow

print(json.dumps({"peak_bytes": peak_bytes()}))
"""

_TRAIN = """
import tensorflow
from retrain.bottlenecks.cache import Cache
from retrain.training.linear import fit
from retrain.training.head import Examples, HeadSettings
from retrain.bottlenecks.feature_store import FeatureStore

keys = [(digest(i), 0) for i in range(rows)]
cache = Cache(folder, WIDTH)
start = time.perf_counter()
matrix = FeatureStore(WIDTH, cache.folder)
found = cache.load(keys, matrix).rows
loaded = time.perf_counter()
loaded_bytes = peak_bytes()
place = np.random.default_rng(2).random(rows)
training, validation = (
    Examples(matrix, found[which, np.newaxis], labels[which])
    for which in (place < 0.8, place >= 0.9)
)
ready = time.perf_counter()
for each in fit(training, validation, CLASSES, HeadSettings(steps, train_batch_size=batch)):
    pass
done = time.perf_counter()
print(json.dumps({
    "load_s": loaded - start,
    "fit_s": done - ready,
    "ms_per_step": (done - ready) / steps * 1e3,
    "loaded_bytes": loaded_bytes,
    "peak_bytes": peak_bytes(),
    "validation_accuracy": each.validation.accuracy,
}))
"""


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(50))
@click.option("--steps", default=4000, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1))
@click.option(
    "--folder",
    default=Path(),
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Keep the caches here meanwhile: 5.2 GB for a million; on a disk, not in memory.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Save the figures here.")
def main(rows: int, steps: int, rounds: int, folder: Path, path: Path | None) -> None:
    """Print what training steps take on 3,000 photos and on ROWS, and the memory for it."""
    figures = measure(rows, steps, rounds, folder)
    if path:
        save(path, figures)
    say_table(table(figures))


def measure(rows: int, steps: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return the figures of each round as JSON values; raise BadData."""
    sizes = {"few": FEW, "many": rows}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sizes}
    with TemporaryDirectory(prefix="retrain-", dir=folder) as temporary:
        written = {
            name: write(Path(temporary, name), size)["write_s"] for name, size in sizes.items()
        }
        baseline = _child(_BASELINE, folder, 0)["peak_bytes"]
        for _ in range(rounds):
            for name, size in sizes.items():
                runs[name].append(train(Path(temporary, name), size, steps))
    few, many = ([each["fit_s"] for each in runs[name]] for name in sizes)
    return {
        "photos": sizes,
        "steps": steps,
        "batch": BATCH,
        "write_s": written,
        "import_tensorflow_bytes": baseline,
        "runs": runs,
        "few_s": median(few),
        "ratio": median(b / a for a, b in zip(few, many, strict=True)),
        "peak_bytes": max(each["peak_bytes"] for each in runs["many"]) - baseline,
        "bars": BARS,
    }


def write(folder: Path, rows: int) -> dict[str, float]:
    """Write a cache of `rows` photos to `folder`; return the seconds that it took."""
    return _child(_WRITE, folder, rows)


def train(folder: Path, rows: int, steps: int) -> dict[str, float]:
    """Train on the cache in `folder`; return the figures of one run."""
    return _child(_TRAIN, folder, rows, steps)


def _child(program: str, folder: Path, rows: int, steps: int = 0) -> dict[str, float]:
    """Run `program` in a new Python, and return the JSON object that it prints."""
    numbers = [str(each) for each in (rows, steps, BATCH)]
    command = [sys.executable, "-c", _COMMON + program, str(folder), *numbers]
    # What TensorFlow tells at its import is of no use here.
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BadData(f"exit code {done.returncode}: {(done.stderr.splitlines() or [''])[-1]}")
    return dict(json.loads(done.stdout))


def table(figures: dict[str, Any]) -> str:
    """Return the text that shows each run, and what is asked of them."""
    steps, baseline = figures["steps"], figures["import_tensorflow_bytes"]
    lines = [
        f"{steps} steps, batch {figures['batch']}; `import tensorflow` alone: "
        f"{baseline / 1e6:.0f} MB at its peak",
        f"{'photos':>10}{'load s':>10}{'steps s':>10}{'ms/step':>10}{'peak MB':>10}{'above':>10}",
    ]
    for turn in zip(*figures["runs"].values(), strict=True):
        for photos, run in zip(figures["photos"].values(), turn, strict=True):
            seconds = "".join(f"{run[name]:>10.2f}" for name in ("load_s", "fit_s"))
            peak = run["peak_bytes"]
            lines.append(
                f"{photos:>10}{seconds}{run['ms_per_step']:>10.3f}{peak / 1e6:>10.0f}"
                f"{(peak - baseline) / 1e6:>10.0f}"
            )
    bars = figures["bars"]
    return "\n".join(
        [
            *lines,
            f"steps on few: {figures['few_s']:.2f} s (at most {bars['few_s']:g} for 4000)",
            f"many/few: {figures['ratio']:.2f} (at most {bars['ratio']:g})",
            f"memory above the import: {figures['peak_bytes'] / 1e9:.2f} GB "
            f"(at most {bars['peak_bytes'] / 1e9:g})",
        ]
    )


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
