"""Extract the bottlenecks of photos: load those in the cache, compute the others on all cores."""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from deploy.image import decoder
from deploy.system.cores import cores
from retrain import parallel
from retrain.backbones import Backbone
from retrain.bottlenecks.cache import Cache
from retrain.bottlenecks.cached_rows import CachedRows
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract_shard import Decoder, MakeWorker, extract_shard
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.plan_shards import Task, plan
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data.distort import RULES
from retrain.data.photo import BadPhoto, Photo
from retrain.data.photo_table import PhotoTable
from retrain.fingerprint import fingerprint
from retrain.progress import Progress
from retrain.settings.cache import UrlPlace
from retrain.settings.training import Distortion

_LOST = "its bottleneck was lost during the run: run again"


@dataclass(frozen=True)
class DistortedViews:
    """The views 1 to `count` of each photo, each distorted at random by `distortion`."""

    count: int
    distortion: Distortion


@dataclass(frozen=True)
class Bottlenecks:
    """The bottlenecks of photos, and the photos that have none.

    `rows` is int64 (photos, views): the row of each bottleneck in `store`, with a line for each of
    `photos`. `bad` are the photos of which a view has no bottleneck. `analysed` counts the views
    that this run computed, `cached` those that the cache held, bad ones too; the others were lost.
    """

    photos: PhotoTable
    bad: tuple[BadPhoto, ...]
    store: FeatureStore
    rows: npt.NDArray[np.int64]
    analysed: int
    cached: int


def extract(
    photos: Sequence[Photo],
    backbone: Backbone,
    engine_choice: EngineChoice,
    folder: Path | UrlPlace,
    progress: Progress,
    *,
    distorted: DistortedViews | None = None,
    store: FeatureStore | None = None,
    thumbnails: ThumbnailCache | None = None,
) -> Bottlenecks:
    """Return the bottlenecks of `photos`, computing those that the cache below `folder` lacks.

    They are of view 0, the undistorted photo, or of the views of `distorted`, which have a cache
    of their own for each distortion. They are appended to `store`, or to a new one. `thumbnails`
    gets each photo that is decoded by a thread. Shards that are damaged are named in a warning, and
    computed again. Raises OSError if a shard cannot be written.
    """
    if distorted:
        views, distortion = range(1, distorted.count + 1), distorted.distortion
        name = _distorted_fingerprint(backbone, distortion)
    else:
        views, distortion = range(1), Distortion()
        name = backbone.fingerprint
    about = _describe(backbone, distortion if distorted else None)
    if engine_choice.executor == "ray" and isinstance(folder, Path):
        folder = folder.absolute()  # workers have another current folder
    cache = Cache(folder / name, backbone.width, about)
    if store is None:
        with suppress(OSError):  # writing a shard reports it, if there is one to write
            cache.folder.mkdir(parents=True, exist_ok=True)
        store = FeatureStore(backbone.width, cache.folder)

    photos = PhotoTable.of(photos)
    cached = cache.load(photos.digests, views, store, progress)
    if cached.damaged:
        progress.warn(
            f"{cache.place}: damaged, set aside: {', '.join(cached.damaged)}; "
            "their photos are analysed again"
        )
    analysed, lost = 0, dict[bytes, str]()
    missing = cached.missing()
    if len(missing):
        engine = engine_choice.choose(backbone, len(missing), progress)
        on_ray = engine_choice.executor == "ray"
        pictures = None if on_ray else thumbnails  # `near_duplicates` makes them later
        make = MakeWorker(engine, Decoder(backbone.spec, distortion, pictures), cache, decoder())
        analysed, lost = _analyse(photos, views, missing, make, engine_choice, cached, progress)
        if thumbnails:
            thumbnails.flush()

    rows = cached.rows.reshape(len(photos), len(views))
    is_whole = np.asarray((rows >= 0).all(axis=1))
    bad = tuple(
        BadPhoto(
            photos[number].path,
            _reason(cached, number, len(views)) or lost.get(photos[number].digest, _LOST),
            label=photos[number].label,
        )
        for number in np.flatnonzero(~is_whole).tolist()
    )
    if bad:
        photos, rows = photos.take(is_whole), rows[is_whole]
    return Bottlenecks(photos, bad, store, rows, analysed, len(cached.rows) - len(missing))


def _describe(backbone: Backbone, distortion: Distortion | None) -> dict[str, Any]:
    """Return what decides a cache's bottlenecks, for people."""
    return {
        "backbone": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "cut": backbone.cut,
        "precision": backbone.precision,
        "input": asdict(backbone.spec),
        "distortion": distortion and distortion.identity,
    }


def _distorted_fingerprint(backbone: Backbone, distortion: Distortion) -> str:
    parts = {"backbone": backbone.fingerprint, "distortion": distortion.identity, "rules": RULES}
    return fingerprint(parts)


def _reason(cached: CachedRows, photo_number: int, view_count: int) -> str | None:
    """Return why a photo lacks the bottleneck of a view; None if the cache does not know it."""
    first = photo_number * view_count
    numbers = range(first, first + view_count)
    return next((cached.errors[key] for key in numbers if key in cached.errors), None)


def _analyse(
    photos: Sequence[Photo],
    views: range,
    missing: npt.NDArray[np.int64],
    make: MakeWorker,
    how: EngineChoice,
    cached: CachedRows,
    progress: Progress,
) -> tuple[int, dict[bytes, str]]:
    """Compute the `missing` views, and add them to the cache and to `cached`.

    Return their number, and the reason of each photo without a row, by its digest.
    """
    if how.executor == "ray":
        from retrain import ray_pool

        tasks = _absolute(plan(photos, views, missing, make.cache.width, ray_pool.cores))
        all_counts = ray_pool.run(tasks, make, extract_shard, how.ray_address, progress.warn)
    else:
        tasks = plan(photos, views, missing, make.cache.width, cores)
        all_counts = parallel.run(tasks, make, extract_shard)
    analysed, lost = 0, dict[bytes, str]()
    unit = "photos" if len(views) == 1 else "views"
    with progress.bar("bottlenecks", len(missing), unit) as advance, closing(all_counts):
        for counts in all_counts:
            if counts.name:
                _add(counts.name, make.cache, cached)
            elif not analysed and how.executor == "ray":
                _require_shared(photos[int(missing[0]) // len(views)])
            lost |= counts.lost
            advance(counts.views)
            analysed += counts.rows
    return analysed, lost


def _absolute(shards: Iterator[tuple[Task, ...]]) -> Iterator[tuple[Task, ...]]:
    """Yield shards whose paths do not depend on the current folder."""
    for tasks in shards:
        yield tuple(
            task._replace(photo=replace(task.photo, path=task.photo.path.absolute()))
            for task in tasks
        )


def _add(name: str, cache: Cache, cached: CachedRows) -> None:
    try:
        cache.add_written(name, cached)
    except FileNotFoundError as error:
        raise BadData(
            f"{cache.place}: a worker wrote {name}, which is not there: on several machines "
            "`bottleneck_dir` must be a URL, or a folder that all of them share"
        ) from error


def _require_shared(photo: Photo) -> None:
    """Raise BadData if `photo` can be read here: no photo of a shard could be, by a worker."""
    try:
        photo.read()
    except BadData:
        return
    raise BadData(
        f"{photo.path}: can be read here but not by Ray's workers: on several machines photos must "
        "be at URLs, or in a folder that all of them share"
    )
