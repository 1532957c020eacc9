"""Errors of the operating system: what was done, to which path, and the remedy."""

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from deploy import files
from deploy.cli import ending
from deploy.errors import BadData
from deploy.system.error_messages import explain
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.cli import commands
from retrain.isolated import run_isolated
from retrain.run_folder import RunFolder


def caught(action: Callable[[], object]) -> str:
    with pytest.raises(OSError) as error:  # noqa: PT011 (any)
        action()
    return explain(error.value)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("number", "action", "remedy"),
    [
        (errno.ENOSPC, "write", "free some space there"),
        (errno.EDQUOT, "write", "free some space there"),
        (errno.EROFS, "write", "name a place on another one"),
        (errno.ETXTBSY, "write", "end it"),
        (errno.EFBIG, "write", "ulimit -f"),
        (errno.EACCES, "read", "change its permissions"),
        (errno.ENOLCK, "lock", "name a folder on a local disk"),
        (errno.EMFILE, "read", "ulimit -n"),
        (errno.ENAMETOOLONG, "read", "choose a shorter name"),
        (errno.EIO, "read", "check it"),
        (errno.ENOTDIR, "read", "is a file where a folder is needed"),
        (errno.ELOOP, "read", "remove one of them"),
        (errno.ESTALE, "read", "mount it again"),
        (errno.ENOENT, "read", "check the name"),
    ],
)
def test_each_error_has_its_action_and_remedy(number: int, action: str, remedy: str) -> None:
    reason = os.strerror(number)
    text = explain(OSError(number, reason, "/x/y"))
    assert text.startswith(f"cannot {action} /x/y: {reason}: ")
    assert remedy in text


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 64 kB."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)  # noqa: S607


def test_a_full_disk_names_the_file_and_leaves_nothing(full: Path) -> None:
    path = full / "run" / "model.tflite"
    assert caught(lambda: files.write(path, bytes(200_000))) == (
        f"cannot write {path}: No space left on device: free some space there, or name a place on "
        "another disk"
    )
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_under_temporary_values_names_its_folder(full: Path) -> None:
    matrix = FeatureStore(1000, full)
    text = caught(lambda: matrix.append(np.zeros((100, 1000))))
    assert text.startswith(f"cannot write a temporary file in {full}: No space left on device: ")


def test_a_full_temporary_folder_names_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/t")
    text = explain(OSError(errno.ENOSPC, "No space left on device", "/t/retrain-1/graph.pb"))
    assert text.endswith(": free some space there, or set TMPDIR to a folder that can be written")


def test_an_error_that_fsync_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fsync)
    assert f"cannot write {tmp_path / 'x'}: " in caught(lambda: files.write(tmp_path / "x", "1"))


def test_a_name_too_long_is_the_users_not_that_of_the_part(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 256)
    assert caught(lambda: files.write(path, "")).startswith(f"cannot write {path}: File name too")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "run"
    result = run("train", tmp_path / "photos", "--output-dir", path)
    assert result.exit_code == 3
    assert f"Error: cannot make the folder {path}: Not a directory: " in result.stderr


def test_an_error_while_reading_names_the_file() -> None:
    path = Path("/proc/self/mem")  # its first page cannot be read
    if not path.exists():
        pytest.skip("no /proc")
    assert "cannot read /proc/self/mem: Input/output error: " in run("inspect", path).stderr


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)

    def write() -> None:
        with RunFolder(tmp_path).writing():
            pytest.fail("it is not locked")

    assert caught(write) == (
        f"cannot lock {tmp_path / '.lock'}: No locks available: this file system gives no locks: "
        "name a folder on a local disk"
    )


def test_a_lock_that_cannot_be_made_has_the_name_that_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def write() -> None:
        with RunFolder(Path("run")).writing():
            pytest.fail("it is not locked")

    assert caught(write) == "cannot lock run/.lock: Is a directory: name a file"


def test_no_temporary_folder_names_tmpdir() -> None:
    reason = "No usable temporary directory found in ['/tmp', '/var/tmp']"
    text = explain(FileNotFoundError(errno.ENOENT, reason))
    assert text == (
        f"{reason}: free some space there, or set TMPDIR to a folder that can be written"
    )


def write_below_a_file(path: Path) -> None:
    files.write(path, "")


def test_an_error_of_a_child_process_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadData, match=r"^cannot make the folder .*/file/x: Not a directory: a par"):
        run_isolated("the child", 60, write_below_a_file, tmp_path / "file" / "x" / "y")


def test_links_in_a_circle_are_no_bug(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    result = run("train", tmp_path / "a", "--output-dir", tmp_path / "a")
    assert result.exit_code == 3, result.output
    assert str(tmp_path) in result.stderr
    assert "a bug" not in result.stderr


@pytest.mark.parametrize("command", ["train", "convert", "bench", "label", "summary", "bundle"])
def test_a_working_directory_that_was_deleted_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = run(command)
    assert result.exit_code == 2
    assert "the working directory cannot be used (No such file or directory)" in result.stderr
    assert "cd into another folder" in result.stderr


def test_an_error_without_a_path_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise TimeoutError

    with pytest.raises(SystemExit):
        ending(fail)
    assert capsys.readouterr().err == "Error: the system refused: TimeoutError\n"
