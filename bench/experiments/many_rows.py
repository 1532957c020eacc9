"""Train on many photos whose bottlenecks are cached: `python -m bench.experiments.many_rows`.

A list of photos with digests, and a cache of random bottlenecks for a small network, are written.
Then `retrain train` runs on the list, as a user runs it the second time: no photo is read. Labels
are clusters, in the order of the list, as those of a folder are.
"""

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.experiments.shared import json_option, retrain_with_memory, run, save
from deploy.system.terminal import say

_SIDE = 32
"""Height and width of the network's photos in pixels."""
_SHARD_ROWS = 4096
_OPTIONS = ("--input-size", str(_SIDE), "--input-mean", "128", "--input-std", "128")


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--width", default=1280, show_default=True, type=click.IntRange(1))
@click.option("--classes", default=100, show_default=True, type=click.IntRange(2))
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1))
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
def main(
    rows: int, width: int, classes: int, runs: int, folder: Path | None, output: Path | None
) -> None:
    """Write a list and a cache of ROWS photos below FOLDER, and train; print seconds and memory."""
    with TemporaryDirectory(prefix="retrain-", dir=folder) as temporary:
        place = Path(temporary)
        network = _write_network(place, width)
        cache = place / "cache" / "bottlenecks" / _fingerprint(network, place / "cache")
        _write_photos(place / "photos.parquet", cache, rows, width, classes)
        written = {"list": _bytes(place / "photos.parquet"), "shards": _bytes(cache)}
        figures = [_train(place, network, number) for number in range(runs)]
        written |= {"scan": _bytes(place / "cache" / "scans"), "run": _bytes(place / "run0")}
    record = {
        "rows": rows,
        "width": width,
        "classes": classes,
        "runs": figures,
        "bytes_a_row": {name: size / rows for name, size in written.items()},
    }
    for result in figures:
        _print(rows, result)
    say(f"bytes a row on the disk: {record['bytes_a_row']}")
    if output:
        save(output, record)


def _write_network(folder: Path, width: int) -> Path:
    """Write a frozen graph whose bottlenecks have `width` values; return its path."""
    from retrain import tf_graph

    tf = tf_graph.tensorflow()

    def body(images: Any) -> Any:
        kernel = np.random.default_rng(0).uniform(-1, 1, (8, 8, 3, width)).astype(np.float32)
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, kernel, 8, "VALID")), [1, 2])

    path = folder / "network.pb"
    graph = tf_graph.trace(body, (_SIDE, _SIDE, 3), tf_graph.BOTTLENECK)
    path.write_bytes(graph.SerializeToString())
    return path


def _ends(network: Path) -> tuple[str, ...]:
    from retrain import tf_graph

    tensors = ("--input-tensor", tf_graph.INPUT, "--bottleneck-tensor", tf_graph.BOTTLENECK)
    return ("--graph", str(network), *tensors, *_OPTIONS)


def _fingerprint(network: Path, cache: Path) -> str:
    from retrain import tf_graph
    from retrain.backbones.custom.custom_network import Ends
    from retrain.backbones.custom.load import load_custom

    ends = Ends(tf_graph.INPUT, tf_graph.BOTTLENECK, _SIDE, 128.0, 128.0)
    return load_custom(network, ends, cache).fingerprint


def _write_photos(path: Path, cache: Path, rows: int, width: int, classes: int) -> None:
    """Write the list of photos, and a shard for each `_SHARD_ROWS` of them."""
    from retrain.bottlenecks.cache import shard_name

    random = np.random.default_rng(0)
    centres = random.normal(0, 0.5, (classes, width)).astype(np.float32)
    names = pa.array([f"class {number:04}" for number in range(classes)])
    cache.mkdir(parents=True)
    schema = pa.schema({"uri": pa.string(), "label": pa.string(), "digest": pa.binary(32)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, _SHARD_ROWS):
            numbers = np.arange(first, min(first + _SHARD_ROWS, rows))
            labels = numbers * classes // rows
            content = random.bytes(32 * len(numbers))
            digests = pa.Array.from_buffers(
                pa.binary(32), len(numbers), [None, pa.py_buffer(content)]
            )
            pairs = zip(labels.tolist(), numbers.tolist(), strict=True)
            uris = [f"/no photos/{label:04}/{i:09}.jpg" for label, i in pairs]
            listed = [pa.array(uris), names.take(pa.array(labels)), digests]
            writer.write_table(pa.table(listed, schema=schema))
            values = centres[labels] + random.standard_normal((len(numbers), width), np.float32)
            columns = {
                "digest": digests,
                "view": pa.array(np.zeros(len(numbers), np.int16)),
                "status": pa.repeat("ok", len(numbers)),
                "error": pa.nulls(len(numbers), pa.string()),
                "bottleneck": pa.FixedSizeListArray.from_arrays(
                    pa.array(values.astype(np.float16).ravel()), width
                ),
            }
            shard = pa.BufferOutputStream()
            pq.write_table(pa.table(columns), shard, compression="zstd", use_dictionary=False)
            shard_bytes = shard.getvalue().to_pybytes()
            (cache / shard_name(shard_bytes)).write_bytes(shard_bytes)


def _train(place: Path, network: Path, number: int) -> dict[str, Any]:
    """Train in a process of its own; return seconds, memory and accuracy."""
    run_folder = place / f"run{number}"
    where = ("--cache-dir", str(place / "cache"), "--output-dir", str(run_folder))
    finished = retrain_with_memory("train", str(place / "photos.parquet"), *_ends(network), *where)
    metrics = json.loads(finished.stdout)
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return {
        "seconds": metrics["seconds"],
        "analysed": metrics["analysed"],
        "peak_pss_mb": finished.peak_mb,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / scale,
        "test_accuracy": metrics["test"]["accuracy"],
        "test_photos": metrics["test"]["total"],
    }


def _print(rows: int, result: Mapping[str, Any]) -> None:
    seconds = sum(result["seconds"].values())
    stages = ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items())
    say(
        f"{rows:,} photos: {seconds:.0f} s, {seconds / rows * 1e6:.1f} microseconds a photo "
        f"({stages}); at most {result['peak_rss_mb']:,.0f} MB resident, "
        f"{result['peak_pss_mb']:,.0f} proportional; test accuracy {result['test_accuracy']:.1%}"
    )


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    run(main)
