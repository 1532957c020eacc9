"""Measure shards of several sizes: `python -m bench.experiments.shard_size DIR`.

The real bottlenecks of the photos in DIR, each under many digests, are written as shards of each
size and read again. A small shard costs a file and a header, a large one is lost with its worker.
"""

import hashlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import numpy.typing as npt

from bench.experiments.shared import json_option, retrain, run, save
from deploy.system.terminal import say, say_table
from retrain.bottlenecks.cache import SHARDS, Cache, read_shard
from retrain.bottlenecks.cached_rows import Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.settings.cache import default_cache_dir

_SIZES = (16, 64, 256, 1024, 4096)


@click.command()
@click.argument("photos", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--rows", default=16_384, show_default=True, type=click.IntRange(4096))
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
def main(photos: Path, rows: int, folder: Path | None, output: Path | None) -> None:
    """Write ROWS bottlenecks of the photos in DIR below FOLDER, in shards of each size."""
    values = bottlenecks_of(photos)
    lines = [f"{'rows':>6}{'write, us a row':>17}{'read, us a row':>16}{'bytes a row':>13}"]
    measured = []
    for size in _SIZES:
        with TemporaryDirectory(prefix="retrain-", dir=folder) as temporary:
            figures = measure(Path(temporary, "shards"), values, size, rows)
        measured.append({"rows_a_shard": size, **figures})
        lines.append(
            f"{size:>6}{figures['write_us']:>17.1f}{figures['read_us']:>16.1f}"
            f"{figures['bytes']:>13.0f}"
        )
    say_table("\n".join(lines) + "\n")
    if output:
        save(output, {"rows": rows, "width": values.shape[1], "measured": measured})


def bottlenecks_of(photos: Path) -> npt.NDArray[np.float16]:
    """Return float16 (N, width): the bottlenecks of a folder of photos."""
    record = retrain("bottlenecks", str(photos))
    folder = default_cache_dir() / "bottlenecks" / record["fingerprint"]
    columns = [read_shard(path)["bottleneck"] for path in sorted(folder.glob(SHARDS))]
    width = columns[0].type.list_size
    # `flatten` leaves out the nulls of bad photos.
    blocks = [column.combine_chunks().flatten().to_numpy() for column in columns]
    values = np.concatenate(blocks).reshape(-1, width)
    say(f"{len(values)} bottlenecks of {photos}")
    return values


def measure(
    folder: Path, values: npt.NDArray[np.float16], size: int, count: int
) -> dict[str, float]:
    """Return microseconds a row to write and to read shards of `size` rows, and bytes a row."""
    rows = [
        Row(hashlib.sha256(number.to_bytes(8)).digest(), 0, None, values[number % len(values)])
        for number in range(count)
    ]
    cache = Cache(folder, values.shape[1])
    start = time.perf_counter()
    for first in range(0, count, size):
        cache.add(rows[first : first + size])
    written = time.perf_counter()
    digests = np.frombuffer(b"".join(row.digest for row in rows), np.uint8).reshape(-1, 32)
    cached = cache.load(digests, range(1), FeatureStore(cache.width, folder))
    read = time.perf_counter()
    if len(cached.missing()):
        raise AssertionError(f"{len(cached.missing())} rows are missing")
    return {
        "write_us": (written - start) / count * 1e6,
        "read_us": (read - written) / count * 1e6,
        "bytes": sum(path.stat().st_size for path in folder.glob(SHARDS)) / count,
    }


if __name__ == "__main__":
    run(main)
