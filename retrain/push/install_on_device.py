"""Describe a device, or install a bundle there: unpack, self-test, swap by rename.

`retrain push` sends this file over ssh to the device's Python. It uses the standard library only,
and runs on Python 3.8 and later, so that an old Python is reported and not a syntax error.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import platform
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import uuid
import zlib
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

SUMS = "SHA256SUMS"
LAUNCHER_MARK = b"# by retrain push"
_MARK_DIGITS = 12
_BLOCK_BYTES = 1 << 16
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def describe(python: str, folder: str, packages: list[str]) -> dict[str, Any]:
    """Return what this device has, as JSON values.

    These are its Python (`python` is the command that runs it), the versions of those of
    `packages` that are installed, whether `folder` can be created, and what it contains.
    """
    versions = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    parent = Path(folder).parent
    while not _is_folder(parent):
        parent = parent.parent
    return {
        "python": python,
        "python_version": sys.version_info[:3],
        "in_environment": sys.prefix != sys.base_prefix,
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "packages": versions,
        "folder": folder,
        "parent": str(parent),
        "parent_writable": os.access(parent, os.W_OK | os.X_OK),
        "contents": {path: _contents(Path(path)) for path in (folder, f"{folder}.previous")},
    }


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _contents(folder: Path) -> dict[str, Any]:
    """Return the names in `folder` and the text of its checksums; empty where it does not exist."""
    if _is_folder(folder):
        names = [path.name for path in folder.iterdir()]
    else:
        names = ["a file"] * os.path.lexists(folder)
    try:
        sums = (folder / SUMS).read_text(errors="replace")
    except OSError:
        sums = ""
    return {"names": names, "sums": sums}


def install(python: str, folder: Path, stream: BinaryIO, limit_s: int) -> dict[str, Any]:
    """Put the bundle that `stream` holds as .tar.gz into the place of `folder`.

    It is unpacked into a new folder beside, and the command `python` runs its self-test there.
    Returns JSON values: `selftest` is the record that it printed, or None; `state` is "failed"
    (nothing is changed), "previous" (the folder before is now FOLDER.previous) or "first".
    Raises SystemExit with a message if another push is under way, if the copy or the self-test does
    not end within `limit_s` seconds, or if the copy is damaged. What is interrupted before the swap
    leaves nothing; the swap is not interrupted. What a loss of power left is removed by the next
    push.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(folder.parent, limit_s)
    new = Path(f"{folder}.push-{uuid.uuid4().hex[:_MARK_DIGITS]}")
    try:
        remove_remains(folder)
        new.mkdir()
        signal.alarm(limit_s)  # a laptop that lost its network does not close the connection
        unpack(stream, new)
        signal.alarm(0)
        os.sync()
        passed, record = _self_test(python, new, limit_s)
        if not passed:
            return {"state": "failed", "selftest": record}
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        provide_environment(python, folder, new)
        return {"state": swap(new, folder), "selftest": record}
    finally:
        shutil.rmtree(new, ignore_errors=True)
        os.close(lock)


def lock_folder(folder: Path, limit_s: int) -> int:
    """Lock `folder` against other pushes, and return the descriptor that holds the lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SystemExit(
            f"another push is under way there: wait, {2 * limit_s // 60} minutes at most"
        ) from None
    except OSError:
        pass  # some network file systems have no locks
    return descriptor


def remove_remains(folder: Path) -> None:
    """Remove the folders beside `folder` that pushes to it left when power was lost."""
    name = re.escape(folder.name)
    remains = re.compile(rf"{name}\.push-[0-9a-f]{{{_MARK_DIGITS}}}(\.old)?")
    for path in list(folder.parent.iterdir()):
        if remains.fullmatch(path.name):
            shutil.rmtree(path)


def unpack(stream: BinaryIO, folder: Path) -> None:
    """Write the files of a .tar.gz with one folder in it into `folder`.

    Raises SystemExit where the archive is cut off, damaged, or holds anything but files.
    """
    try:
        with gzip.GzipFile(fileobj=stream) as content:
            with tarfile.open(fileobj=content, mode="r|") as archive:
                for member in archive:
                    _write_member(archive, member, folder)
            while content.read(_BLOCK_BYTES):  # the checksum is at the end
                pass
    except (EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile) as error:
        raise SystemExit(f"the copy was cut off or damaged: {error}") from None


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = member.name.partition("/")[2]
    source = archive.extractfile(member) if member.isfile() else None
    if source is None or name in ("", ".", "..") or "/" in name:
        raise tarfile.TarError(f"{member.name} is not a file of a bundle")
    path = folder / name
    with os.fdopen(os.open(path, _NEW_FILE, member.mode), "wb") as target:
        shutil.copyfileobj(source, target)
    os.utime(path, (member.mtime, member.mtime))


def _self_test(python: str, folder: Path, limit_s: int) -> tuple[bool, dict[str, Any] | None]:
    """Return whether the bundle in `folder` passed its self-test, and the record of it."""
    command = [python, "classify.pyz", "selftest", "model.tflite", "--json"]
    try:
        process = subprocess.run(  # noqa: S603 (the bundle's own program)
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"the self-test did not end within {limit_s} s") from None
    try:
        record = json.loads(process.stdout)
    except ValueError:
        return False, None
    return process.returncode == 0, record


def provide_environment(python: str, folder: Path, new: Path) -> None:
    """Give the bundle in `new` an env/bin/python that runs the command `python`.

    An environment in `folder` becomes FOLDER.env, which all versions link to. With a Python of
    another place, env/bin/python is a small program that starts this Python.
    """
    env, shared = folder / "env", Path(f"{folder}.env")
    if env.is_dir() and not env.is_symlink() and not shared.exists() and not _has_launcher(env):
        env.rename(shared)
        env.symlink_to(shared)
    if {env, shared}.intersection(Path(python).parents) and (shared / "bin" / "python").exists():
        (new / "env").symlink_to(shared)
        return
    launcher = new / "env" / "bin" / "python"
    launcher.parent.mkdir(parents=True)
    start = f'exec {shlex.quote(sys.executable)} "$@"'
    launcher.write_bytes(b"#!/bin/sh\n" + LAUNCHER_MARK + b"\n" + os.fsencode(start) + b"\n")
    launcher.chmod(0o755)


def _has_launcher(env: Path) -> bool:
    try:
        return LAUNCHER_MARK in (env / "bin" / "python").read_bytes().split(b"\n")
    except OSError:
        return False


def swap(new: Path, folder: Path) -> str:
    """Rename `folder` to FOLDER.previous and `new` to `folder`; return "previous" or "first".

    The FOLDER.previous before is removed. If a rename fails, all folders have their names back,
    and the OSError is raised.
    """
    previous, old = Path(f"{folder}.previous"), Path(f"{new}.old")
    with suppress(OSError):
        folder.rmdir()  # an empty folder is not kept
    if not folder.exists():
        new.rename(folder)
        return "first"
    if previous.exists():
        previous.rename(old)
    try:
        folder.rename(previous)
        new.rename(folder)
    except OSError:
        if not folder.exists():
            previous.rename(folder)
        if old.exists():
            old.rename(previous)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return "previous"


def _stop(number: int, _: object) -> NoReturn:
    """Exit, so that `install` removes what it has begun."""
    raise SystemExit("the copy takes too long" if number == signal.SIGALRM else 1)


def main(action: str, python: str, folder: str, *arguments: str) -> None:
    """Run `describe` or `install`, and print what it returns as one line of JSON."""
    if action == "describe":
        result = describe(python, folder, list(arguments))
    else:
        for number in (*_STOPPING, signal.SIGALRM):
            signal.signal(number, _stop)
        try:
            result = install(python, Path(folder), sys.stdin.buffer, int(arguments[0]))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise SystemExit(f"{where}{error.strerror or error}") from None
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
