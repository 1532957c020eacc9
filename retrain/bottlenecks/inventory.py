"""List what a cache holds, check it, and remove what is old and not in use."""

import fcntl
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deploy.errors import BadData, WrongUse
from deploy.system.temporary_files import sweep
from deploy.untrusted_files import read_json
from deploy.versioned_json import read
from retrain.bottlenecks import remote_files
from retrain.bottlenecks.cache import (
    ABOUT,
    ABOUT_VERSION,
    DAMAGED,
    SHARDS,
    is_open_at,
    read_shard,
    remove,
)
from retrain.bottlenecks.cached_rows import COLUMNS
from retrain.data.scan_parts import PARTS
from retrain.frozen_graph import BOTTLENECK
from retrain.progress import SILENT, Progress
from retrain.settings.cache import UrlPlace

_REMEDY = "delete it: it is written anew"
_RECORD_BYTES = 50
_BLOCK_RECORDS = 1 << 16
_DEPTHS = ("*/", "*/*/", "*/*/*/")
"""The deepest are copies/URL/FINGERPRINT/ in a cache folder."""


@dataclass(frozen=True)
class Entry:
    """The shards of one fingerprint, or a folder of other files (`shards` is None).

    Shards may lie at a URL. `text` says what it is of. `used_at` is the time of the last use, in
    seconds since 1970. `damaged` are the shards that were set aside.
    """

    folder: Path | UrlPlace
    text: str
    shards: int | None
    damaged: int
    size_bytes: int
    used_at: float

    @property
    def age_days(self) -> float:
        """Days since the last use."""
        return max(0.0, time.time() - self.used_at) / 86_400

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "folder": str(self.folder),
            "of": self.text,
            "shards": self.shards,
            "damaged": self.damaged,
            "bytes": self.size_bytes,
            "days_since_use": round(self.age_days, 2),
        }


@dataclass(frozen=True)
class Check:
    """The shards of an entry that are damaged, with the reasons, and the content of the others.

    `rows` counts different rows; `content_sha256` is equal for two caches if their rows are.
    """

    entry: Entry
    damaged: tuple[tuple[Path | UrlPlace, str], ...]
    rows: int
    content_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "folder": str(self.entry.folder),
            "rows": self.rows,
            "content_sha256": self.content_sha256,
        }


@dataclass(frozen=True)
class Removal:
    """The entries that were removed, and those in use that were not."""

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes that were freed."""
        return sum(entry.size_bytes for entry in self.removed)


def list_shards(*roots: Path | UrlPlace) -> list[Entry]:
    """Return the caches and scans directly in `roots`, those of the latest use first."""
    places = [root for root in roots if isinstance(root, Path) and root.is_dir()]
    folders = (path for place in places for path in place.iterdir() if path.is_dir())
    entries = [
        _entry(folder)
        for folder in folders
        if (folder / ABOUT).exists() or any(chain(folder.glob(SHARDS), folder.glob(DAMAGED)))
    ]
    for root in roots:
        if isinstance(root, UrlPlace):
            entries += [_remote_entry(folder) for folder in remote_files.list_folders(root)]
    return sorted(entries, key=lambda entry: (-entry.used_at, entry.folder.name))


def list_others(cache_dir: Path) -> list[Entry]:
    """Return what else a cache folder holds."""
    texts = {
        "backbones": "prepared backbones and trunks",
        "engines": "measured speeds of runtimes",
        "downloads": "sample data sets",
        "copies": "copies of shards at URLs",
    }
    entries = []
    for name, text in texts.items():
        paths = [path for path in (cache_dir / name).rglob("*") if path.is_file()]
        if paths:
            used_at = max(path.stat().st_mtime for path in paths)
            size = sum(path.stat().st_size for path in paths)
            entries.append(Entry(cache_dir / name, text, None, 0, size, used_at))
    return entries


def choose(entries: Iterable[Entry], name: str, command: str) -> Entry:
    """Return the one of `entries` whose fingerprint begins with `name`.

    Raises WrongUse, which names the `command` that lists them.
    """
    matching = [entry for entry in entries if entry.folder.name.startswith(name)]
    if len(matching) != 1:
        problem = "is the beginning of several" if matching else "is the beginning of no"
        raise WrongUse(f"{name!r} {problem} fingerprint: `{command}` lists them")
    return matching[0]


def check(entry: Entry, progress: Progress = SILENT) -> Check:
    """Read each shard of an entry once, and return what is there and what is damaged.

    Shards of another width than most rows have are damaged. `content_sha256` does not depend on how
    the rows lie in shards: it is the SHA-256 of a record of each different row, in order. A record
    has the digest, the view (int16, big-endian), and the first 16 bytes of the SHA-256 of status,
    error and bottleneck (float16, little-endian), the two texts each ended by a zero byte. Memory
    holds 50 bytes a row, and one shard.
    """
    folder = entry.folder
    if isinstance(folder, UrlPlace):
        remote_files.copy_all(folder, SHARDS, progress, again=True)
    damaged: list[tuple[Path | UrlPlace, str]] = []
    paths: dict[int, list[Path]] = defaultdict(list)
    records: dict[int, bytearray] = defaultdict(bytearray)
    local = folder.copy if isinstance(folder, UrlPlace) else folder
    for path in sorted(local.glob(SHARDS)):
        try:
            table = read_shard(path)
        except BadData as error:
            if path.exists():  # no other process set it aside
                damaged.append((folder / path.name, str(error)))
            continue
        width = table.schema.field("bottleneck").type.list_size
        paths[width].append(path)
        records[width] += _records(table, width)
    usual = max(records, key=lambda width: len(records[width]), default=0)
    for width in paths.keys() - {usual}:
        reason = f"not rows of bottlenecks of {usual} values"
        damaged += [(folder / path.name, reason) for path in paths[width]]
    ordered = np.frombuffer(records[usual], f"S{_RECORD_BYTES}")
    ordered.sort()
    is_new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    content = hashlib.sha256()
    for first in range(0, len(ordered), _BLOCK_RECORDS):
        block = slice(first, first + _BLOCK_RECORDS)
        content.update(ordered[block][is_new[block]].tobytes())
    return Check(entry, tuple(damaged), int(is_new.sum()), content.hexdigest())


def _records(table: pa.Table, width: int) -> bytes:
    """Return the record of each row of a shard, _RECORD_BYTES each."""
    # `flatten` leaves out the nulls of bad rows.
    values = table["bottleneck"].combine_chunks().flatten().to_numpy()
    bottlenecks = iter(values.astype("<f2").reshape(-1, width))
    records = bytearray()
    columns = (table[name].to_pylist() for name in COLUMNS[:4])
    for digest, view, status, error in zip(*columns, strict=True):
        row = hashlib.sha256(f"{status}\0{error or ''}\0".encode())
        if status == "ok":
            row.update(next(bottlenecks))
        records += digest + view.to_bytes(2, "big", signed=True) + row.digest()[:16]
    return bytes(records)


def remove_old(
    entries: Iterable[Entry],
    max_age_days: float | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> Removal:
    """Remove the entries that were not used for the longest time.

    An entry is removed if it was not used for `max_age_days`. Then more are removed, the longest
    unused first, until all together are smaller than `max_bytes`. An entry that a running process
    uses stays; at a URL it is not known which these are. With `dry_run` nothing is removed.
    """
    oldest_first = sorted(entries, key=lambda entry: entry.used_at)
    total = sum(entry.size_bytes for entry in oldest_first)
    removed, in_use = [], []
    for entry in oldest_first:
        is_old = max_age_days is not None and entry.age_days > max_age_days
        is_too_much = max_bytes is not None and total > max_bytes
        if not (is_old or is_too_much):
            continue
        if isinstance(entry.folder, UrlPlace):
            if not dry_run:
                _remove_remote(entry.folder)
        else:
            with _exclusive(entry.folder / ABOUT) as is_free:
                if not is_free:
                    if entry.folder.exists():  # no other process removed it
                        in_use.append(entry)
                    continue
                if not dry_run:
                    _remove_entry(entry.folder)
        removed.append(entry)
        total -= entry.size_bytes
    return Removal(tuple(removed), tuple(in_use))


def remove_leftovers(
    *roots: Path | UrlPlace, removed: Collection[Path | UrlPlace] = (), dry_run: bool = False
) -> int:
    """Remove damaged shards and what killed processes left unfinished; return the bytes.

    They lie in `roots`, and in the folders there, down to three levels. The folders `removed` are
    left out, as they are counted already. With `dry_run` nothing is removed, and what running
    processes write counts too.
    """
    size = 0
    for root in roots:
        if isinstance(root, UrlPlace):
            size += _remove_damaged(root, removed, dry_run)
    places = [root for root in roots if isinstance(root, Path)]
    inner = (path for place in places for depth in _DEPTHS for path in place.glob(depth))
    for folder in {*places, *inner}.difference(removed):
        damaged = list(folder.glob(DAMAGED))
        sizes = {path: _size(path) for path in (*damaged, *folder.glob(".*.part"))}
        if not dry_run:
            sweep(folder)
            for path in damaged:
                remove(path)
        size += sum(size for path, size in sizes.items() if dry_run or not path.exists())
    return size


def _remove_damaged(root: UrlPlace, removed: Collection[Path | UrlPlace], dry_run: bool) -> int:
    """Remove the damaged shards in the folders at a URL, but for `removed`; return the bytes."""
    size = 0
    for folder in remote_files.list_folders(root):
        if folder in removed:
            continue
        for file in remote_files.list_files(folder):
            if Path(file.name).match(DAMAGED):
                size += file.size
                if not dry_run:
                    remote_files.remove(folder / file.name)
    return size


def _remove_remote(folder: UrlPlace) -> None:
    """Remove the files of an entry at a URL, and the copies of them."""
    for file in remote_files.list_files(folder):
        remote_files.remove(folder / file.name)
    remove(folder.copy)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of the files in a folder; 0 if it was removed."""
    size = 0
    for file in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            size += file.lstat().st_size if not file.is_dir() else 0
    return size


def _remove_entry(folder: Path) -> None:
    """Remove the folder of an entry, whose lock is held; a process that waits for it begins anew.

    If this process is killed, the shards that are left can be used.
    """
    for path in folder.iterdir():
        if path.name != ABOUT:
            remove(path)
    remove(folder / ABOUT)
    with suppress(OSError):  # another process has begun
        folder.rmdir()


def _entry(folder: Path) -> Entry:
    stats = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process removed it
            stats[path] = path.stat()
    about = folder / ABOUT
    times = {path: stat.st_mtime for path, stat in stats.items()}
    return Entry(
        folder,
        _describe(about),
        shards=sum(path.match(SHARDS) or path.match(PARTS) for path in stats),
        damaged=sum(path.match(DAMAGED) for path in stats),
        size_bytes=sum(stat.st_size for stat in stats.values()),
        used_at=times.get(about, max(times.values(), default=0.0)),
    )


def _remote_entry(folder: UrlPlace) -> Entry:
    listed = remote_files.list_files(folder)
    times = {file.name: file.written_at for file in listed}
    return Entry(
        folder,
        _describe(remote_files.copy(folder / ABOUT) if ABOUT in times else folder.copy / ABOUT),
        shards=sum(Path(file.name).match(SHARDS) for file in listed),
        damaged=sum(Path(file.name).match(DAMAGED) for file in listed),
        size_bytes=sum(file.size for file in listed),
        used_at=times.get(ABOUT, max(times.values(), default=0.0)),
    )


def _describe(path: Path) -> str:
    """Return in words what the shards beside the file `path` are of."""
    if not path.exists():
        return "not known: of an earlier version"
    try:
        about = read(read_json(path, _REMEDY), str(path), ABOUT_VERSION, _REMEDY)
        if place := about.text_or_none("photos_of"):
            return f"digests of the photos in {place}"
        backbone = about.text_or_none("backbone")
        if not backbone:
            return "small pictures, or figures, of photos"
        spec, cut = about.object("input"), about.text("cut")
        parts = [
            f"{backbone} {spec.integer('width')}x{spec.integer('height')}",
            about.text("precision"),
            "bottlenecks" if cut == BOTTLENECK else f"feature maps at {cut}",
        ]
        distortion = about.object_or_none("distortion")
        if distortion:
            settings = (
                f"{name} {distortion.values[name]}"
                for name in distortion.values
                if distortion.values[name]
            )
            parts.append(f"distorted views ({', '.join(settings)})")
    except BadData as error:
        return f"not known: {error}"
    return ", ".join(parts)


@contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    """Yield whether no process uses the shards beside the file `path`; none can begin meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # shards of an earlier version, which locks nothing
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield is_open_at(descriptor, path)  # or another process removed it, and it is new
    finally:
        os.close(descriptor)
