"""The cache: what is read is what was written, or it is missing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy import files
from retrain.bottlenecks.cache import ABOUT, Cache
from retrain.bottlenecks.cached_rows import CachedRows, Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.digest_index import of_bytes

WIDTH = 12

RANDOM = np.random.default_rng(0)


def random_rows(count: int) -> list[Row]:
    """Return rows of random bottlenecks; every fifth is of a bad photo."""
    return [
        Row(RANDOM.bytes(32), 0, "damaged", None)
        if i % 5 == 4
        else Row(RANDOM.bytes(32), 0, None, RANDOM.normal(size=WIDTH).astype(np.float16))
        for i in range(count)
    ]


def good_keys(rows: list[Row]) -> list[bytes]:
    return [row.digest for row in rows if not row.error]


def load(cache: Cache, digests: list[bytes]) -> CachedRows:
    return cache.load(of_bytes(digests), range(1), FeatureStore(WIDTH))


def read(cache: Cache, digests: list[bytes]) -> npt.NDArray[np.float32]:
    """Return the bottlenecks of photos with `digests`, all of which must be there."""
    cached = load(cache, digests)
    assert not len(cached.missing())
    assert not cached.damaged
    return cached.store.take(cached.rows)


def values(rows: list[Row]) -> npt.NDArray[np.float32]:
    bottlenecks = [row.bottleneck for row in rows if row.bottleneck is not None]
    return np.stack(bottlenecks).astype(np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WIDTH, {})


def shards(cache: Cache) -> list[Path]:
    return sorted(cache.folder.glob("shard-*.parquet"))


def test_bottlenecks_come_back_bit_for_bit_in_the_order_of_the_keys(cache: Cache) -> None:
    first, second = random_rows(20), random_rows(10)
    first[0].bottleneck[:4] = 65504, -65504, 6e-8, 0  # type: ignore[index]
    cache.add(first)
    cache.add(second)
    assert len(shards(cache)) == 2
    backwards = (first + second)[::-1]
    assert read(cache, good_keys(backwards)).tobytes() == values(backwards).tobytes()


def test_bad_photos_have_their_error_and_no_bottleneck(cache: Cache) -> None:
    rows = random_rows(10)
    cache.add(rows)
    cached = load(cache, [row.digest for row in rows])
    assert cached.errors == {4: "damaged", 9: "damaged"}
    assert np.flatnonzero(cached.rows < 0).tolist() == [4, 9]
    assert not len(cached.missing())


def test_a_shard_of_bad_photos_alone_is_no_obstacle(cache: Cache) -> None:
    bad, usable = Row(bytes(32), 0, "damaged", None), random_rows(1)
    cache.add([bad])
    cache.add(usable)
    assert read(cache, good_keys(usable)).tobytes() == values(usable).tobytes()


def test_keys_of_an_empty_cache_are_missing(cache: Cache) -> None:
    assert read(cache, []).shape == (0, WIDTH)
    assert load(cache, [bytes(32), b"1" * 32]).missing().tolist() == [0, 1]


def _row(error: str | None, value: float) -> Row:
    return Row(bytes(32), 0, error, None if error else np.full(WIDTH, value, np.float16))


@pytest.mark.parametrize(
    "rows",
    [
        [_row("not finite", 0), _row(None, 1)],
        [_row(None, 1), _row("not finite", 0)],
        [_row(None, 1), _row(None, 2), _row(None, 3)],
    ],
)
def test_the_last_row_of_a_key_counts(cache: Cache, rows: list[Row]) -> None:
    """Two processes may compute a view at once, on engines that differ in the last bits."""
    keys = [bytes(32)]
    cached = CachedRows(of_bytes(keys), range(1), FeatureStore(WIDTH))
    row_of_shard: dict[Path, Row] = {}
    for row in rows:
        cached.add([*random_rows(1), row])
        cache.add([*random_rows(1), row])
        (new,) = set(shards(cache)) - set(row_of_shard)
        row_of_shard[new] = row
    last_on_disk = row_of_shard[max(row_of_shard)]
    for result, last in ((cached, rows[-1]), (load(cache, keys), last_on_disk)):
        assert not len(result.missing())
        if last.bottleneck is None:
            assert (result.errors, result.rows.tolist()) == ({0: last.error}, [-1])
        else:
            assert result.errors == {}
            assert result.store.take(result.rows)[0].tolist() == last.bottleneck.tolist()


def test_each_shard_is_read_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(30)
    for start in range(0, 30, 10):
        cache.add(rows[start : start + 10])
    reads: list[Path] = []
    read_bytes = Path.read_bytes

    def count(path: Path) -> bytes:
        reads.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", count)
    load(cache, [row.digest for row in rows])
    assert reads == shards(cache)


def test_writers_at_once_lose_nothing(cache: Cache) -> None:
    blocks = [random_rows(3) for _ in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Cache(cache.folder, WIDTH, {}).add, blocks))
        list(pool.map(cache.add, blocks[:5]))
    rows = [row for block in blocks for row in block]
    assert read(cache, good_keys(rows)).tobytes() == values(rows).tobytes()
    assert {path.suffix for path in cache.folder.iterdir()} == {".parquet", ".json"}


def test_a_flipped_byte_anywhere_sets_its_shard_aside(cache: Cache) -> None:
    intact, rows = random_rows(4), random_rows(10)
    cache.add(rows)
    (victim,) = shards(cache)
    cache.add(intact)
    keys = [row.digest for row in rows + intact]
    content = victim.read_bytes()
    places = {
        0,
        len(content) - 1,
        *range(0, len(content), 97),
        *range(len(content) - 40, len(content), 3),
    }
    for place in sorted(places):
        damaged = bytearray(content)
        damaged[place] ^= int(RANDOM.integers(1, 256))
        victim.write_bytes(damaged)
        cached = load(cache, keys)
        assert cached.damaged == [f"{victim.name} (its SHA-256 is wrong)"]
        assert cached.missing().tolist() == list(range(10))
        assert not victim.exists()
        assert victim.with_suffix(".damaged").read_bytes() == damaged
        assert load(cache, keys).damaged == []
    cache.add(rows)
    assert read(cache, good_keys(rows + intact)).tobytes() == values(rows + intact).tobytes()


def test_unfinished_shards_of_killed_processes_are_removed(cache: Cache) -> None:
    cache.add(random_rows(5))
    (shard,) = shards(cache)
    with files.atomic(shard) as stream:
        stream.write(b"half")
        (half,) = cache.folder.glob(".*.part")
        abandoned = half.with_name(half.name.replace(half.name[-10:-5], "00000"))
        abandoned.write_bytes(b"half")
        load(cache, [])
        assert half.exists(), "a living process lost its file"
        assert not abandoned.exists()


@pytest.mark.parametrize("length", [0, 3, 500, -1])
def test_a_cut_shard_is_set_aside(cache: Cache, length: int) -> None:
    rows = random_rows(10)
    cache.add(rows)
    (victim,) = shards(cache)
    victim.write_bytes(victim.read_bytes()[:length])
    assert len(load(cache, good_keys(rows)).missing()) == 8
    assert shards(cache) == []


def test_all_damaged_shards_are_named(cache: Cache) -> None:
    for _ in range(3):
        cache.add(random_rows(3))
    damaged = shards(cache)[:2]
    for path in damaged:
        path.write_bytes(b"")
    assert [text.split()[0] for text in load(cache, []).damaged] == [path.name for path in damaged]
    assert len(shards(cache)) == 1


def _unlink(path: Path) -> bytes:
    path.unlink()
    return b"damaged"


def _refuse(path: Path) -> bytes:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("read_bytes", "reason"),
    [(_unlink, "its SHA-256 is wrong"), (_refuse, "Permission denied")],
)
def test_a_shard_that_another_process_set_aside_is_no_crash(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, read_bytes: Callable[[Path], Any], reason: str
) -> None:
    cache.add(random_rows(3))
    (shard,) = shards(cache)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        assert load(cache, []).damaged == [f"{shard.name} ({reason})"]
    assert shards(cache) == []


def test_files_of_a_killed_run_are_ignored(cache: Cache) -> None:
    rows = random_rows(5)
    cache.add(rows)
    (shard,) = shards(cache)
    shard.with_name(f".{shard.name}.0123.part").write_bytes(b"half")
    shard.with_suffix(".damaged").write_bytes(b"old")
    assert read(cache, good_keys(rows)).tobytes() == values(rows).tobytes()


def test_nothing_is_left_of_a_shard_that_cannot_be_written(cache: Cache) -> None:
    cache.add(random_rows(2))
    wrong = Row(bytes(32), 0, None, np.zeros(WIDTH + 1, np.float16))
    with pytest.raises(ValueError, match=str(WIDTH)):
        cache.add([wrong])
    assert len(shards(cache)) == 1
    assert {path.name for path in cache.folder.iterdir()} == {shards(cache)[0].name, ABOUT}
