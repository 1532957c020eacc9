"""Time training steps on few and on very many photos: `python -m bench.experiments.steps`.

By turns, each in a process of its own that imports TensorFlow first, as a run does: a synthetic
cache of 3,000 photos, and one of a million, is read and trained on, by the product's own code.
Photos are not decoded and no file of a run is written. Memory is the process's peak, above that
of a process that only imports TensorFlow.
"""

import hashlib
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.experiments.shared import json_option, run, save
from bench.time_one_round import peak_bytes
from bench.worker_process import call, packages
from deploy.system.cores import cores
from deploy.system.terminal import say_table

FEW = 3000
BATCH = 100
MAXIMA = {"few_s": 4.0, "ratio": 1.5, "peak_bytes": 1.5e9}
"""At most: seconds of the steps on few photos, times as long on many, bytes of memory."""
_WIDTH, _CLASSES, _ROWS_OF_SHARD = 1280, 5, 256


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
@json_option
def main(rows: int, steps: int, rounds: int, folder: Path, output: Path | None) -> None:
    """Print what training steps take on 3,000 photos and on ROWS, and the memory for it."""
    figures = measure(rows, steps, rounds, folder)
    if output:
        save(output, figures)
    say_table(table(figures))


def measure(rows: int, steps: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return the figures of each round as JSON values; raise BadData."""
    sizes = {"few": FEW, "many": rows}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sizes}
    with TemporaryDirectory(prefix="retrain-", dir=folder) as temporary, packages() as code:
        place = Path(temporary).resolve()
        write_s = {name: write(place / name, size, code) for name, size in sizes.items()}
        baseline = call(
            "import tensorflow", "bench.experiments.steps:peak_bytes_of_tensorflow", {}, code
        )
        for _ in range(rounds):
            for name, size in sizes.items():
                runs[name].append(train(place / name, size, steps, code))
    few, many = ([result["fit_s"] for result in runs[name]] for name in sizes)
    return {
        "photos": sizes,
        "steps": steps,
        "batch": BATCH,
        "write_s": write_s,
        "import_tensorflow_bytes": baseline,
        "runs": runs,
        "few_s": median(few),
        "ratio": median(b / a for a, b in zip(few, many, strict=True)),
        "peak_bytes": max(result["peak_bytes"] for result in runs["many"]) - baseline,
        "bars": MAXIMA,
    }


def write(folder: Path, rows: int, code: Path) -> float:
    """Write a cache of `rows` photos to `folder` in a process; return the seconds."""
    arguments = {"folder": str(folder), "rows": rows}
    seconds = call(
        "writing", "bench.experiments.steps:write_cache", arguments, code, timeout_s=None
    )
    return float(seconds)


def train(folder: Path, rows: int, steps: int, code: Path) -> dict[str, float]:
    """Train on the cache in `folder` in a process; return the figures of one run."""
    figures: dict[str, float] = call(
        "training",
        "bench.experiments.steps:train_on_cache",
        {"folder": str(folder), "rows": rows, "steps": steps, "batch": BATCH},
        code,
        threads=cores(),
        timeout_s=None,
    )
    return figures


def write_cache(folder: str, rows: int) -> float:
    """Write a synthetic cache of `_CLASSES` separable classes; return the seconds."""
    from retrain.bottlenecks.cache import Cache
    from retrain.bottlenecks.cached_rows import Row

    labels = _labels(rows)
    random = np.random.default_rng(1)
    centres = random.normal(0, 0.1, (_CLASSES, _WIDTH)).astype(np.float32)
    cache = Cache(Path(folder), _WIDTH)
    start = time.perf_counter()
    for first in range(0, rows, _ROWS_OF_SHARD):
        shard = labels[first : first + _ROWS_OF_SHARD]
        values = centres[shard] + random.standard_normal((len(shard), _WIDTH), np.float32)
        bottlenecks = enumerate(values.astype(np.float16), first)
        cache.add([Row(_digest(i), 0, None, bottleneck) for i, bottleneck in bottlenecks])
    return time.perf_counter() - start


def peak_bytes_of_tensorflow() -> int:
    """Return the peak memory of a process that imports TensorFlow."""
    import tensorflow  # noqa: F401

    return peak_bytes()


def train_on_cache(folder: str, rows: int, steps: int, batch: int) -> dict[str, float]:
    """Read the cache of `write_cache` and train on it; return seconds, bytes and accuracy."""
    import tensorflow  # noqa: F401 (a run has imported it too)

    from retrain.bottlenecks.cache import Cache
    from retrain.bottlenecks.feature_store import FeatureStore
    from retrain.data.digest_index import of_bytes
    from retrain.settings.training import HeadSettings
    from retrain.training.fit_head import fit_head
    from retrain.training.head import Examples

    digests = of_bytes([_digest(i) for i in range(rows)])
    labels = _labels(rows)
    cache = Cache(Path(folder), _WIDTH)
    start = time.perf_counter()
    store = FeatureStore(_WIDTH, cache.folder)
    places = cache.load(digests, range(1), store).rows
    after_load = time.perf_counter()
    loaded_bytes = peak_bytes()
    split = np.random.default_rng(2).random(rows)
    training, validation = (
        Examples(store, places[chosen, np.newaxis], labels[chosen])
        for chosen in (split < 0.8, split >= 0.9)
    )
    before_fit = time.perf_counter()
    config = HeadSettings(steps, train_batch_size=batch)
    for evaluation in fit_head(training, validation, _CLASSES, config):
        accuracy = evaluation.validation.accuracy
    fit_s = time.perf_counter() - before_fit
    return {
        "load_s": after_load - start,
        "fit_s": fit_s,
        "ms_per_step": fit_s / steps * 1e3,
        "loaded_bytes": loaded_bytes,
        "peak_bytes": peak_bytes(),
        "validation_accuracy": accuracy,
    }


def table(figures: dict[str, Any]) -> str:
    """Return each run, and the most that its figures should be."""
    steps, baseline = figures["steps"], figures["import_tensorflow_bytes"]
    lines = [
        f"{steps} steps, batch {figures['batch']}; `import tensorflow` alone: "
        f"{baseline / 1e6:.0f} MB at its peak",
        f"{'photos':>10}{'load s':>10}{'steps s':>10}{'ms/step':>10}{'peak MB':>10}{'above':>10}",
    ]
    for results in zip(*figures["runs"].values(), strict=True):
        for photos, result in zip(figures["photos"].values(), results, strict=True):
            seconds = "".join(f"{result[name]:>10.2f}" for name in ("load_s", "fit_s"))
            peak = result["peak_bytes"]
            lines.append(
                f"{photos:>10}{seconds}{result['ms_per_step']:>10.3f}{peak / 1e6:>10.0f}"
                f"{(peak - baseline) / 1e6:>10.0f}"
            )
    maxima = figures["bars"]
    return "\n".join(
        [
            *lines,
            f"steps on few: {figures['few_s']:.2f} s (at most {maxima['few_s']:g} for 4000)",
            f"many/few: {figures['ratio']:.2f} (at most {maxima['ratio']:g})",
            f"memory above the import: {figures['peak_bytes'] / 1e9:.2f} GB "
            f"(at most {maxima['peak_bytes'] / 1e9:g})",
        ]
    )


def _digest(i: int) -> bytes:
    return hashlib.sha256(b"photo %d" % i).digest()


def _labels(rows: int) -> Any:
    return np.random.default_rng(0).integers(_CLASSES, size=rows)


if __name__ == "__main__":
    run(main)
