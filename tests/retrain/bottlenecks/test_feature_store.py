"""The feature store: rows come back as they were appended; many are not in memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrain.bottlenecks.feature_store import FeatureStore


@pytest.fixture(params=["in memory", "in the file"])
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in the file":
        monkeypatch.setattr("retrain.bottlenecks.feature_store._MAX_NUMBERS_IN_MEMORY", -1)


@pytest.mark.usefixtures("_place")
def test_every_float16_comes_back_as_it_is() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 64)
    floats = FeatureStore.of(every).take(np.arange(len(every)))
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, every.astype(np.float32))


@pytest.mark.usefixtures("_place")
def test_rows_keep_their_numbers_while_others_are_appended(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    blocks = [random.normal(size=(count, 5)).astype(np.float16) for count in (3, 0, 700, 1)]
    store = FeatureStore(5, tmp_path)
    numbers = []
    for block in blocks:
        numbers.append(store.append(block))
        np.testing.assert_array_equal(store.take(numbers[0]), blocks[0].astype(np.float32))
    everything = np.concatenate(blocks).astype(np.float32)
    assert np.concatenate(numbers).tolist() == list(range(704))
    chosen = random.integers(704, size=2000)
    np.testing.assert_array_equal(store.take(chosen), everything[chosen])


@pytest.mark.usefixtures("_place")
@pytest.mark.parametrize("gap", [-1, 100, 1 << 15])
def test_rows_are_read_with_their_neighbours(gap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrain.bottlenecks.feature_store._MAX_GAP_BYTES", gap)
    monkeypatch.setattr("retrain.bottlenecks.feature_store._READ_BYTES", 400)
    random = np.random.default_rng(0)
    values = random.normal(size=(500, 9)).astype(np.float16)
    store = FeatureStore.of(values)
    for rows in (np.arange(500), random.integers(500, size=90), np.array([3, 3, 4, 499, 3])):
        np.testing.assert_array_equal(store.take(rows), values[rows].astype(np.float32))
    block = np.empty((7, 9), np.float16)
    store.read(490, block)
    np.testing.assert_array_equal(block, values[490:497])
    with pytest.raises(IndexError):
        store.read(495, block)


@pytest.mark.usefixtures("_place")
def test_no_rows_are_none() -> None:
    assert FeatureStore(7).take(np.array([], np.int64)).shape == (0, 7)
    assert FeatureStore(7).append(np.empty((0, 7), np.float16)).shape == (0,)


@pytest.mark.usefixtures("_place")
def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        FeatureStore.of(np.ones((3, 4), np.float16)).take(np.array([1, 3]))


def test_the_file_has_no_name(tmp_path: Path) -> None:
    store = FeatureStore(4, tmp_path)
    store.append(np.ones((3, 4), np.float16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_matrix_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
import numpy as np
from retrain.bottlenecks.feature_store import FeatureStore
store = FeatureStore(1024, Path({str(tmp_path)!r}))
block = np.ones((10_000, 1024), np.float16)
for _ in range(12): store.append(block)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
random = np.random.default_rng(0)
for _ in range(100): store.take(random.integers(120_000, size=400))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(completed.stdout) * 1024 < 50e6
