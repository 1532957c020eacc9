"""Cache bottlenecks in Parquet shards: one folder per fingerprint, one row per photo and view.

A shard is `shard-<SHA-256 of its bytes>.parquet` with the columns `digest` (32 bytes, the photo's
SHA-256), `view` (int16; 0 is undistorted), `status` ("ok" or "bad"), `error` (text, null if "ok")
and `bottleneck` (float16, null if "bad"). A reader ignores other columns. A change that readers of
these columns would misunderstand needs another fingerprint, and so another folder. The schema's
metadata has the `fingerprint`; shards of earlier versions lack it.

`about.json` beside the shards says what they are of. Its time is that of the last use, and its
lock is held while they are in use.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deploy import files
from deploy.errors import BadData
from deploy.system.temporary_files import part_of, sweep
from retrain.bottlenecks import remote_files
from retrain.bottlenecks.cached_rows import COLUMNS, CachedRows, Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.digest_index import Bytes
from retrain.progress import SILENT, Progress
from retrain.settings.cache import UrlPlace

ABOUT = "about.json"
ABOUT_VERSION = 1
SHARDS = "shard-*.parquet"
DAMAGED = "shard-*.damaged"
_DAMAGED_SUFFIX = ".damaged"
_FINGERPRINT = b"fingerprint"
_OF_THE_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of opening a file that say nothing of the file."""


class Cache:
    """The shards of one fingerprint. Any number of processes may add shards at once."""

    def __init__(
        self, place: Path | UrlPlace, width: int, about: Mapping[str, Any] | None = None
    ) -> None:
        """Use the folder `place` for bottlenecks of `width` values; the first shard creates it.

        Of a folder at a URL, `folder` is the local copy. `about` says what they are of, as JSON
        values; with None that is not known here.
        """
        self.place = place
        self.folder = place.copy if isinstance(place, UrlPlace) else place
        self.width = width
        self._about = about
        self._is_marked = False
        fingerprint = {_FINGERPRINT: self.folder.name.encode()}
        self._schema = pa.schema(_types(width), metadata=fingerprint)

    def add(self, rows: Sequence[Row]) -> str:
        """Write `rows` as a shard, whole or not at all; return its name, which has its SHA-256."""
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
        name = shard_name(content.getvalue())
        if isinstance(self.place, UrlPlace):
            remote_files.write(self.place / name, content.getvalue())
            return name
        if not self._is_marked:
            self._is_marked = True
            self._mark_used(self, create=True)
        files.write(self.folder / name, content.getvalue())
        return name

    def load(
        self, digests: Bytes, views: range, store: FeatureStore, progress: Progress = SILENT
    ) -> CachedRows:
        """Return the rows of photos and their views; append their bottlenecks to `store`.

        Each shard is read once, one after the other. `digests` is uint8 (N, 32). A shard that
        `read_shard` refuses is set aside: its rows are missing. Shards that killed processes left
        unfinished are removed. The shards count as in use until `store` ends.
        """
        sweep(self.folder)
        self._mark_used(store)
        cached = CachedRows(digests, views, store)
        if isinstance(self.place, UrlPlace):
            remote_files.copy_all(self.place, SHARDS, progress)
        for path in sorted(self.folder.glob(SHARDS)):
            self._add_shard(path, cached)
        return cached

    def add_written(self, name: str, cached: CachedRows) -> None:
        """Add the rows of the shard `name`, which `add` wrote, here or elsewhere, to `cached`.

        Raises FileNotFoundError if it cannot be seen from here.
        """
        if isinstance(self.place, UrlPlace):
            remote_files.copy(self.place / name)
        (self.folder / name).stat()
        self._add_shard(self.folder / name, cached)

    def _add_shard(self, path: Path, cached: CachedRows) -> None:
        """Add the rows of a shard to `cached`, or set it aside if it is damaged."""
        try:
            table = self._read_shard(path)
        except BadData as error:
            with suppress(OSError):  # a cache that is only read
                set_aside(self.place / path.name)
            cached.damaged.append(f"{path.name} ({error})")
        else:
            cached.add_table(table)

    def _read_shard(self, path: Path) -> pa.Table:
        try:
            return read_shard(path, self.width)
        except BadData:
            if not isinstance(self.place, UrlPlace):
                raise
        # The copy may be damaged, and not the shard.
        return read_shard(remote_files.copy(self.place / path.name), self.width)

    def _mark_used(self, owner: object, create: bool = False) -> None:
        """Set the time of the last use, and lock the shards until `owner` ends.

        With `create` the folder is made if there is none. Where the shards cannot be locked, as in
        a cache that is only read, they are not in use.
        """
        path = self.folder / ABOUT
        with suppress(OSError):
            while True:
                if create:
                    self.folder.mkdir(parents=True, exist_ok=True)
                self._write_about()
                descriptor = os.open(path, os.O_RDONLY)
                close = weakref.finalize(owner, os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if is_open_at(descriptor, path):
                    break
                close()  # the shards were removed before the lock
            os.utime(path)
            if isinstance(self.place, UrlPlace):  # no lock there, but the time of the last use
                remote_files.write(self.place / ABOUT, path.read_bytes())

    def _write_about(self) -> None:
        """Say what the shards are of, unless that is written: a lock is on the file as it is."""
        path = self.folder / ABOUT
        if self._about is None or path.exists():
            return
        values = {"schema": ABOUT_VERSION, "width": self.width, **self._about}
        with part_of(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
            try:
                os.link(temporary, path)
            except FileExistsError:  # another process was first
                pass
            except OSError:  # a file system without hard links
                temporary.replace(path)


def is_open_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one of that name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def read_shard(path: Path, width: int | None = None) -> pa.Table:
    """Return the rows of a shard, the columns COLUMNS, once its bytes are those of its name.

    Raises BadData, which says what is wrong, if they are not, if they are no rows of bottlenecks of
    `width` values (None is any), and if they are of another fingerprint than their folder. Raises
    OSError if this process lacks memory or may open no more files.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        if error.errno in _OF_THE_PROCESS:
            raise
        raise BadData(error.strerror) from error
    if path.name != shard_name(content):
        raise BadData("its SHA-256 is wrong")
    # Parse the bytes whose digest was checked: the file may change in the meantime.
    # Not `pq.read_table`, which loads pyarrow's datasets and file systems for it.
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as shard:
            # A thread of Arrow's that still runs when the process ends can abort it (arrow#34314).
            table = shard.read(columns=COLUMNS, use_threads=False)
    except (OSError, pa.ArrowException) as error:  # of bytes in memory
        raise BadData("not a Parquet file") from error
    fingerprint = (table.schema.metadata or {}).get(_FINGERPRINT, path.parent.name.encode())
    if fingerprint != path.parent.name.encode():
        raise BadData(f"of another fingerprint, {fingerprint.decode(errors='replace')}")
    types = {field.name: field.type for field in table.schema}
    if width is None:
        width = getattr(types.get("bottleneck"), "list_size", 0)
    if types != _types(width):
        raise BadData(f"not rows of bottlenecks of {width} values")
    return table


def set_aside(shard: Path | UrlPlace) -> None:
    """Rename a damaged shard, so that its photos are analysed again."""
    if isinstance(shard, UrlPlace):
        remote_files.rename(shard, shard.copy.with_suffix(_DAMAGED_SUFFIX).name)
        return
    target = shard.with_suffix(_DAMAGED_SUFFIX)
    with suppress(FileNotFoundError):  # another process was first
        if shard.is_dir() or target.is_dir():
            remove(target)
        shard.replace(target)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds, if it exists."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _types(width: int) -> dict[str, pa.DataType]:
    """Return the types of COLUMNS for bottlenecks of `width` values."""
    types = pa.binary(32), pa.int16(), pa.string(), pa.string(), pa.list_(pa.float16(), width)
    return dict(zip(COLUMNS, types, strict=True))


def shard_name(content: bytes) -> str:
    """Return the file name of a shard: Parquet's own checksums leave out headers and footer."""
    return f"shard-{hashlib.sha256(content).hexdigest()}.parquet"
