"""Rows that do not fit the pool are drawn from blocks: each class, reproducibly, as accurately."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from retrain.bottlenecks.feature_store import FeatureStore
from retrain.settings.training import HeadSettings
from retrain.training import block_pool, fit_head
from retrain.training.block_pool import BlockPool, ByClass
from retrain.training.fit_head import StepReport
from retrain.training.head import Examples, score

WIDTH, CLASSES = 16, 5
COUNTS = (3000, 2000, 900, 97, 3)
SETTINGS = HeadSettings(200, learning_rate=0.1, validation_batch_size=20, seed=3)


@pytest.fixture
def _small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pool hold 600 rows, in blocks of 25."""
    for module in (block_pool, fit_head):
        monkeypatch.setattr(module, "POOL_BYTES", 600 * WIDTH * 2)
    monkeypatch.setattr(block_pool, "_BLOCK_BYTES", 25 * WIDTH * 2)


def examples(sorted_by_class: bool, views: int = 1) -> tuple[Examples, Examples]:
    """Return training and validation rows in one store, between each other."""
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(CLASSES), COUNTS)
    if not sorted_by_class:
        random.shuffle(labels)
    points = 3 * np.eye(CLASSES, WIDTH)[labels][:, np.newaxis]
    points = points + random.normal(size=(len(labels), views, WIDTH))
    store = FeatureStore.of(points.reshape(-1, WIDTH))
    rows = np.arange(len(labels) * views).reshape(-1, views)
    validates = np.arange(len(labels)) % 10 == 0
    return (
        Examples(store, rows[~validates], labels[~validates]),
        Examples(store, rows[validates], labels[validates]),
    )


@pytest.mark.usefixtures("_small_pool")
@pytest.mark.parametrize("sorted_by_class", [True, False])
@pytest.mark.parametrize("views", [1, 3])
def test_a_pool_is_of_training_rows_with_their_labels(sorted_by_class: bool, views: int) -> None:
    training, _ = examples(sorted_by_class, views)
    store = training.store
    assert isinstance(store, FeatureStore)
    pool = BlockPool(ByClass(training, CLASSES), store)
    place = {tuple(store.take(np.array([r]))[0]): r for r in training.rows.ravel().tolist()}
    label_of = {
        r: lab for rows, lab in zip(training.rows, training.labels, strict=True) for r in rows
    }
    drawn_rows = []
    for seed in range(2):
        drawn = pool.draw(400, np.random.default_rng(seed)).examples
        values = drawn.store.take(drawn.rows[:, 0])
        rows = [place[tuple(value)] for value in values]
        assert [label_of[row] for row in rows] == drawn.labels.tolist()
        assert len(set(rows)) == len(rows) <= 600 * 1.25
        counts = np.bincount(drawn.labels, minlength=CLASSES)
        # A class lacks no rows for a fifth of the draws, here of a quarter of the pool.
        assert (counts >= 0.6 * np.minimum(30, np.bincount(training.labels) * views)).all()
        drawn_rows.append(set(rows))
    assert len(drawn_rows[0] & drawn_rows[1]) < 0.6 * len(drawn_rows[0])


@pytest.mark.usefixtures("_small_pool")
def test_reads_are_of_blocks_in_the_order_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    training, _ = examples(sorted_by_class=False)
    reads: list[tuple[int, int]] = []
    read = FeatureStore._read

    def record(store: FeatureStore, first: int, content: memoryview) -> None:
        reads.append((first, len(content) // (2 * WIDTH)))
        read(store, first, content)

    monkeypatch.setattr(FeatureStore, "_read", record)
    store = training.store
    assert isinstance(store, FeatureStore)
    BlockPool(ByClass(training, CLASSES), store).draw(100, np.random.default_rng(0))
    blocks = [first for first, count in reads if count > 1]
    assert len(blocks) == 24
    assert all(before < after for before, after in pairwise(blocks))
    assert len(reads) - len(blocks) <= 100


def run(training: Examples, validation: Examples, checkpoint: Any = None) -> list[StepReport]:
    return list(fit_head.fit_head(training, validation, CLASSES, SETTINGS, checkpoint))


@pytest.mark.usefixtures("_small_pool")
def test_training_from_blocks_repeats_and_resumes() -> None:
    data = examples(sorted_by_class=True)
    reports = run(*data)
    checkpoints = [report.checkpoint for report in reports if report.checkpoint]
    assert checkpoints[-1].to_bytes("") == run(*data)[-1].checkpoint.to_bytes("")  # type: ignore[union-attr]
    resumed = run(*data, checkpoints[7])
    assert checkpoints[-1].to_bytes("") == resumed[-1].checkpoint.to_bytes("")  # type: ignore[union-attr]


@pytest.mark.parametrize("sorted_by_class", [True, False])
def test_training_from_blocks_is_as_accurate(
    sorted_by_class: bool, request: pytest.FixtureRequest
) -> None:
    training, validation = examples(sorted_by_class)

    def accuracy() -> float:
        checkpoint = run(training, validation)[-1].checkpoint
        assert checkpoint
        return score(checkpoint.best.logits_of(validation), validation.labels).accuracy

    from_all = accuracy()
    request.getfixturevalue("_small_pool")
    assert accuracy() == pytest.approx(from_all, abs=0.02)
    assert from_all > 0.8
