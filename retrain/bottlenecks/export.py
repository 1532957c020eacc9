"""Write the bottlenecks of one fingerprint into one file that other programs read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deploy import files
from deploy.errors import BadData, WrongUse
from retrain.bottlenecks.cache import SHARDS, Cache, read_shard
from retrain.bottlenecks.cached_rows import CachedRows, Key
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.progress import Progress

FORMATS = (".parquet", ".npy")
_BLOCK_ROWS = 4096


def export(folder: Path, path: Path, progress: Progress) -> int:
    """Write the cache `folder` as the file `path`, and return the number of its rows.

    The rows are in the order of digest and view, without those of bad photos. A .parquet file has
    the columns digest (hexadecimal, as in manifest.csv), view and bottleneck. A .npy file has the
    bottlenecks, float16 (rows, width); digest and view of its rows are in a .csv file beside it.
    Damaged shards are named in a warning and left out. Raises WrongUse for another suffix, BadData
    for a cache without rows, OSError.
    """
    if path.suffix not in FORMATS:
        raise WrongUse(f"{path}: the name of the file must end in {' or '.join(FORMATS)}")
    width, keys = _read_keys(folder)
    cache = Cache(folder, width)
    cached = cache.load(keys, FeatureStore(width, folder))
    if cached.damaged:
        progress.warn(f"{folder}: damaged, left out: {', '.join(cached.damaged)}")
    usable = [number for number, row in enumerate(cached.rows.tolist()) if row >= 0]
    if not usable:
        raise BadData(f"{folder}: no bottleneck that can be read: analyse photos first")
    if path.suffix == ".npy":
        _write_numpy(path, keys, usable, cached)
    else:
        _write_parquet(path, keys, usable, cached)
    return len(usable)


def _read_keys(folder: Path) -> tuple[int, list[Key]]:
    """Return the width of the bottlenecks, and the keys of all rows in order."""
    keys: set[Key] = set()
    widths: Counter[int] = Counter()
    for path in folder.glob(SHARDS):
        try:
            table = read_shard(path)
        except BadData:  # `Cache.load` sets it aside, and says so
            continue
        widths[table.schema.field("bottleneck").type.list_size] += len(table)
        keys.update(zip(table["digest"].to_pylist(), table["view"].to_pylist(), strict=True))
    if not keys:
        raise BadData(f"{folder}: no shard that can be read: analyse photos first")
    return widths.most_common(1)[0][0], sorted(keys)


def _blocks(usable: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(usable), _BLOCK_ROWS):
        yield usable[first : first + _BLOCK_ROWS]


def _write_numpy(
    path: Path, keys: Sequence[Key], usable: Sequence[int], cached: CachedRows
) -> None:
    shape = (len(usable), cached.store.width)
    with files.atomic(path) as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in _blocks(usable):
            stream.write(cached.store.take(cached.rows[block]).astype("<f2").tobytes())
    with files.atomic(path.with_suffix(".csv")) as stream:
        stream.write(b"digest,view\n")
        for number in usable:
            digest, view = keys[number]
            stream.write(f"{digest.hex()},{view}\n".encode())


def _write_parquet(
    path: Path, keys: Sequence[Key], usable: Sequence[int], cached: CachedRows
) -> None:
    width = cached.store.width
    # float32: not all readers of Parquet know float16.
    bottleneck = pa.list_(pa.float32(), width)
    schema = pa.schema({"digest": pa.string(), "view": pa.int16(), "bottleneck": bottleneck})
    with files.atomic(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as out:
        for block in _blocks(usable):
            values = cached.store.take(cached.rows[block]).reshape(-1)
            columns = [
                pa.array([keys[number][0].hex() for number in block]),
                pa.array([keys[number][1] for number in block], pa.int16()),
                pa.FixedSizeListArray.from_arrays(pa.array(values), width),
            ]
            out.write_table(pa.table(columns, schema=schema))
