"""Rows of a cache find their photos, also where digests are equal or begin alike."""

import numpy as np
import pyarrow as pa
import pytest

from retrain.bottlenecks.cached_rows import CachedRows, Row
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.digest_index import of_bytes

WIDTH = 4


def row(digest: bytes, view: int, value: float | None) -> Row:
    bottleneck = None if value is None else np.full(WIDTH, value, np.float16)
    return Row(digest, view, None if bottleneck is not None else f"bad {view}", bottleneck)


def add(cached: CachedRows, rows: list[Row], as_table: bool) -> None:
    if not as_table:
        cached.add(rows)
        return
    schema = pa.schema(
        {
            "digest": pa.binary(32),
            "view": pa.int16(),
            "status": pa.string(),
            "error": pa.string(),
            "bottleneck": pa.list_(pa.float16(), WIDTH),
        }
    )
    columns = {
        "digest": [row.digest for row in rows],
        "view": [row.view for row in rows],
        "status": ["bad" if row.error else "ok" for row in rows],
        "error": [row.error for row in rows],
        "bottleneck": [row.bottleneck for row in rows],
    }
    cached.add_table(pa.table(columns, schema=schema))


@pytest.mark.parametrize("as_table", [False, True])
def test_rows_are_those_of_a_dict(as_table: bool) -> None:
    random = np.random.default_rng(0)
    # Digests of three first words, some of them equal.
    digests = [bytes([0] * 7 + [i % 3] + [0] * 23 + [i % 31]) for i in range(100)]
    unknown = [bytes([0] * 7 + [i % 3] + [1] * 24) for i in range(20)]
    views = range(1, 4)
    cached = CachedRows(of_bytes(digests), views, FeatureStore(WIDTH))
    expected: dict[tuple[bytes, int], float | None] = {}
    for block in range(6):
        rows: list[Row] = []
        for number in random.permutation(60):
            digest = (digests + unknown)[random.integers(120)]
            value = None if number % 9 == 0 else float(block * 100 + number)
            # In a block a view occurs once: bad rows are added before the others.
            view = int(random.integers(0, 6))
            if (digest, view) not in {(row.digest, row.view) for row in rows}:
                rows.append(row(digest, view, value))
        add(cached, rows, as_table)
        expected.update(
            {
                (item.digest, item.view): None if item.error else float(item.bottleneck[0])  # type: ignore[index]
                for item in rows
            }
        )
    missing = set(cached.missing().tolist())
    for place, (digest, view) in enumerate((digest, view) for digest in digests for view in views):
        assert (place in missing) == ((digest, view) not in expected)
        value = expected.get((digest, view))
        assert (cached.rows[place] >= 0) == (value is not None)
        if value is not None:
            assert cached.store.take(cached.rows[[place]]).tolist() == [[value] * WIDTH]
        elif place not in missing:
            assert cached.errors[place] == f"bad {view}"


@pytest.mark.parametrize("as_table", [False, True])
@pytest.mark.parametrize("query", ["AA", "AB", "ABA", "BBA"])
def test_equal_digests_have_the_same_bottleneck(query: str, as_table: bool) -> None:
    names = {"A": b"a" * 32, "B": b"b" * 32}
    cached = CachedRows(of_bytes([names[name] for name in query]), range(1), FeatureStore(WIDTH))
    add(cached, [row(names["A"], 0, 1), row(names["B"], 0, 2)], as_table)
    assert cached.store.take(cached.rows)[:, 0].tolist() == ["AB".index(name) + 1 for name in query]


def test_rows_of_other_photos_are_not_stored() -> None:
    store = FeatureStore(WIDTH)
    cached = CachedRows(of_bytes([bytes(32)]), range(1), store)
    add(cached, [row(b"1" * 32, 0, 1), row(b"2" * 32, 0, None)], as_table=True)
    assert (cached.missing().tolist(), cached.errors) == ([0], {})
    assert store.append(np.ones((1, WIDTH))).tolist() == [0]
