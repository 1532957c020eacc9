"""Digests are found in sorted arrays, also equal ones and those that begin alike."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from retrain.data.digest_index import DigestIndex, of_bytes, of_column

RANDOM = np.random.default_rng(0)


def alike() -> npt.NDArray[np.uint8]:
    """Return 300 digests with three different first words, and few different ends."""
    digests = np.zeros((300, 32), np.uint8)
    digests[:, 7] = RANDOM.integers(3, size=300)
    digests[:, 8] = RANDOM.integers(2, size=300)
    digests[:, 31] = RANDOM.integers(9, size=300)
    return digests


@pytest.mark.parametrize("digests", [RANDOM.integers(256, size=(500, 32), dtype=np.uint8), alike()])
def test_each_digest_is_found_at_its_first_place(digests: npt.NDArray[np.uint8]) -> None:
    index = DigestIndex(digests)
    keys = [digest.tobytes() for digest in digests]
    first = [keys.index(key) for key in keys]
    assert index.order.tolist() == sorted(range(len(keys)), key=lambda i: (keys[i], i))
    assert index.first().tolist() == first
    assert index.find(digests).tolist() == first
    ordered = [keys[i] for i in index.order]
    assert index.repeats.tolist() == [
        i for i in range(1, len(keys)) if ordered[i] == ordered[i - 1]
    ]


def test_other_digests_are_not_found() -> None:
    digests = alike()
    absent = digests.copy()
    absent[:, 30] = 1
    absent[0] = 255
    assert set(DigestIndex(digests).find(absent).tolist()) == {-1}
    assert DigestIndex(digests[:0]).find(absent).tolist() == [-1] * 300
    assert DigestIndex(digests).find(absent[:0]).tolist() == []


def test_a_column_is_an_array_without_copies() -> None:
    digests = [RANDOM.bytes(32) for _ in range(5)]
    column = pa.chunked_array([pa.array(digests, pa.binary(32))])
    expected = of_bytes(digests)
    np.testing.assert_array_equal(of_column(column), expected)
    np.testing.assert_array_equal(of_column(column.slice(2)), expected[2:])
    in_two = pa.chunked_array([pa.array(digests[:2]), pa.array(digests[2:])])
    np.testing.assert_array_equal(of_column(in_two), expected)
    assert of_column(column.slice(5)).shape == (0, 32)
