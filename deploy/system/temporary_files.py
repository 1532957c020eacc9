"""Temporary files that a killed process leaves behind, and their removal by a later one.

Whoever makes one keeps it locked for as long as it lives; the system lets go of the lock when the
process ends, however it ends. What carries our name and is not locked is what a dead one left.
"""

import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

_PREFIX = "retrain-"
_IN_USE, _FILES = "in-use", "files"
"""In a temporary folder: the file that is locked while it is in use, and the folder to use."""
_NAME = re.compile(r"\..+\.(?:([0-9a-f]{12})-)?[0-9a-f]{32}\.part", re.DOTALL)
_PATIENCE_S = 86_400.0
"""Age of what may be removed although its maker's lock may not reach this machine."""


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Make an empty file beside `path`, locked for the block; remove it if it is still there.

    Raises OSError that names `path`.
    """
    while True:
        part = path.with_name(f".{path.name}.{_machine()}-{uuid4().hex}.part")
        try:
            lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            error.filename = str(path)
            raise
        if fcntl is None:
            os.close(lock)
            break
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if part.exists():
            break
        os.close(lock)  # another process removed it just before it was locked
    try:
        yield part
    finally:
        with suppress(OSError):  # the first error is the one to hear of
            part.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(lock)


def sweep(*folders: Path) -> None:
    """Remove the unfinished files that dead processes left directly in `folders`."""
    for folder in folders:
        for part in folder.glob(".*.part"):
            with suppress(OSError), _dead(part) as dead:
                if dead:
                    part.unlink()


@contextmanager
def scratch(place: Path | None = None) -> Iterator[Path]:
    """Make a folder in `place`, else where the system keeps temporary files, for the block.

    Folders that dead processes left there are removed first.
    """
    place = place or Path(tempfile.gettempdir())
    for old in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_if_dead(old)
    with ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            with suppress(FileNotFoundError):  # removed before it was marked as in use
                stack.enter_context(part_of(folder / _IN_USE))
                break
        try:
            (folder / _FILES).mkdir()
            yield folder / _FILES
        finally:
            # In this order, what a process leaves that is killed meanwhile can be removed too.
            shutil.rmtree(folder / _FILES, ignore_errors=True)
            stack.close()
            with suppress(OSError):
                folder.rmdir()


def _remove_if_dead(folder: Path) -> None:
    about = folder.lstat()
    # In a place for everybody, nobody else can put another folder where one of ours is.
    if not stat.S_ISDIR(about.st_mode) or (fcntl and about.st_uid != os.geteuid()):
        return
    for mark in folder.glob(f".{_IN_USE}.*.part"):
        with _dead(mark) as dead:
            if dead:
                shutil.rmtree(folder / _FILES, ignore_errors=True)
                mark.unlink()
                folder.rmdir()


@contextmanager
def _dead(part: Path) -> Iterator[bool]:
    """Tell whether the maker of the file `part` is dead, and keep it locked for the block.

    Raises OSError where it is not.
    """
    name = _NAME.fullmatch(part.name)
    if not name or not stat.S_ISREG(part.lstat().st_mode):
        yield False
        return
    old = time.time() - part.lstat().st_mtime > _PATIENCE_S
    if fcntl is None:
        yield old
        return
    descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Of the file systems of a network, some keep locks to the machine that took them.
        yield old or name[1] == _machine()
    finally:
        os.close(descriptor)


@cache
def _machine() -> str:
    """Return a mark of this start of this machine, which containers on it share."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except (OSError, ValueError):
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:12]
