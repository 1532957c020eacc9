"""Write the bottlenecks of one fingerprint into one file that other programs read."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deploy import files
from deploy.errors import BadData, WrongUse
from retrain.bottlenecks import remote_files
from retrain.bottlenecks.cache import SHARDS, Cache, read_shard
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.digest_index import Bytes, DigestIndex, Numbers, of_column
from retrain.progress import Progress
from retrain.settings.cache import UrlPlace

FORMATS = (".parquet", ".npy")
_HEADER = b"digest,view\n"
_BLOCK_ROWS = 4096


def export(place: Path | UrlPlace, path: Path, progress: Progress) -> int:
    """Write the cache in the folder `place` as the file `path`, and return the number of its rows.

    The rows are in the order of digest and view, without those of bad photos. A .parquet file has
    the columns digest (hexadecimal, as in manifest.csv), view and bottleneck. A .npy file has the
    bottlenecks, float16 (rows, width); digest and view of its rows are in a .csv file beside it.
    Damaged shards are named in a warning and left out. Raises WrongUse for another suffix, and
    where a .csv file is not of an earlier export, BadData for a cache without rows, OSError.
    """
    if path.suffix not in FORMATS:
        raise WrongUse(f"{path}: the name of the file must end in {' or '.join(FORMATS)}")
    if path.suffix == ".npy":
        _require_table(path.with_suffix(".csv"))
    if isinstance(place, UrlPlace):
        remote_files.copy_all(place, SHARDS, progress)
    folder = place.copy if isinstance(place, UrlPlace) else place
    width, digests, views = _read_keys(folder)
    cached = Cache(place, width).load(digests, views, FeatureStore(width, folder))
    if cached.damaged:
        progress.warn(f"{place}: damaged, left out: {', '.join(cached.damaged)}")
    usable = np.flatnonzero(cached.rows >= 0)
    if not len(usable):
        raise BadData(f"{place}: no bottleneck that can be read: analyse photos first")
    write = _write_numpy if path.suffix == ".npy" else _write_parquet
    write(path, cached.store, len(usable), _blocks(digests, views, usable, cached.rows))
    return len(usable)


def _require_table(path: Path) -> None:
    """Raise WrongUse if `path` is there and not the table of an earlier export."""
    with suppress(FileNotFoundError), path.open("rb") as stream:
        if stream.read(len(_HEADER)) != _HEADER:
            raise WrongUse(
                f"{path}: it would be replaced, and is not of an earlier export: name another file"
            )


def _read_keys(folder: Path) -> tuple[int, Bytes, range]:
    """Return the width of the bottlenecks, the digests of all rows in order, and the views."""
    digests: list[Bytes] = []
    views: set[int] = set()
    widths: Counter[int] = Counter()
    for path in folder.glob(SHARDS):
        try:
            table = read_shard(path)
        except BadData:  # `Cache.load` sets it aside, and says so
            continue
        widths[table.schema.field("bottleneck").type.list_size] += len(table)
        digests.append(of_column(table["digest"]))
        views.update(table["view"].unique().to_pylist())
    if not views:
        raise BadData(f"{folder}: no shard that can be read: analyse photos first")
    every = np.concatenate(digests)
    index = DigestIndex(every)
    width = widths.most_common(1)[0][0]
    return width, every[np.delete(index.order, index.repeats)], range(min(views), max(views) + 1)


class _Block(NamedTuple):
    """Rows to write: their digests, hexadecimal, their views, and their numbers in the store."""

    digests: list[str]
    views: list[int]
    rows: Numbers


def _blocks(digests: Bytes, views: range, usable: Numbers, rows: Numbers) -> Iterator[_Block]:
    for first in range(0, len(usable), _BLOCK_ROWS):
        places = usable[first : first + _BLOCK_ROWS]
        numbers, offsets = np.divmod(places, len(views))
        texts = [digest.tobytes().hex() for digest in digests[numbers]]
        yield _Block(texts, (offsets + views.start).tolist(), rows[places])


def _write_numpy(path: Path, store: FeatureStore, count: int, blocks: Iterable[_Block]) -> None:
    with files.atomic(path.with_suffix(".csv")) as names, files.atomic(path) as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": (count, store.width)}
        np.lib.format.write_array_header_1_0(stream, header)
        names.write(_HEADER)
        for block in blocks:
            stream.write(store.take(block.rows).astype("<f2").tobytes())
            for digest, view in zip(block.digests, block.views, strict=True):
                names.write(f"{digest},{view}\n".encode())


def _write_parquet(path: Path, store: FeatureStore, _count: int, blocks: Iterable[_Block]) -> None:
    # float32: not all readers of Parquet know float16.
    bottleneck = pa.list_(pa.float32(), store.width)
    schema = pa.schema({"digest": pa.string(), "view": pa.int16(), "bottleneck": bottleneck})
    with files.atomic(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as out:
        for block in blocks:
            values = store.take(block.rows).reshape(-1)
            columns = [
                pa.array(block.digests),
                pa.array(block.views, pa.int16()),
                pa.FixedSizeListArray.from_arrays(pa.array(values), store.width),
            ]
            out.write_table(pa.table(columns, schema=schema))
