"""Measure the plan of many photos: `python -m bench.experiments.plan`.

A Parquet list of random digests is written, and its plan is made in a process of its own: the rows
are streamed, so that the memory does not depend on their number.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.experiments.shared import json_option, run, run_with_memory, save
from deploy.system.terminal import say

_BLOCK = 1_000_000
_LABELS = 1000
_PLAN = """
import json, sys, time
from pathlib import Path
from retrain.data.scan import write_plan
from retrain.data.source import open_source
start = time.perf_counter()
plan = write_plan(open_source(sys.argv[1]), Path(sys.argv[2]))
seconds = time.perf_counter() - start
size = sum(part.stat().st_size for part in plan.parts)
print(json.dumps({"rows": plan.rows, "parts": len(plan.parts), "seconds": seconds, "bytes": size}))
"""


@click.command()
@click.option("--rows", default=100_000_000, show_default=True, type=click.IntRange(1))
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
def main(rows: int, folder: Path | None, output: Path | None) -> None:
    """Write a list of ROWS photos below FOLDER, and plan it; print seconds and memory."""
    with TemporaryDirectory(prefix="retrain-", dir=folder) as temporary:
        photos, plan = Path(temporary, "photos.parquet"), Path(temporary, "plan")
        write_list(photos, rows)
        say(f"{rows:,} rows, {photos.stat().st_size / 1e9:.1f} GB as a list")
        finished = run_with_memory([sys.executable, "-c", _PLAN, str(photos), str(plan)])
        figures = {**json.loads(finished.stdout), "peak_mb": finished.peak_mb}
    say(
        f"{figures['rows']:,} rows in {figures['parts']:,} parts: {figures['seconds']:.0f} s, "
        f"{figures['seconds'] / rows * 1e6:.2f} microseconds and {figures['bytes'] / rows:.0f} "
        f"bytes a row, at most {finished.peak_mb:.0f} MB"
    )
    if output:
        save(output, figures)


def write_list(path: Path, rows: int) -> None:
    """Write a list of `rows` photos, each with a random digest."""
    random = np.random.default_rng(0)
    schema = pa.schema({"uri": pa.string(), "label": pa.string(), "digest": pa.binary(32)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, _BLOCK):
            numbers = np.arange(first, min(first + _BLOCK, rows))
            digests = random.bytes(32 * len(numbers))
            columns = [
                pa.array(
                    [f"s3://photos/{number // 1000:06}/{number:09}.jpg" for number in numbers]
                ),
                pa.array([f"class {label}" for label in numbers % _LABELS]),
                pa.Array.from_buffers(pa.binary(32), len(numbers), [None, pa.py_buffer(digests)]),
            ]
            writer.write_table(pa.table(columns, schema=schema))


if __name__ == "__main__":
    run(main)
