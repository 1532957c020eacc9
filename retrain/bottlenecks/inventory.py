"""List what a cache holds, check it, and remove what is old and not in use."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from deploy.errors import BadData, WrongUse
from deploy.system.temporary_files import sweep
from deploy.untrusted_files import read_json
from deploy.versioned_json import read
from retrain.bottlenecks.cache import ABOUT, ABOUT_VERSION, DAMAGED, SHARDS, read_shard
from retrain.frozen_graph import BOTTLENECK

_REMEDY = "delete it: it is written anew"


@dataclass(frozen=True)
class Entry:
    """The shards of one fingerprint, or a folder of other files (`shards` is None).

    `text` says what it is of. `used_at` is the time of the last use, in seconds since 1970.
    `damaged` are the shards that were set aside.
    """

    folder: Path
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
class Removal:
    """The entries that were removed, those in use that were not, and the bytes of leftovers."""

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]
    leftover_bytes: int

    @property
    def size_bytes(self) -> int:
        """The bytes that were freed."""
        return self.leftover_bytes + sum(entry.size_bytes for entry in self.removed)


def list_shards(*roots: Path) -> list[Entry]:
    """Return the caches directly in `roots`, those of the latest use first."""
    folders = (path for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir())
    entries = [
        _entry(folder)
        for folder in folders
        if (folder / ABOUT).exists() or any(chain(folder.glob(SHARDS), folder.glob(DAMAGED)))
    ]
    return sorted(entries, key=lambda entry: (-entry.used_at, entry.folder))


def list_others(cache_dir: Path) -> list[Entry]:
    """Return what else a cache folder holds."""
    texts = {
        "backbones": "prepared backbones and trunks",
        "engines": "measured speeds of runtimes",
        "downloads": "sample data sets",
    }
    entries = []
    for name, text in texts.items():
        paths = [path for path in (cache_dir / name).rglob("*") if path.is_file()]
        if paths:
            used_at = max(path.stat().st_mtime for path in paths)
            size = sum(path.stat().st_size for path in paths)
            entries.append(Entry(cache_dir / name, text, None, 0, size, used_at))
    return entries


def choose(entries: Iterable[Entry], name: str) -> Entry:
    """Return the one of `entries` whose fingerprint begins with `name`; raise WrongUse."""
    matching = [entry for entry in entries if entry.folder.name.startswith(name)]
    if len(matching) != 1:
        problem = "is the beginning of several" if matching else "is the beginning of no"
        raise WrongUse(f"{name!r} {problem} fingerprint: `retrain cache ls` lists them")
    return matching[0]


def find_damage(entry: Entry) -> Iterator[tuple[Path, str]]:
    """Yield each shard of an entry whose bytes are not those of its name, and the reason."""
    for path in sorted(entry.folder.glob(SHARDS)):
        _, problem = read_shard(path)
        if problem and path.exists():
            yield path, problem


def remove_old(
    entries: Iterable[Entry],
    max_age_days: float | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> Removal:
    """Remove what killed processes left, and the entries of the longest disuse.

    These are the ones not used for `max_age_days`, and as many more as make all entries together
    smaller than `max_bytes`. An entry that a running process uses stays. With `dry_run` nothing is
    removed.
    """
    oldest_first = sorted(entries, key=lambda entry: entry.used_at)
    total = sum(entry.size_bytes for entry in oldest_first)
    removed, in_use, leftovers = [], [], 0
    for entry in oldest_first:
        is_old = max_age_days is not None and entry.age_days > max_age_days
        is_too_much = max_bytes is not None and total > max_bytes
        if not (is_old or is_too_much):
            leftovers += _remove_leftovers(entry.folder, dry_run)
            continue
        with _exclusive(entry.folder / ABOUT) as is_free:
            if not is_free:
                in_use.append(entry)
                continue
            if not dry_run:
                shutil.rmtree(entry.folder)
        removed.append(entry)
        total -= entry.size_bytes
    return Removal(tuple(removed), tuple(in_use), leftovers)


def _entry(folder: Path) -> Entry:
    paths = [path for path in folder.iterdir() if path.is_file()]
    stats = []
    for path in paths:
        with suppress(FileNotFoundError):  # another process removed it
            stats.append(path.stat())
    about = folder / ABOUT
    used_at = about.stat().st_mtime if about.exists() else max(stat.st_mtime for stat in stats)
    return Entry(
        folder,
        _describe(about),
        shards=sum(path.match(SHARDS) for path in paths),
        damaged=sum(path.match(DAMAGED) for path in paths),
        size_bytes=sum(stat.st_size for stat in stats),
        used_at=used_at,
    )


def _describe(path: Path) -> str:
    """Return in words what the shards beside the file `path` are of."""
    if not path.exists():
        return "not known: of an earlier version"
    try:
        about = read(read_json(path, _REMEDY), str(path), ABOUT_VERSION, _REMEDY)
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
        yield True
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path, dry_run: bool) -> int:
    """Remove damaged shards, and what killed processes left unfinished; return the bytes."""
    paths = [path for pattern in (DAMAGED, ".*.part") for path in folder.glob(pattern)]
    sizes = {path: path.stat().st_size for path in paths}
    if not dry_run:
        sweep(folder)
        for path in folder.glob(DAMAGED):
            path.unlink(missing_ok=True)
    return sum(size for path, size in sizes.items() if dry_run or not path.exists())
