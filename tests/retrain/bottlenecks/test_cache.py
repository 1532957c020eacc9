"""The cache: what is read is what was written, or nothing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deploy import files
from deploy.errors import BadData
from retrain.bottlenecks.cache import Cache, DamagedShards, Key, Row
from retrain.bottlenecks.feature_store import Matrix

WIDTH = 12
RANDOM = np.random.default_rng(0)


def rows(count: int) -> list[Row]:
    """Return rows of random bottlenecks; every fifth is of a bad photo."""
    return [
        Row(RANDOM.bytes(32), 0, "damaged", None)
        if i % 5 == 4
        else Row(RANDOM.bytes(32), 0, None, RANDOM.normal(size=WIDTH).astype(np.float16))
        for i in range(count)
    ]


def keys(some: list[Row]) -> list[Key]:
    return [(row.digest, row.view) for row in some if not row.error]


def read(cache: Cache, wanted: list[Key]) -> np.ndarray:
    """Return the bottlenecks of `wanted`, float32."""
    matrix = Matrix(WIDTH)
    return matrix.take(cache.load(wanted, matrix))


def values(some: list[Row]) -> np.ndarray:
    found = [row.bottleneck for row in some if row.bottleneck is not None]
    return np.stack(found).astype(np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WIDTH)


def shards(cache: Cache) -> list[Path]:
    return sorted(cache.folder.glob("shard-*.parquet"))


def test_bottlenecks_come_back_bit_for_bit_in_the_order_asked(cache: Cache) -> None:
    first, second = rows(20), rows(10)
    first[0].bottleneck[:4] = 65504, -65504, 6e-8, 0  # type: ignore[index]
    cache.add(first)
    cache.add(second)
    assert len(shards(cache)) == 2
    wanted = (first + second)[::-1]
    assert read(cache, keys(wanted)).tobytes() == values(wanted).tobytes()


def test_bad_photos_are_known_with_their_error_and_have_no_bottleneck(cache: Cache) -> None:
    some = rows(10)
    cache.add(some)
    assert cache.known() == {(row.digest, 0): row.error for row in some}
    with pytest.raises(BadData, match="1 bottlenecks vanished: run again"):
        read(cache, [(row.digest, 0) for row in some[:5]])


def test_a_shard_of_bad_photos_alone_is_no_obstacle(cache: Cache) -> None:
    bad, good = Row(bytes(32), 0, "damaged", None), rows(1)
    cache.add([bad])
    cache.add(good)
    assert read(cache, keys(good)).tobytes() == values(good).tobytes()


def test_an_empty_cache_knows_nothing(cache: Cache) -> None:
    assert cache.known() == {}
    assert read(cache, []).shape == (0, WIDTH)
    with pytest.raises(BadData, match="2 bottlenecks vanished"):
        read(cache, [(bytes(32), 0), (b"1" * 32, 0)])


def test_writers_at_once_lose_nothing(cache: Cache) -> None:
    parts = [rows(3) for _ in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Cache(cache.folder, WIDTH).add, parts))
        list(pool.map(cache.add, parts[:5]))
    everything = [row for part in parts for row in part]
    assert read(cache, keys(everything)).tobytes() == values(everything).tobytes()
    assert {path.suffix for path in cache.folder.iterdir()} == {".parquet"}


@pytest.mark.parametrize("way", ["known", "load"])
def test_a_flipped_byte_anywhere_sets_its_shard_aside(cache: Cache, way: str) -> None:
    good, some = rows(4), rows(10)
    cache.add(some)
    (victim,) = shards(cache)
    cache.add(good)
    content = victim.read_bytes()
    places = {
        0,
        len(content) - 1,
        *range(0, len(content), 29),
        *range(len(content) - 40, len(content)),
    }
    for place in sorted(places):
        damaged = bytearray(content)
        damaged[place] ^= int(RANDOM.integers(1, 256))
        victim.write_bytes(damaged)
        fresh = Cache(cache.folder, WIDTH)
        with pytest.raises(DamagedShards, match=f"damaged, set aside: {victim.name}"):
            fresh.known() if way == "known" else read(fresh, keys(some + good))
        assert not victim.exists()
        assert victim.with_suffix(".damaged").read_bytes() == damaged
        assert Cache(cache.folder, WIDTH).known() == {(row.digest, 0): row.error for row in good}
    cache.add(some)
    assert read(cache, keys(some + good)).tobytes() == values(some + good).tobytes()


def test_a_shard_damaged_after_it_was_read_once_is_set_aside(cache: Cache) -> None:
    some = rows(10)
    cache.add(some)
    (victim,) = shards(cache)
    assert len(cache.known()) == 10
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(DamagedShards, match=f"damaged, set aside: {victim.name}"):
        read(cache, keys(some))
    assert not victim.exists()


def test_unfinished_shards_of_killed_processes_are_removed(cache: Cache) -> None:
    cache.add(rows(5))
    (shard,) = shards(cache)
    with files.atomic(shard) as stream:
        stream.write(b"half")
        (part,) = cache.folder.glob(".*.part")
        left = part.with_name(part.name.replace(part.name[-10:-5], "00000"))
        left.write_bytes(b"half")
        cache.known()
        assert part.exists(), "a living process lost its file"
        assert not left.exists()


@pytest.mark.parametrize("length", [0, 3, 500, -1])
def test_a_cut_shard_is_set_aside(cache: Cache, length: int) -> None:
    some = rows(10)
    cache.add(some)
    (victim,) = shards(cache)
    victim.write_bytes(victim.read_bytes()[:length])
    with pytest.raises(DamagedShards):
        read(cache, keys(some))
    assert shards(cache) == []
    assert cache.known() == {}


def test_all_damaged_shards_are_named_at_once(cache: Cache) -> None:
    for _ in range(3):
        cache.add(rows(3))
    damaged = shards(cache)[:2]
    for path in damaged:
        path.write_bytes(b"")
    with pytest.raises(DamagedShards) as error:
        cache.known()
    assert all(path.name in str(error.value) for path in damaged)
    assert len(cache.known()) == 3


def test_a_shard_that_another_process_set_aside_is_no_crash(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.add(rows(3))

    def vanish(path: Path) -> bytes:
        path.unlink()
        return b"damaged"

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", vanish)
        with pytest.raises(DamagedShards):
            cache.known()
    assert cache.known() == {}


def test_what_a_killed_run_left_is_ignored(cache: Cache) -> None:
    some = rows(5)
    cache.add(some)
    (shard,) = shards(cache)
    shard.with_name(f".{shard.name}.0123.part").write_bytes(b"half")
    shard.with_suffix(".damaged").write_bytes(b"old")
    assert read(cache, keys(some)).tobytes() == values(some).tobytes()


def test_nothing_is_left_of_a_shard_that_cannot_be_written(cache: Cache) -> None:
    cache.add(rows(2))
    wrong = Row(bytes(32), 0, None, np.zeros(WIDTH + 1, np.float16))
    with pytest.raises(ValueError, match=str(WIDTH)):
        cache.add([wrong])
    assert len(list(cache.folder.iterdir())) == 1
