"""Mount disks that are small, or can only be read."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _run(*words: object) -> bool:
    command = [str(word) for word in words]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path, kb: int) -> Iterator[Path]:
    """Mount an empty disk of `kb` kilobytes at the new `folder`; skip the test if that fails."""
    folder.mkdir(parents=True)
    if not _run("mount", "-t", "tmpfs", "-o", f"size={kb}k", "tmpfs", folder):
        pytest.skip("only root mounts a disk")
    try:
        yield folder
    finally:
        _run("umount", "-l", folder)


def resize(disk: Path, kb: int) -> None:
    """Give a mounted disk another size in kilobytes."""
    assert _run("mount", "-o", f"remount,size={kb}k", disk)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Make `folder` a disk that can only be read, for root too; skip the test if that fails."""
    if not _run("mount", "--bind", folder, folder):
        pytest.skip("only root mounts a disk")
    try:
        assert _run("mount", "-o", "remount,bind,ro", folder)
        yield folder
    finally:
        _run("umount", "-l", folder)
