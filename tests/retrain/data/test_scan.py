"""A scan reads only what the last one did not, and never takes a digest that may be old."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrain.data import scan_parts, store, tar_files
from retrain.data.listed import SCHEMA
from retrain.data.photo_folder import PhotoFolder
from retrain.data.photo_list import PhotoList
from retrain.data.scan import scan, write_plan
from retrain.data.source import open_source, read_photos
from tests.helpers.photo_folders import put
from tests.helpers.photo_sources import rows_of, write_csv, write_everywhere, write_parquet
from tests.helpers.stores import BUCKET, s3_server


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the count of reads of each file, by its name."""
    counts: Counter[str] = Counter()

    def counting(read: Callable[..., Any]) -> Callable[..., Any]:
        def call(place: Path | str, *arguments: Any, **options: Any) -> Any:
            counts[str(place).rpartition("/")[2]] += 1
            return read(place, *arguments, **options)

        return call

    monkeypatch.setattr(Path, "read_bytes", counting(Path.read_bytes))
    monkeypatch.setattr(tar_files, "_open", counting(tar_files._open))
    for name in ("read", "read_start", "open_stream"):
        monkeypatch.setattr(store, name, counting(getattr(store, name)))
    return counts


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file that was just written count as one that was written long ago."""
    monkeypatch.setattr(store, "LONGEST_TICK_NS", -(10**12))


def age(path: Path, seconds: float) -> None:
    """Set the time of change, which any program may do."""
    changed = time.time() - seconds
    os.utime(path, (changed, changed))


@pytest.mark.usefixtures("settled")
def test_only_files_that_changed_are_read_again(
    root: Path, tmp_path: Path, reads: Counter[str]
) -> None:
    first = read_photos(root, None, tmp_path / "scans")
    assert {"1.png": 1, "2.png": 1}.items() <= reads.items()
    reads.clear()
    second = read_photos(root, None, tmp_path / "scans")
    assert list(second.photos) == list(first.photos)
    assert reads["1.png"] == reads["2.png"] == 0
    put(root / "cat" / "1.png", 9)
    put(root / "cat" / "3.png", 3)
    reads.clear()
    third = read_photos(root, None, tmp_path / "scans")
    assert (reads["1.png"], reads["2.png"], reads["3.png"]) == (1, 0, 1)
    assert third.sha256 == read_photos(root).sha256 != first.sha256


@pytest.mark.usefixtures("settled")
def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_read(
    root: Path, tmp_path: Path
) -> None:
    path = root / "cat" / "1.png"
    age(path, 1000)
    changed = path.stat().st_mtime_ns
    read_photos(root, None, tmp_path / "scans")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(changed, changed))
    photo = read_photos(root, None, tmp_path / "scans").photos[0]
    assert photo.digest == hashlib.sha256(content).digest()


@pytest.mark.usefixtures("settled")
def test_a_touched_file_is_read(root: Path, tmp_path: Path, reads: Counter[str]) -> None:
    read_photos(root, None, tmp_path / "scans")
    (root / "cat" / "1.png").touch()
    reads.clear()
    read_photos(root, None, tmp_path / "scans")
    assert (reads["1.png"], reads["2.png"]) == (1, 0)


def test_a_file_that_changed_a_moment_ago_is_read_again(
    root: Path, tmp_path: Path, reads: Counter[str]
) -> None:
    for _ in range(2):
        read_photos(root, None, tmp_path / "scans")
    assert (reads["1.png"], reads["2.png"]) == (2, 2)


def test_a_time_in_the_future_shows_nothing(
    root: Path, tmp_path: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LONGEST_TICK_NS", 0)
    age(root / "cat" / "1.png", -1000)
    for _ in range(2):
        time.sleep(0.05)
        read_photos(root, None, tmp_path / "scans")
    assert (reads["1.png"], reads["2.png"]) == (2, 1)


@pytest.mark.usefixtures("settled")
def test_bad_files_are_looked_at_again(root: Path, tmp_path: Path, reads: Counter[str]) -> None:
    (root / "cat" / "x.jpg").write_text("hello")
    (root / "cat" / "empty.jpg").touch()
    for _ in range(2):
        dataset = read_photos(root, None, tmp_path / "scans")
        assert len(dataset.bad) == 2
    assert (reads["x.jpg"], reads["empty.jpg"]) == (2, 2)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("name", ["csv", "tars", "memory folder", "memory csv", "memory tars"])
def test_no_source_is_read_twice(
    root: Path, tmp_path: Path, name: str, reads: Counter[str]
) -> None:
    url = f"memory://{tmp_path.name}"
    address = write_everywhere(root, tmp_path / "elsewhere", [url])[name]
    first = read_photos(address, None, tmp_path / "scans")
    lists = {"photos.csv"}
    reads.clear()
    second = read_photos(address, None, tmp_path / "scans")
    assert list(first.photos) == list(second.photos)
    assert {file for file in reads if file.startswith(("1.", "2.", "x-"))} - lists == set()


def test_the_tag_of_a_store_shows_a_change_at_once(
    root: Path, tmp_path: Path, reads: Counter[str]
) -> None:
    with s3_server():
        url = f"s3://{BUCKET}/tagged"
        address = write_everywhere(root, tmp_path / "elsewhere", [url])["s3 folder"]
        first = read_photos(address, None, tmp_path / "scans")
        reads.clear()
        assert list(read_photos(address, None, tmp_path / "scans").photos) == list(first.photos)
        assert reads["1.png"] == reads["2.png"] == 0
        content = bytearray((root / "cat" / "1.png").read_bytes())
        content[-1] ^= 1
        with fsspec.open(f"{address}/cat/1.png", "wb") as stream:
            stream.write(content)
        reads.clear()
        photo = read_photos(address, None, tmp_path / "scans").photos[0]
        assert photo.digest == hashlib.sha256(content).digest()
        assert (reads["1.png"], reads["2.png"]) == (1, 0)


@pytest.mark.usefixtures("settled")
def test_a_tar_file_that_changed_is_read(root: Path, tmp_path: Path) -> None:
    address = write_everywhere(root, tmp_path / "elsewhere")["tars"]
    first = read_photos(address, None, tmp_path / "scans")
    tar = next(Path(address).glob("x-00.tar"))
    content = tar.read_bytes().replace(b'"cat"', b'"owl"')
    tar.write_bytes(content)
    second = read_photos(address, None, tmp_path / "scans")
    assert (first.labels, second.labels) == (("cat", "dog"), ("dog", "owl"))


def many(root: Path, count: int) -> None:
    for number in range(count):
        put(root / ("cat", "dog")[number % 2] / f"{number:04d}.png", number % 250)


def parts_of(scans: Path) -> list[Path]:
    return sorted(scans.glob(f"*/{scan_parts.PARTS}"))


def test_parts_of_a_former_listing_are_removed(root: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    for colour in (3, 4):
        put(root / "cat" / "3.png", colour)
        read_photos(root, None, scans)
        (part,) = parts_of(scans)
        assert pq.read_schema(part).equals(SCHEMA)
        assert pq.read_table(part)["path"].to_pylist() == [
            os.fsencode(path) for path, _ in rows_of(root)
        ]


def test_parts_are_the_same_for_the_same_photos(root: Path, tmp_path: Path) -> None:
    time.sleep(2.1)  # until the times of change are settled
    contents = []
    for name in ("one", "two"):
        read_photos(root, None, tmp_path / name)
        contents.append([(path.name, path.read_bytes()) for path in parts_of(tmp_path / name)])
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("settled")
def test_a_damaged_part_is_as_if_it_were_not_there(root: Path, tmp_path: Path) -> None:
    dataset = read_photos(root, None, tmp_path / "scans")
    (part,) = parts_of(tmp_path / "scans")
    content = bytearray(part.read_bytes())
    random = np.random.default_rng(1)
    for offset in random.integers(len(content), size=40):
        damaged = content.copy()
        damaged[offset] ^= 1 << random.integers(8)
        part.write_bytes(damaged)
        assert list(read_photos(root, None, tmp_path / "scans").photos) == list(dataset.photos)


def test_a_cache_that_cannot_be_written_is_no_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert len(read_photos(root, None, tmp_path / "file" / "scans").photos) == 2
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        write_plan(PhotoFolder.open(root), tmp_path / "file" / "scans")


SLOW = """
import sys, time
from pathlib import Path
from retrain.data import scan_parts, store, tar_files
from retrain.data.source import read_photos
store.LONGEST_TICK_NS, scan_parts._ROWS_PER_PART = -10**12, 16
import retrain.data.listed as listed
listed.ROWS_PER_BATCH = 16
plain = Path.read_bytes
def slow(path):
    if path.suffix == ".png":
        print("read", path.name, flush=True)
        time.sleep(float(sys.argv[3]))
    return plain(path)
Path.read_bytes = slow
dataset = read_photos(Path(sys.argv[1]), None, Path(sys.argv[2]))
print("end", dataset.sha256, flush=True)
"""


def start(root: Path, scans: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(root), str(scans), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout
    yield from process.stdout


def test_a_killed_scan_resumes(root: Path, tmp_path: Path) -> None:
    many(root, 120)
    with start(root, tmp_path / "scans", 0.02) as process:
        while len(parts_of(tmp_path / "scans")) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = sum(pq.read_metadata(part).num_rows for part in parts_of(tmp_path / "scans"))
    assert before >= 48
    with start(root, tmp_path / "scans", 0) as process:
        *reads_, end = lines(process)
    assert end == f"end {read_photos(root).sha256}\n"
    assert len(reads_) == len(rows_of(root)) - before
    assert sum(pq.read_metadata(part).num_rows for part in parts_of(tmp_path / "scans")) == 122


def test_two_scans_at_once_do_not_harm_each_other(root: Path, tmp_path: Path) -> None:
    many(root, 60)
    both = [start(root, tmp_path / "scans", 0.01) for _ in range(2)]
    ends = [process.communicate()[0].splitlines()[-1] for process in both]
    assert ends == [f"end {read_photos(root).sha256}"] * 2
    with start(root, tmp_path / "scans", 0) as process:
        assert len(list(lines(process))) == 1


def test_a_plan_of_a_list_with_digests_reads_no_photo(tmp_path: Path) -> None:
    count = 200_000
    digests = np.random.default_rng(0).integers(0, 256, (count, 32), np.uint8)
    digest = pa.Array.from_buffers(pa.binary(32), count, [None, pa.py_buffer(digests)])
    uris = [f"s3://bucket/{number:09d}.jpg" for number in range(count)]
    path = write_parquet(
        tmp_path / "list.parquet",
        uri=uris,
        label=[("cat", "dog")[number % 2] for number in range(count)],
        digest=digest,
    )
    plan = write_plan(PhotoList(path), tmp_path / "plan")
    assert plan.rows == count
    assert len(plan.parts) > 1
    assert all(pq.ParquetFile(part).metadata.row_group(0).num_rows <= 8192 for part in plan.parts)
    table = pa.concat_tables([pq.read_table(part) for part in plan.parts])
    assert table["path"].cast(pa.string()).to_pylist() == uris
    assert table["digest"].combine_chunks().equals(digest)
    assert table["reason"].null_count == count


def test_a_plan_is_the_scan(root: Path, tmp_path: Path) -> None:
    rows = [{"uri": path, "label": label} for path, label in rows_of(root)]
    path = write_csv(tmp_path / "list.csv", [*rows, {"uri": "gone.jpg", "label": "cat"}])
    plan = write_plan(open_source(path), tmp_path / "plan")
    dataset = scan(open_source(path))
    table = pa.concat_tables([pq.read_table(part) for part in plan.parts])
    is_photo = pa.compute.is_null(table["reason"])
    assert table.filter(is_photo)["digest"].to_pylist() == [p.digest for p in dataset.photos]
    assert table["reason"].to_pylist()[-1] == "there is no such file"
