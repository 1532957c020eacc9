"""Create temporary files and folders, and remove those that killed processes left behind.

A process locks each one that it creates. The system releases the lock when the process ends, in
whatever way, so a file with our name and without a lock belongs to a dead process.
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
"""Names in a temporary folder: the file that is locked, and the folder to use."""
_NAME = re.compile(r"\..+\.(?:([0-9a-f]{12})-)?[0-9a-f]{32}\.part", re.DOTALL)
_MAX_NAME_BYTES = 200
"""Disks take 255; what comes before and after a name takes 52."""
_MAX_AGE_S = 86_400.0
"""Older ones are removed even if a lock of another machine would not be visible here."""


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Yield a new empty file beside `path`, locked; remove it after the block if it still exists.

    Raises OSError that names `path`.
    """
    name = path.name
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = os.fsencode(name)[:_MAX_NAME_BYTES].decode(errors="ignore")
    while True:
        temporary = path.with_name(f".{name}.{_machine()}-{uuid4().hex}.part")
        try:
            lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            error.filename = str(path)
            raise
        if fcntl is None:
            os.close(lock)
            break
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if temporary.exists():
            break
        os.close(lock)  # another process removed it just before it was locked
    try:
        yield temporary
    finally:
        with suppress(OSError):  # the error of the block matters more
            temporary.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(lock)


def sweep(*folders: Path) -> None:
    """Remove the temporary files that dead processes left directly in `folders`."""
    for folder in folders:
        for path in folder.glob(".*.part"):
            with suppress(OSError), _lock_if_dead(path) as is_dead:
                if is_dead:
                    path.unlink()


@contextmanager
def scratch(place: Path | None = None) -> Iterator[Path]:
    """Yield a new folder in `place`, or in the system's temporary folder; remove it afterwards.

    Folders that dead processes left in `place` are removed first.
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
            # In this order, a process that is killed here leaves a folder that can be removed.
            shutil.rmtree(folder / _FILES, ignore_errors=True)
            stack.close()
            with suppress(OSError):
                folder.rmdir()


def _remove_if_dead(folder: Path) -> None:
    about = folder.lstat()
    # In a folder that all users may write, a folder of our own cannot be replaced by another user.
    if not stat.S_ISDIR(about.st_mode) or (fcntl and about.st_uid != os.geteuid()):
        return
    for mark in folder.glob(f".{_IN_USE}.*.part"):
        with _lock_if_dead(mark) as is_dead:
            if is_dead:
                shutil.rmtree(folder / _FILES, ignore_errors=True)
                mark.unlink()
                folder.rmdir()


@contextmanager
def _lock_if_dead(path: Path) -> Iterator[bool]:
    """Yield whether the process that created the file `path` is dead; lock the file meanwhile.

    Raises OSError if another process has it locked.
    """
    name = _NAME.fullmatch(path.name)
    if not name or not stat.S_ISREG(path.lstat().st_mode):
        yield False
        return
    is_old = time.time() - path.lstat().st_mtime > _MAX_AGE_S
    if fcntl is None:
        yield is_old
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Some network file systems show a lock only to the machine that holds it.
        yield is_old or name[1] == _machine()
    finally:
        os.close(descriptor)


@cache
def _machine() -> str:
    """Return an identifier of this machine since its last start; its containers share it."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except (OSError, ValueError):
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:12]
