"""A full disk: one clear line, nothing half-written, and the same command ends once there is room.

The network is tiny, so that every file is a few kilobytes and the disk can end at any of them.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result

from tests.helpers.classic_graphs import quantized_hub, save, tiny
from tests.helpers.deploy_fixtures import write_colour_run
from tests.helpers.runs import STEPS, Invoke
from tests.helpers.small_disk import resize, small_disk

ENOUGH_KB = 20_000
SMALLEST_KB = 4
"""A page: a disk of no bytes would be unlimited."""
TRIES = 8
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
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    needed = used_kb(cache)
    shutil.rmtree(cache)
    fails_until_there_is_room(invoke, cache, needed, command, ())


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
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    needed = used_kb(run)
    shutil.rmtree(run)
    fails_until_there_is_room(invoke, run, needed, command, ())
