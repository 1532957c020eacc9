"""Cache bottlenecks in Parquet shards: one folder per fingerprint, one row per photo and view.

A shard is `shard-<SHA-256 of its bytes>.parquet` with the columns `digest` (32 bytes, the photo's
SHA-256), `view` (int16; 0 is undistorted), `status` ("ok" or "bad"), `error` (text, null if "ok")
and `bottleneck` (float16, null if "bad"). A reader ignores other columns. A change that readers of
these columns would misunderstand needs another fingerprint, and so another folder.

`about.json` beside the shards says what they are of. Its time is that of the last use, and its
lock is held while they are in use.
"""

import fcntl
import hashlib
import io
import os
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deploy import files
from deploy.system.cores import cores
from deploy.system.temporary_files import sweep
from retrain.bottlenecks.cached_rows import COLUMNS, CachedRows, Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.digest_index import Bytes

ABOUT = "about.json"
ABOUT_VERSION = 1
SHARDS = "shard-*.parquet"
DAMAGED = "shard-*.damaged"


class Cache:
    """The shards of one fingerprint. Any number of processes may add shards at once."""

    def __init__(self, folder: Path, width: int, about: Mapping[str, Any] | None = None) -> None:
        """Use `folder` for bottlenecks of `width` values; the first shard creates it.

        `about` says what they are of, as JSON values; with None that is not known here.
        """
        self.folder = folder
        self.width = width
        self._about = about
        pa.set_cpu_count(cores())  # pyarrow counts all cores of the machine
        self._schema = pa.schema(
            {
                "digest": pa.binary(32),
                "view": pa.int16(),
                "status": pa.string(),
                "error": pa.string(),
                "bottleneck": pa.list_(pa.float16(), width),
            }
        )

    def add(self, rows: Sequence[Row]) -> None:
        """Write `rows` as a shard, whole or not at all; its name is its SHA-256."""
        columns = {
            "digest": [row.digest for row in rows],
            "view": [row.view for row in rows],
            "status": ["bad" if row.error else "ok" for row in rows],
            "error": [row.error for row in rows],
            "bottleneck": [row.bottleneck for row in rows],
        }
        table = pa.table(columns, schema=self._schema)
        content = io.BytesIO()
        # A dictionary of values that hardly repeat makes reading take six times as long.
        pq.write_table(table, content, compression="zstd", use_dictionary=False)
        files.write(self.folder / shard_name(content.getvalue()), content.getvalue())
        if not (self.folder / ABOUT).exists():
            self._write_about()

    def load(self, digests: Bytes, views: range, store: FeatureStore) -> CachedRows:
        """Return the rows of photos and their views; append their bottlenecks to `store`.

        Each shard is read once, one after the other. `digests` is uint8 (N, 32).
        A shard whose SHA-256 is not its name, or that cannot be read, is set aside: its rows are
        missing. Shards that killed processes left unfinished are removed. The shards count as in
        use until `store` ends.
        """
        sweep(self.folder)
        self._mark_used(store)
        cached = CachedRows(digests, views, store)
        for path in sorted(self.folder.glob(SHARDS)):
            content, problem = read_shard(path)
            if problem:
                set_aside(path)
                cached.damaged.append(f"{path.name} ({problem})")
                continue
            # Parse the bytes whose digest was checked: the file may change in the meantime.
            # Not `pq.read_table`, which loads pyarrow's datasets and file systems for it.
            with pq.ParquetFile(pa.BufferReader(content)) as shard:
                cached.add_table(shard.read(columns=COLUMNS))
        return cached

    def _mark_used(self, owner: object) -> None:
        """Set the time of the last use, and lock the shards until `owner` ends.

        Where neither can be done, as in a cache that is only read, the shards are not in use.
        """
        path = self.folder / ABOUT
        if path.exists():
            with suppress(OSError):
                os.utime(path)
        elif self.folder.exists():
            self._write_about()
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            weakref.finalize(owner, os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)

    def _write_about(self) -> None:
        if self._about is None:
            return
        with suppress(OSError):  # it is for people only
            values = {"schema": ABOUT_VERSION, "width": self.width, **self._about}
            files.write_json(self.folder / ABOUT, values)


def read_shard(path: Path) -> tuple[bytes, str | None]:
    """Return the bytes of a shard, and why it cannot be used, None if it can."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return b"", error.strerror
    return content, None if path.name == shard_name(content) else "its SHA-256 is wrong"


def set_aside(path: Path) -> None:
    """Rename a damaged shard, so that its photos are analysed again."""
    with suppress(FileNotFoundError):  # another process was first
        path.replace(path.with_suffix(".damaged"))


def shard_name(content: bytes) -> str:
    """Return the file name of a shard: Parquet's own checksums leave out headers and footer."""
    return f"shard-{hashlib.sha256(content).hexdigest()}.parquet"
