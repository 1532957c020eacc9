"""A cache as one file for other programs: every row, in order, with the same numbers."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from deploy.errors import BadData, WrongUse
from retrain.bottlenecks import export as module
from retrain.bottlenecks.cache import ABOUT, Cache
from retrain.bottlenecks.cached_rows import Row
from retrain.bottlenecks.export import export
from retrain.progress import Progress

WIDTH = 6
RANDOM = np.random.default_rng(0)


@pytest.fixture
def values() -> dict[tuple[str, int], npt.NDArray[np.float16]]:
    """Return bottlenecks by digest and view."""
    return {
        (RANDOM.bytes(32).hex(), view): RANDOM.normal(size=WIDTH).astype(np.float16)
        for view in (1, 0)
        for _ in range(20)
    }


@pytest.fixture
def cache(tmp_path: Path, values: dict[tuple[str, int], npt.NDArray[np.float16]]) -> Cache:
    cache = Cache(tmp_path / "fingerprint", WIDTH)
    rows = [Row(bytes.fromhex(digest), view, None, row) for (digest, view), row in values.items()]
    cache.add(rows[:15])
    cache.add([*rows[10:], Row(RANDOM.bytes(32), 0, "truncated", None)])
    return cache


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", 7)


def test_parquet(
    cache: Cache, values: dict[tuple[str, int], npt.NDArray[np.float16]], tmp_path: Path
) -> None:
    path = tmp_path / "all.parquet"
    assert export(cache.folder, path, Progress()) == len(values)
    rows = pq.read_table(path).to_pylist()
    keys = [(row["digest"], row["view"]) for row in rows]
    assert keys == sorted(values)
    for row, key in zip(rows, keys, strict=True):
        assert np.array_equal(np.float16(row["bottleneck"]), values[key])


def test_numpy_with_its_table(
    cache: Cache, values: dict[tuple[str, int], npt.NDArray[np.float16]], tmp_path: Path
) -> None:
    path = tmp_path / "all.npy"
    export(cache.folder, path, Progress())
    array = np.load(path, mmap_mode="r")
    assert (array.dtype, array.shape) == (np.float16, (len(values), WIDTH))
    with (tmp_path / "all.csv").open() as stream:
        keys = [(row["digest"], int(row["view"])) for row in csv.DictReader(stream)]
    assert keys == sorted(values)
    assert np.array_equal(array, np.stack([values[key] for key in keys]))


def test_a_damaged_shard_is_named_and_left_out(
    cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = min(cache.folder.glob("shard-*.parquet"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-9])
    assert export(cache.folder, tmp_path / "all.npy", Progress()) == 30
    assert f"damaged, left out: {path.name}" in capsys.readouterr().err


def test_an_export_does_not_claim_to_know_what_it_reads(cache: Cache, tmp_path: Path) -> None:
    """The next run that uses shards of an earlier version says what they are of."""
    export(cache.folder, tmp_path / "all.npy", Progress())
    assert not (cache.folder / ABOUT).exists()


def test_another_suffix_is_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"must end in \.parquet or \.npy"):
        export(cache.folder, tmp_path / "all.csv", Progress())


def test_a_cache_of_bad_photos_alone_has_nothing_to_export(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "fingerprint", WIDTH)
    cache.add([Row(bytes(32), 0, "truncated", None)])
    with pytest.raises(BadData, match="no bottleneck that can be read"):
        export(cache.folder, tmp_path / "all.npy", Progress())
    assert not (tmp_path / "all.npy").exists()


def test_a_csv_of_the_user_is_not_replaced(cache: Cache, tmp_path: Path) -> None:
    mine, path = tmp_path / "photos.csv", tmp_path / "photos.npy"
    mine.write_text("uri,label\na.jpg,a\n")
    with pytest.raises(WrongUse, match=r"photos\.csv"):
        export(cache.folder, path, Progress())
    assert mine.read_text().startswith("uri,label")
    assert not path.exists()
    mine.unlink()
    assert export(cache.folder, path, Progress()) == export(cache.folder, path, Progress())
