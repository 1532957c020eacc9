"""Keep the rows of a scan in Parquet files, so that the next scan reads only what changed.

The rows of one address are in `SCANS/<first 32 hexadecimal digits of the SHA-256 of the
address>/part-<number>-<digest>.parquet`, with the columns of `listed.SCHEMA`; each file is written
when its rows are known. A scan that was killed leaves the parts that it had written, and the next
one uses those too. `about.json` beside them names the address; its lock is held by a running scan.
"""

import fcntl
import hashlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deploy import files
from deploy.system.temporary_files import sweep
from retrain.data.listed import SCHEMA
from retrain.data.remote_path import PhotoPath

ABOUT, PARTS = "about.json", "part-*.parquet"
_ABOUT_VERSION = 1
_ROWS_PER_PART = 16_384
"""A part is written once it has so many rows: a killed scan loses seconds of work."""
_ROWS_PER_GROUP = 8192
_KEY = np.dtype([("high", ">u8"), ("low", ">u8")])


class Plan(NamedTuple):
    """The parts of a whole scan, in the order of the rows, and the count of the rows."""

    parts: tuple[Path, ...]
    rows: int


def folder_of(scans: Path, address: PhotoPath) -> Path:
    """Return the folder below `scans` of the parts of an address."""
    name = hashlib.sha256(os.fsencode(address.absolute())).hexdigest()[:32]
    return scans / name


class ScanParts:
    """What earlier scans of an address know, by the parts in `folder`; nothing without one.

    A part that is damaged, or of another version, is as if it were not there.
    """

    def __init__(self, folder: Path | None) -> None:
        self._paths = sorted(folder.glob(PARTS)) if folder else []
        self._keys: npt.NDArray[np.void] | None = None
        self._digests: npt.NDArray[np.uint8] = np.empty((0, 32), np.uint8)
        self._tars: dict[tuple[bytes, int, str], Path] | None = None
        self._lock = threading.Lock()
        self._part_of_tars: tuple[Path, pa.Table | None] | None = None

    def digests_of(self, files: Sequence[tuple[bytes, int, str]]) -> list[bytes | None]:
        """Return the digest that each file had: its absolute path, size and version; else None."""
        with self._lock:
            keys = self._load_digests() if files and self._keys is None else self._keys
        if keys is None or not len(keys):
            return [None] * len(files)
        searched = np.frombuffer(b"".join(_key(*file) for file in files), _KEY)
        places = np.searchsorted(keys["high"], searched["high"])
        places[places == len(keys)] = 0
        is_known = keys[places] == searched
        digests = self._digests[places]
        return [
            digest.tobytes() if known else None
            for digest, known in zip(digests, is_known.tolist(), strict=True)
        ]

    def rows_of_tar(self, path: bytes, size: int, version: str) -> pa.RecordBatch | None:
        """Return all rows of the tar file at a URL, if it was read to its end in this version."""
        with self._lock:
            tars = self._load_tars() if self._tars is None else self._tars
            part = tars.get((path, size, version))
            if part is None:
                return None
            if self._part_of_tars is None or self._part_of_tars[0] != part:
                self._part_of_tars = part, _read(part)
            rows = self._part_of_tars[1]
        if rows is None:
            return None
        is_member = pc.starts_with(rows["path"], pattern=path + b"#")
        is_tar = pc.equal(rows["path"], pa.scalar(path, pa.binary()))
        is_current = pc.equal(rows["version"], version)
        chosen = rows.filter(pc.and_(pc.or_(is_member, is_tar), is_current)).combine_chunks()
        return chosen.to_batches()[0]

    def _load_digests(self) -> npt.NDArray[np.void]:
        keys, digests = [b""], [b""]
        for path in self._paths:
            rows = _read(path, ["path", "size", "version", "digest"])
            if rows is None:
                continue
            is_usable = pc.and_(pc.is_valid(rows["digest"]), pc.not_equal(rows["version"], ""))
            rows = rows.filter(pc.and_(is_usable, pc.is_valid(rows["size"])))
            columns = (rows[name].to_pylist() for name in ("path", "size", "version"))
            keys.append(b"".join(_key(*values) for values in zip(*columns, strict=True)))
            digests.append(b"".join(rows["digest"].to_pylist()))
        table = np.frombuffer(b"".join(keys), _KEY)
        order = np.argsort(table["high"], kind="stable")
        self._keys = table[order]
        self._digests = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)[order]
        return self._keys

    def _load_tars(self) -> dict[tuple[bytes, int, str], Path]:
        self._tars = {}
        for part in self._paths:
            rows = _read(part, ["path", "size", "version", "digest", "reason"])
            if rows is None:
                continue
            is_silent = pc.fill_null(pc.equal(rows["reason"], ""), fill_value=False)
            rows = rows.filter(pc.and_(is_silent, pc.not_equal(rows["version"], "")))
            for row in rows.to_pylist():
                self._tars[row["path"], row["size"], row["version"]] = part
        return self._tars


def _key(path: bytes, size: int, version: str) -> bytes:
    text = b"%b\0%d\0%b" % (path, size, version.encode())
    return hashlib.blake2b(text, digest_size=16).digest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    """Return columns of a part, or all; None if it cannot be read."""
    try:
        content = path.read_bytes()
        if not path.stem.endswith(f"-{_digest(content)}"):
            return None
        with pq.ParquetFile(pa.BufferReader(content)) as part:
            rows = part.read(columns=columns, use_threads=False)
    except (OSError, ValueError):  # pyarrow's errors are ValueErrors
        return None
    names = columns or SCHEMA.names
    is_known = all(
        name in rows.schema.names and rows.schema.field(name).type == SCHEMA.field(name).type
        for name in names
    )
    return rows.select(names) if is_known else None


class PartWriter:
    """Write the parts of a scan into `folder`; a batch is never divided between two parts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._batches: list[pa.RecordBatch] = []
        self._waiting = 0
        self._parts: list[Path] = []
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows with absolute paths; raise OSError if a part cannot be written."""
        self._batches.append(batch)
        self._waiting += batch.num_rows
        if self._waiting >= _ROWS_PER_PART:
            self._write()

    def finish(self) -> Plan:
        """Write what is left, and return the plan."""
        if self._waiting or not self._parts:
            self._write()
        return Plan(tuple(self._parts), self._rows)

    def _write(self) -> None:
        table = pa.Table.from_batches(self._batches, SCHEMA)
        content = io.BytesIO()
        pq.write_table(
            table,
            content,
            row_group_size=_ROWS_PER_GROUP,
            compression="zstd",
            use_dictionary=["label", "split", "version", "reason"],
        )
        # Two scans of the same photos write the same names, and scans of others do not.
        path = self._folder / f"part-{len(self._parts):06d}-{_digest(content.getvalue())}.parquet"
        files.write(path, content.getvalue())
        self._parts.append(path)
        self._rows += self._waiting
        self._batches, self._waiting = [], 0


@contextmanager
def in_use(folder: Path, address: PhotoPath) -> Iterator[int]:
    """Create `folder`, mark it as used now, and lock it for the block; yield the lock.

    What killed processes left unfinished is removed. Raises OSError.
    """
    about = folder / ABOUT
    if not about.exists():
        text = os.fsencode(address.absolute()).decode("utf-8", "backslashreplace")
        files.write_json(about, {"schema": _ABOUT_VERSION, "photos_of": text})
    sweep(folder)
    lock = os.open(about, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.utime(about)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield lock
    finally:
        os.close(lock)


def remove_others(folder: Path, plan: Plan, lock: int) -> None:
    """Remove the parts of former scans, unless another scan runs, which may be writing its own."""
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in set(folder.glob(PARTS)).difference(plan.parts):
            path.unlink(missing_ok=True)
