"""Estimate what fine-tuning will cost, from the time of a few photos on this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.system.cores import cores
from retrain.backbones import Backbone
from retrain.bottlenecks.engine import tflite
from retrain.bottlenecks.extract_shard import Decoder, compute_rows
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.plan_shards import Task
from retrain.data.photo import Photo
from retrain.settings.training import FineTuneSettings
from retrain.training.head import Floats
from retrain.training.top import Top

_TIMED_PHOTOS = 3
_REPEATS = 2
"""The first time of each is not counted: memory is allocated in it."""


@dataclass(frozen=True)
class Cost:
    """Seconds of all cores, and megabytes (10^6 bytes) on the disk for the cached feature maps.

    `training_s` is the time of all epochs; early stop saves some of it. `views_s` is the time to
    make all feature maps; those that the cache holds take none.
    """

    training_s: float
    views_s: float
    megabytes: float

    def __str__(self) -> str:
        return (
            f"about {_minutes(self.training_s)} of training, after {_minutes(self.views_s)} for "
            f"the feature maps, less if the cache holds some; they take {self.megabytes:,.0f} MB"
        )


def estimate_cost(
    top: Top,
    trunk: Backbone,
    parameters: Sequence[Floats],
    photos: Sequence[Photo],
    training_photos: int,
    settings: FineTuneSettings,
) -> Cost:
    """Return the cost of training `top` on the outputs of `trunk` for `photos`."""
    epochs, views = settings.epochs_for(training_photos), settings.views_for(training_photos)
    batch = min(settings.train_batch_size, training_photos)
    store = FeatureStore.of(np.zeros((1, trunk.width)))
    targets = np.zeros((batch, len(parameters[-1])), np.float32)
    rows, offset = np.zeros(batch, np.int64), np.zeros_like(parameters[-1])
    batch_s = _seconds(lambda: top.gradient(store, rows, targets, offset, parameters))
    decoder = Decoder(trunk.spec, settings.distortion, None)
    run_trunk = tflite(trunk).make()
    tasks = [Task(photo, range(1, 2)) for photo in photos[:: len(photos) // _TIMED_PHOTOS or 1]]
    tasks = tasks[:_TIMED_PHOTOS]
    view_s = _seconds(lambda: compute_rows(run_trunk, 1, decoder.views(tasks, {}))) / len(tasks)
    total_views = len(photos) + training_photos * views
    return Cost(
        batch_s * epochs * settings.average * training_photos / batch,
        view_s * total_views / cores(),
        total_views * trunk.width * 2 / 1e6,
    )


def _seconds(call: Callable[[], object]) -> float:
    """Return the seconds of a call that is warm."""
    call()
    start = time.perf_counter()
    for _ in range(_REPEATS):
        call()
    return (time.perf_counter() - start) / _REPEATS


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
