"""A full disk: one clear line, nothing half-written, and the same command ends once there is room.

The network is tiny, so that every file is a few kilobytes and the disk can end at any of them.
"""

import resource
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result

from tests.helpers.classic_graphs import quantized_hub, save, tiny
from tests.helpers.deploy_fixtures import write_colour_run
from tests.helpers.runs import FEW_CALIBRATION_IMAGES, STEPS, Invoke
from tests.helpers.small_disk import read_only, resize, small_disk

ENOUGH_KB = 20_000
SMALLEST_KB = 4
"""A page: a disk of no bytes would be unlimited."""
TRIES = 6
"""Sizes of a disk, spread evenly over what the command writes."""


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with photos, a run of a tiny network, and that network as the user's own."""
    root = tmp_path_factory.mktemp("colours")
    write_colour_run(root)
    save(tiny(quantized_hub), root / "own.pb")
    return root


def used_kb(folder: Path) -> int:
    """Return the kilobytes of the files in `folder`, in pages."""
    pages = (-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())
    return 4 * sum(pages)


def refused(result: Result, *places: Path) -> None:
    """Check that a command ended with one line, which names one of `places` and the remedy."""
    assert result.exit_code == 3, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert result.stderr.splitlines()[-1] == line
    assert line.startswith("Error: cannot write ")
    assert any(str(place) in line for place in places), line
    assert "No space left on device: free some space there, or " in line
    assert "Errno" not in result.stderr


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".part", ".damaged")]


def sizes(needed_kb: int) -> list[int]:
    """Return sizes of a disk that are too small, in kilobytes."""
    return sorted({max(SMALLEST_KB, needed_kb * i // TRIES) for i in range(TRIES)})


def fails_until_there_is_room(
    invoke: Invoke, disk: Path, needed_kb: int, command: Sequence[object], places: Sequence[Path]
) -> None:
    """Run `command` on ever larger disks that are too small, each empty; then on one with room."""
    failures = 0
    for kb in sizes(needed_kb):
        with small_disk(disk / str(kb), kb) as folder:
            words = [str(word).replace(str(disk), str(folder)) for word in command]
            result = invoke(*words)
            if result.exit_code:
                failures += 1
                refused(result, folder, *places)
            assert leftovers(folder) == []
            resize(folder, ENOUGH_KB)
            assert invoke("cache", "verify", "--cache-dir", folder).exit_code == 0
            result = invoke(*words)
            assert result.exit_code == 0, result.output
            assert leftovers(folder) == []
    assert failures > TRIES // 2


def size_of_output(invoke: Invoke, folder: Path, command: Sequence[object]) -> int:
    """Return the kilobytes that `command` writes into `folder`, which is removed again."""
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    needed = used_kb(folder)
    shutil.rmtree(folder)
    return needed


def test_extracting_into_a_full_cache(colours: Path, tmp_path: Path, invoke: Invoke) -> None:
    cache = tmp_path / "disk"
    command = (
        "bottlenecks",
        colours / "photos",
        "--graph",
        colours / "own.pb",
        "--cache-dir",
        cache,
    )
    fails_until_there_is_room(invoke, cache, size_of_output(invoke, cache, command), command, ())


def test_training_into_a_full_folder(colours: Path, tmp_path: Path, invoke: Invoke) -> None:
    run = tmp_path / "disk"
    options = ("--cache-dir", tmp_path / "cache", "--how-many-training-steps", STEPS)
    command = (
        "train",
        colours / "photos",
        "--graph",
        colours / "own.pb",
        *options,
        "--output-dir",
        run,
    )
    fails_until_there_is_room(invoke, run, size_of_output(invoke, run, command), command, ())


def test_converting_into_a_full_folder(colours: Path, tmp_path: Path, invoke: Invoke) -> None:
    command = ("convert", "--output-dir", tmp_path / "run", *FEW_CALIBRATION_IMAGES)
    shutil.copytree(colours / "run", tmp_path / "run")
    before = used_kb(tmp_path / "run")
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    written = used_kb(tmp_path / "run") - before
    failures = 0
    for kb in (0, written // 3, written * 2 // 3, written - 4):
        with small_disk(tmp_path / str(kb), ENOUGH_KB) as disk:
            run = shutil.copytree(colours / "run", disk / "run")
            filler = disk / "filler"
            filler.write_bytes(bytes(1024 * (shutil.disk_usage(disk).free // 1024 - kb)))
            words = [run if word == tmp_path / "run" else word for word in command]
            result = invoke(*words)
            if result.exit_code:
                failures += 1
                refused(result, run)
            assert leftovers(run) == []
            filler.unlink()
            result = invoke(*words)
            assert result.exit_code == 0, result.output
            assert leftovers(run) == []
    assert failures >= 3


@pytest.mark.parametrize("command", ["bottlenecks", "train", "convert"])
def test_a_full_folder_for_temporary_files(
    command: str,
    colours: Path,
    tmp_path: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the cache can only be read, its rows go there; TensorFlow's files always do."""
    run = shutil.copytree(colours / "run", tmp_path / "run")
    cache = tmp_path / "cache"
    source = (colours / "photos", "--graph", colours / "own.pb", "--cache-dir", cache)
    assert invoke("bottlenecks", *source).exit_code == 0
    words = {
        "bottlenecks": source,
        "train": (*source, "--output-dir", run, "--how-many-training-steps", STEPS),
        "convert": ("--output-dir", run, *FEW_CALIBRATION_IMAGES),
    }[command]
    with read_only(cache), small_disk(tmp_path / "temporary", SMALLEST_KB) as temporary:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        (temporary / "filler").write_bytes(bytes(1024 * SMALLEST_KB))
        result = invoke(command, *words)
        refused(result, temporary)
        assert "set TMPDIR" in result.stderr
        assert [path.name for path in temporary.iterdir()] == ["filler"]
        resize(temporary, ENOUGH_KB)
        result = invoke(command, *words)
        assert result.exit_code == 0, result.output
    assert leftovers(tmp_path) == []


def test_a_report_on_a_full_disk(colours: Path, tmp_path: Path, invoke: Invoke) -> None:
    with small_disk(tmp_path / "disk", ENOUGH_KB) as disk:
        run, cache = disk / "run", ("--cache-dir", tmp_path / "cache")
        source = (colours / "photos", "--graph", colours / "own.pb", *cache)
        steps = ("--output-dir", run, "--how-many-training-steps", STEPS)
        assert invoke("train", *source, *steps).exit_code == 0
        assert invoke("report", "--output-dir", run).exit_code == 0
        (run / "report.html").unlink()
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 8192))
        refused(invoke("report", "--output-dir", run), run)
        filler.unlink()
        assert invoke("report", "--output-dir", run).exit_code == 0
        assert leftovers(disk) == []


def test_a_limit_on_the_size_of_files(colours: Path, tmp_path: Path, invoke: Invoke) -> None:
    source = (colours / "photos", "--graph", colours / "own.pb", "--cache-dir", tmp_path / "cache")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, old[1]))
    try:
        result = invoke("bottlenecks", *source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert result.exit_code == 3, result.output
    (line,) = [line for line in result.stderr.splitlines() if "Error" in line]
    assert line.startswith(f"Error: cannot write {tmp_path / 'cache'}")
    assert "File too large: name a place that takes larger files, or raise the limit" in line
    assert leftovers(tmp_path) == []
    assert invoke("bottlenecks", *source).exit_code == 0
