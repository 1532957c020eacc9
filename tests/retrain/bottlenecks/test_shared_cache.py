"""One cache for several processes: at once, read-only, and while `gc` clears it."""

import fcntl
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from deploy.system.temporary_files import part_of
from retrain.bottlenecks.cache import Cache
from retrain.bottlenecks.cached_rows import Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.inventory import list_shards, remove_old
from tests.helpers.caches import BottleneckFolder, digests
from tests.helpers.runs import STEPS
from tests.helpers.small_disk import read_only

NOBODY = 65534
WIDTH = 8
PATIENCE_S = 60


@contextmanager
def started(folder: BottleneckFolder, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `retrain` with these words and the places of `folder` in a process of its own."""
    command = [sys.executable, "-m", "retrain", *map(str, (*words, *folder.options))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_processes_fill_one_cache(original: BottleneckFolder, tmp_path: Path) -> None:
    folder = original.empty(tmp_path)
    fill = ("bottlenecks", folder.photos)
    with started(folder, *fill) as first, started(folder, *fill) as second:
        for process in (first, second):
            _, errors = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, errors.decode()
    assert folder.content() == original.content()
    counts = Counter(digests(*folder.shards))
    assert counts.keys() == {*digests(*original.shards)}
    assert max(counts.values()) <= 2
    assert folder.damaged() == {}
    assert not list(folder.place.rglob("*.part"))


def refused(folder: BottleneckFolder, reason: str, *words: object) -> None:
    """Check that a command ends with one line, which names a place in the cache and `reason`."""
    gc.collect()  # earlier commands in this process use the cache no longer
    result = folder.invoke(*words, *folder.options)
    assert result.exit_code == 3, result.output
    (line,) = [line for line in result.stderr.splitlines() if "Error" in line]
    assert str(folder.place) in line
    assert reason in line


def read_all(folder: BottleneckFolder, tmp_path: Path) -> None:
    """Check that all commands work that only read."""
    assert folder.damaged() == {}
    assert len(folder.cache("ls")["entries"]) >= 1
    folder.cache("export", folder.fingerprint.name, tmp_path / "rows.npy")
    assert folder.fill()["analysed"] == 0
    steps = ("--output-dir", tmp_path / "run", "--how-many-training-steps", STEPS)
    result = folder.invoke("train", folder.photos, *folder.options, *steps)
    assert result.exit_code == 0, result.output


def use_read_only(folder: BottleneckFolder, tmp_path: Path, reason: str) -> None:
    """Check that all commands work that only read, and that the others say `reason`."""
    content = folder.content()
    read_all(folder, tmp_path)
    refused(folder, reason, "bottlenecks", tmp_path / "photos")
    refused(folder, reason, "cache", "gc", "--max-size", 0)
    assert folder.content() == content


@pytest.fixture
def more_photos(photos: Path, tmp_path: Path) -> None:
    """Make `photos` in `tmp_path`, with one that no cache holds."""
    shutil.copytree(photos, tmp_path / "photos")
    path = next((tmp_path / "photos" / "circles").glob("*.jpg"))
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.usefixtures("more_photos")
def test_a_disk_that_can_only_be_read(folder: BottleneckFolder, tmp_path: Path) -> None:
    with read_only(folder.place):
        use_read_only(folder, tmp_path, "Read-only file system: this disk can only be read: name")


@pytest.mark.usefixtures("more_photos")
def test_the_cache_of_another_user(folder: BottleneckFolder, tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root becomes another user")
    with tempfile.TemporaryDirectory() as temporary:
        place, mine = Path(temporary), Path(temporary, "mine")
        place.chmod(0o755)
        shutil.copytree(folder.cache_dir / "backbones", place / "cache" / "backbones")
        for name in ("photos", "bottlenecks"):
            shutil.copytree(tmp_path / name, place / name)
        shutil.copytree(folder.photos, place / "known")
        mine.mkdir()
        (mine / "photos").symlink_to(place / "photos")
        mine.chmod(0o777)
        theirs = BottleneckFolder(
            folder.invoke, place / "known", place / "cache", place / "bottlenecks"
        )
        # Python's own modules are loaded now: another user may not read them.
        read_all(folder, tmp_path)
        folder.invoke("bottlenecks", tmp_path / "photos", *folder.options)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            use_read_only(theirs, mine, "Permission denied: change its permissions or its owner")
        finally:
            os.setresuid(0, 0, 0)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_gc_leaves_what_a_living_process_uses(folder: BottleneckFolder, tmp_path: Path) -> None:
    before = folder.content()
    run = tmp_path / "run"
    steps = ("--how-many-training-steps", 10_000_000, "--no-report")
    with started(folder, "train", folder.photos, "--output-dir", run, *steps) as process:
        end = time.monotonic() + PATIENCE_S
        while not list(run.glob("summaries/*/train")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        fingerprint = str(folder.fingerprint)
        for words in (("--max-size", 0), ("--older-than", 0), ()):
            removal = folder.cache("gc", *words)
            assert fingerprint not in [entry["folder"] for entry in removal["removed"]]
            in_use = [entry["folder"] for entry in removal["in_use"]]
            assert in_use.count(fingerprint) == bool(words)
        assert folder.content() == before
        assert process.poll() is None
    removal = folder.cache("gc", "--max-size", 0)
    assert fingerprint in [entry["folder"] for entry in removal["removed"]]
    assert list(folder.place.iterdir()) == []


def new_rows(count: int) -> list[Row]:
    random = np.random.default_rng()
    values = random.normal(size=(count, WIDTH)).astype(np.float16)
    return [Row(random.bytes(32), 0, None, row) for row in values]


def is_in_use(root: Path) -> bool:
    removal = remove_old(list_shards(root), max_bytes=0)
    assert len(removal.removed) + len(removal.in_use) == 1
    return len(removal.in_use) == 1


def test_the_lock_of_a_process_that_was_first_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = [Cache(tmp_path / "cache", WIDTH, {}) for _ in range(2)]

    @contextmanager
    def be_overtaken(path: Path) -> Iterator[Path]:
        monkeypatch.undo()
        caches[0].add(new_rows(2))
        with part_of(path) as temporary:
            yield temporary

    monkeypatch.setattr("retrain.bottlenecks.cache.part_of", be_overtaken)
    caches[1].add(new_rows(2))
    caches.pop()
    assert is_in_use(tmp_path)
    caches.clear()
    assert not is_in_use(tmp_path)


def test_a_process_that_waits_for_gc_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cache(tmp_path / "cache", WIDTH, {}).add(new_rows(2))
    lock, rows = fcntl.flock, new_rows(2)

    def clear_first(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        assert not is_in_use(tmp_path)
        lock(descriptor, operation)

    cache = Cache(tmp_path / "cache", WIDTH, {})
    monkeypatch.setattr(fcntl, "flock", clear_first)
    cache.add(rows)
    assert is_in_use(tmp_path)
    (shard,) = cache.folder.glob("shard-*")
    assert digests(shard) == [row.digest for row in rows]


def test_gc_takes_no_row_from_those_who_write_and_read(tmp_path: Path) -> None:
    is_over = threading.Event()

    def clear() -> int:
        removed = 0
        while not is_over.is_set():
            removed += len(remove_old(list_shards(tmp_path), max_bytes=0).removed)
        return removed

    def use(rounds: int) -> None:
        for _ in range(rounds):
            cache, store, rows = (
                Cache(tmp_path / "cache", WIDTH, {}),
                FeatureStore(WIDTH),
                new_rows(4),
            )
            cache.add(rows[:2])
            cache.add(rows[2:])
            keys = np.frombuffer(b"".join(row.digest for row in rows), np.uint8).reshape(-1, 32)
            cached = cache.load(keys, range(1), store)
            assert cached.damaged == []
            assert len(cached.missing()) == 0

    with ThreadPoolExecutor() as pool:
        clearing = [pool.submit(clear) for _ in range(2)]
        using = [pool.submit(use, 5) for _ in range(4)]
        try:
            for user in using:
                user.result(PATIENCE_S)
        finally:
            is_over.set()
        removed = sum(clearer.result(PATIENCE_S) for clearer in clearing)
    print(f"{removed} removed by the way")
