"""What a killed process leaves: found by a later one and removed; what a living one uses is not."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy import files
from deploy.system.temporary_files import scratch, sweep

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")

OWNER = """
import sys, time
from pathlib import Path
from deploy.files import atomic
from deploy.system.temporary_files import scratch
place = Path(sys.argv[1])
with scratch(place) as folder, atomic(place / "result.json") as stream:
    (folder / "inner").mkdir()
    (folder / "inner" / "graph.pb").write_bytes(b"half")
    stream.write(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_remains_of_a_killed_process_and_only_those_are_removed(place: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"ready\n"
        before = names(place)
        assert len(before) == 3
        sweep(place)
        with scratch(place):
            pass
        assert names(place) == before, "a living process lost its files"
        owner.kill()
    assert names(place) == before
    sweep(place)
    assert not list(place.glob(".result.json.*"))
    with scratch(place) as folder:
        assert list(place.iterdir()) == [folder.parent]
    assert list(place.iterdir()) == []


def test_files_and_folders_of_the_user_stay(place: Path) -> None:
    hexadecimal = "0123456789abcdef" * 2
    for name in (
        "retrain-training/photo.jpg", "retrain-12345678/.in-use", "retrain-notes.txt",
        "retrain-mine/.in-use.part", ".download.part", f".x.{hexadecimal[1:]}.part",
        f"x.{hexadecimal}.part", f".a.{hexadecimal}.part",
    ):  # fmt: skip
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (place / "retrain-empty").mkdir()
    (place / f".folder.{hexadecimal}.part").mkdir()
    (place / "retrain-link").symlink_to(place / "retrain-mine")
    (place / f".link.{hexadecimal}.part").symlink_to(place / "retrain-notes.txt")
    before = sorted(place.rglob("*"))
    sweep(place)
    with scratch(place):
        pass
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("mark", ["", "0123456789ab-"], ids=["an older version", "elsewhere"])
def test_parts_that_may_be_of_another_machine_are_left_for_a_day(place: Path, mark: str) -> None:
    temporary = place / f".shard.{mark}{'0' * 32}.part"
    temporary.write_bytes(b"half")
    hour_ago, week_ago = time.time() - 3600, time.time() - 7 * 86_400
    os.utime(temporary, (hour_ago, hour_ago))
    sweep(place)
    assert temporary.exists()
    os.utime(temporary, (week_ago, week_ago))
    sweep(place)
    assert not temporary.exists()


def test_a_writer_whose_file_is_swept_before_its_lock_makes_another(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    swept: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not swept and operation == fcntl.LOCK_EX:
            swept.extend(place.glob(".*.part"))
            sweep(place)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    files.write(place / "result", "whole")
    assert len(swept) == 1
    assert names(place) == ["result"]
    assert (place / "result").read_text() == "whole"
    swept.clear()
    with scratch(place) as folder:
        assert folder.is_dir()
    assert names(place) == ["result"]


def test_without_locks_files_are_written_and_young_ones_stay(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with files.atomic(place / "result") as stream, scratch(place) as folder:
        stream.write(b"whole")
        sweep(place)
        with scratch(place):
            pass
        assert folder.is_dir()
    assert names(place) == ["result"]


def test_a_folder_that_is_not_there_is_swept(place: Path) -> None:
    sweep(place / "missing")


@pytest.mark.parametrize("letter", ["x", "\N{EURO SIGN}"])
def test_the_longest_name_is_written(place: Path, letter: str) -> None:
    path = place / (letter * (255 // len(letter.encode())))
    with files.atomic(path) as stream:
        (part,) = place.glob(".*.part")
        assert len(os.fsencode(part.name)) <= 255
        stream.write(b"text")
    assert names(place) == [path.name]


def test_an_error_names_the_file_and_not_its_part(place: Path) -> None:
    with pytest.raises(OSError, match="long") as error:
        files.write(place / ("x" * 300), "text")
    assert error.value.filename == str(place / ("x" * 300))
