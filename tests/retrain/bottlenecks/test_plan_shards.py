"""A plan holds each missing view once, in shards that end together."""

from pathlib import Path

import numpy as np
import pytest

from retrain.bottlenecks.plan_shards import plan, shard_photos
from retrain.data.photo import Photo


@pytest.mark.parametrize(
    ("count", "views", "width", "workers", "most"),
    [
        (10_000_000, 1, 1280, 2, 4096),
        (10_000_000, 4, 1280, 2, 1024),
        (10_000_000, 1, 9408, 2, 891),  # 16 MiB
        (10_000_000, 10_000, 1280, 2, 1),
        (10_000_000, 1, 10_000_000, 2, 16),
        (20_000, 1, 1280, 2, 312),
        (20_000, 1, 1280, 64, 16),
    ],
)
def test_shards_are_bounded_and_all_workers_end_together(
    count: int, views: int, width: int, workers: int, most: int
) -> None:
    assert shard_photos(count, views, width, workers) == most


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 255, 10_000])
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_the_plan_holds_every_missing_view_once(count: int, workers: int) -> None:
    photos = [Photo(Path(str(i)), "", b"") for i in range(count)]
    random = np.random.default_rng(0)
    missing = np.flatnonzero(random.integers(0, 3, 2 * count))
    shards = list(plan(photos, range(1, 3), missing, 8, lambda: workers))
    tasks = [task for shard in shards for task in shard]
    views = [(int(task.photo.path.name), view) for task in tasks for view in task.views]
    assert views == [(number // 2, 1 + number % 2) for number in missing.tolist()]
    assert len({task.photo.path for task in tasks}) == len(tasks)
    sizes = [len(shard) for shard in shards[:-1]]
    most = shard_photos(len(missing), 2, 8, workers)
    assert all(8 <= size <= most for size in sizes)
    assert sizes == sorted(sizes, reverse=True)
    if count == 10_000 and workers < 64:
        assert sizes[0] == most
        assert sizes[-1] < most
