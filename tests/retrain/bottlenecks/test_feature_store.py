"""Bottlenecks in a file: what is appended is what is read, and little of it stays in memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrain.bottlenecks.feature_store import Matrix


def test_every_float16_comes_back_as_it_is() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 64)
    found = Matrix.of(every).take(np.arange(len(every)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, every.astype(np.float32))


def test_rows_keep_their_numbers_while_others_are_appended(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(size=(count, 5)).astype(np.float16) for count in (3, 0, 700, 1)]
    made = Matrix(5, tmp_path)
    numbers = []
    for part in parts:
        numbers.append(made.append(part))
        np.testing.assert_array_equal(made.take(numbers[0]), parts[0].astype(np.float32))
    everything = np.concatenate(parts).astype(np.float32)
    assert np.concatenate(numbers).tolist() == list(range(704))
    chosen = random.integers(704, size=2000)
    np.testing.assert_array_equal(made.take(chosen), everything[chosen])


def test_no_rows_are_none() -> None:
    assert Matrix(7).take(np.array([], np.int64)).shape == (0, 7)
    assert Matrix(7).append(np.empty((0, 7), np.float16)).shape == (0,)


def test_the_file_has_no_name(tmp_path: Path) -> None:
    made = Matrix(4, tmp_path)
    made.append(np.ones((3, 4), np.float16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_matrix_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
import numpy as np
from retrain.bottlenecks.feature_store import Matrix
made = Matrix(1024, Path({str(tmp_path)!r}))
part = np.ones((10_000, 1024), np.float16)
for _ in range(50): made.append(part)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
random = np.random.default_rng(0)
for _ in range(100): made.take(random.integers(500_000, size=400))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 50e6
