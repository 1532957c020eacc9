"""From photos to bottlenecks: plan what is missing, analyse it on all cores, read it back."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from deploy.image import open_image, to_tensor
from deploy.runtime import Model
from retrain import parallel
from retrain.backbones import Backbone
from retrain.cache import Cache, DamagedShards, Row
from retrain.dataset import BadPhoto, Dataset, Photo
from retrain.progress import Progress

_SHARD = (16, 256)
"""The least and the most photos of a shard: a killed run loses those in hand."""


@dataclass(frozen=True)
class Bottlenecks:
    """A data set whose photos all have a bottleneck.

    `values` is float16 (N, D), a row for each of `dataset.photos`; `analysed` counts the photos
    that this run had to analyse.
    """

    dataset: Dataset
    values: npt.NDArray[np.float16]
    analysed: int


def obtain(dataset: Dataset, backbone: Backbone, folder: Path, progress: Progress) -> Bottlenecks:
    """Return the bottlenecks of `dataset`, analysing what the cache below `folder` lacks.

    Photos that cannot be decoded are moved to the data set's bad ones; raises BadData when a
    class is left with none.
    """
    cache = Cache(folder / backbone.fingerprint, backbone.width)
    analysed = 0
    while True:
        try:
            known = cache.known()
            missing = [photo for photo in dataset.photos if photo.digest not in known]
            if missing:
                analysed += _analyse(missing, backbone, cache, progress)
                known = cache.known()
            good = dataset.without(_bad(dataset, known))
            values = cache.load([photo.digest for photo in good.photos])
            return Bottlenecks(good, values, analysed)
        except DamagedShards as error:
            progress.warn(f"{error}; their photos are analysed again")


def plan(photos: Sequence[Photo]) -> Iterator[Sequence[Photo]]:
    """Yield the photos of each shard to make, small enough that all cores end together."""
    size = min(max(len(photos) // (8 * parallel.cores()), _SHARD[0]), _SHARD[1])
    for start in range(0, len(photos), size):
        yield photos[start : start + size]


def extract_shard(model: Model, photos: Sequence[Photo], backbone: Backbone) -> list[Row]:
    """Return a row for each photo that can be read: its bottleneck, or why it has none.

    A row is keyed by the bytes that were read. A photo that changed or vanished since it was
    found thus has no row under its digest.
    """
    rows = []
    for photo in photos:
        try:
            content = photo.path.read_bytes()
        except OSError:
            continue
        error, values = None, None
        try:
            values = model(to_tensor(open_image(content, backbone.spec), backbone.spec))
            if not np.isfinite(values).all():
                error, values = "its bottleneck is not finite", None
        except BadData as reason:
            error = str(reason)
        half = None if values is None else values.astype(np.float16)
        rows.append(Row(hashlib.sha256(content).digest(), 0, error, half))
    return rows


def _analyse(photos: Sequence[Photo], backbone: Backbone, cache: Cache, progress: Progress) -> int:
    def shard(model: Model, task: Sequence[Photo]) -> tuple[int, int]:
        rows = extract_shard(model, task, backbone)
        cache.add(rows)
        return len(task), len(rows)

    done = 0
    with progress.bar("bottlenecks", len(photos), "photos") as advance:
        for tried, analysed in parallel.run(
            plan(photos), lambda: Model(backbone.flatbuffer), shard
        ):
            advance(tried)
            done += analysed
    return done


def _bad(dataset: Dataset, known: dict[bytes, str | None]) -> list[BadPhoto]:
    gone = "it changed or vanished during the run"
    errors = ((photo, known.get(photo.digest, gone)) for photo in dataset.photos)
    return [BadPhoto(photo.path, error) for photo, error in errors if error]
