"""Extract the bottlenecks of photos: load those in the cache, compute the others on all cores."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image, to_pixels
from deploy.system.cores import cores
from retrain import parallel
from retrain.backbones import Backbone
from retrain.bottlenecks.cache import Cache
from retrain.bottlenecks.cached_rows import CachedRows, Row
from retrain.bottlenecks.engine import EngineChoice, Pixels, RunBackbone, Tensor
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data.distort import RULES, distort
from retrain.data.photo import BadPhoto, Photo
from retrain.data.photo_table import PhotoTable
from retrain.fingerprint import fingerprint
from retrain.progress import Progress
from retrain.settings.training import Distortion

_MIN_SHARD_VIEWS, _MAX_SHARD_VIEWS = 16, 256
"""A killed run loses the shards in hand."""
_LOST = "it changed or vanished during the run, or memory was too little: run again"


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
    that this run computed; the cache held the others.
    """

    photos: PhotoTable
    bad: tuple[BadPhoto, ...]
    store: FeatureStore
    rows: npt.NDArray[np.int64]
    analysed: int


def extract(
    photos: Sequence[Photo],
    backbone: Backbone,
    engine_choice: EngineChoice,
    folder: Path,
    progress: Progress,
    *,
    distorted: DistortedViews | None = None,
    store: FeatureStore | None = None,
    thumbnails: ThumbnailCache | None = None,
) -> Bottlenecks:
    """Return the bottlenecks of `photos`, computing those that the cache below `folder` lacks.

    They are of view 0, the undistorted photo, or of the views of `distorted`, which have a cache
    of their own for each distortion. They are appended to `store`, or to a new one. `thumbnails`
    gets each photo that is decoded. Shards that are damaged are named in a warning, and computed
    again. Raises OSError if a shard cannot be written.
    """
    if distorted:
        views, distortion = range(1, distorted.count + 1), distorted.distortion
        name = _distorted_fingerprint(backbone, distortion)
    else:
        views, distortion = range(1), Distortion()
        name = backbone.fingerprint
    about = _describe(backbone, distortion if distorted else None)
    cache = Cache(folder / name, backbone.width, about)
    if store is None:
        with suppress(OSError):  # writing a shard reports it, if there is one to write
            cache.folder.mkdir(parents=True, exist_ok=True)
        store = FeatureStore(backbone.width, cache.folder)

    photos = PhotoTable.of(photos)
    cached = cache.load(photos.digests, views, store)
    if cached.damaged:
        progress.warn(
            f"{cache.folder}: damaged, set aside: {', '.join(cached.damaged)}; "
            "their photos are analysed again"
        )
    analysed = 0
    tasks = _tasks(photos, views, cached)
    if tasks:
        decoder = Decoder(backbone.spec, distortion, thumbnails)
        analysed = _analyse(tasks, decoder, backbone, engine_choice, cache, cached, progress)
        if thumbnails:
            thumbnails.flush()

    rows = cached.rows.reshape(len(photos), len(views))
    is_whole = np.asarray((rows >= 0).all(axis=1))
    bad = tuple(
        BadPhoto(
            photos[number].path,
            _reason(cached, number, len(views)),
            label=photos[number].label,
        )
        for number in np.flatnonzero(~is_whole).tolist()
    )
    if bad:
        photos, rows = photos.take(is_whole), rows[is_whole]
    return Bottlenecks(photos, bad, store, rows, analysed)


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


def _reason(cached: CachedRows, photo_number: int, view_count: int) -> str:
    """Return why a photo lacks the bottleneck of a view."""
    first = photo_number * view_count
    numbers = range(first, first + view_count)
    return next((cached.errors[key] for key in numbers if key in cached.errors), _LOST)


class Task(NamedTuple):
    """A photo to decode once, and the numbers of its views to compute."""

    photo: Photo
    views: Sequence[int]


def _tasks(photos: Sequence[Photo], views: range, cached: CachedRows) -> list[Task]:
    """Return the photos with the views that `cached` lacks."""
    missing: dict[int, list[int]] = {}
    for key in cached.missing().tolist():
        number, view = divmod(key, len(views))
        missing.setdefault(number, []).append(views[view])
    return [Task(photos[number], numbers) for number, numbers in missing.items()]


def plan(tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
    """Yield the tasks of each shard to write, small enough that all cores end together."""
    views = max((len(task.views) for task in tasks), default=1)
    size = len(tasks) * views // (32 * cores())
    size = min(max(size, _MIN_SHARD_VIEWS), _MAX_SHARD_VIEWS)
    size = max(1, size // views)
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


class View(NamedTuple):
    """A view of a photo: its pixels, uint8 (1, height, width, 3), or why it has none."""

    digest: bytes
    view: int
    pixels: Pixels | None
    error: str | None


@dataclass(frozen=True)
class Decoder:
    """Decode photos into the pixels of their views."""

    spec: InputSpec
    distortion: Distortion
    thumbnails: ThumbnailCache | None

    def views(self, tasks: Sequence[Task]) -> Iterator[View]:
        """Yield the views of `tasks`, each photo read, hashed and decoded once.

        A view has the digest of the bytes that were read. A photo that cannot be read, or that
        memory is too little for, yields none.
        """
        enlarged = self.distortion.most_enlarged
        # A view shows a part of the photo, which must be as sharp as a whole photo is.
        height, width = ceil(enlarged * self.spec.height), ceil(enlarged * self.spec.width)
        spec = replace(self.spec, height=height, width=width)
        for photo, views in tasks:
            try:
                content = photo.path.read_bytes()
            except OSError:
                continue
            digest = hashlib.sha256(content).digest()
            try:
                image = open_image(content, spec)
                if self.thumbnails:
                    self.thumbnails.add(digest, image)
                for view in views:
                    yield View(digest, view, self._pixels(image, digest, view), None)
            except BadData as error:
                if isinstance(error.__cause__, MemoryError):
                    continue
                yield from (View(digest, view, None, str(error)) for view in views)

    def _pixels(self, image: Image.Image, digest: bytes, view: int) -> Pixels:
        if view == 0:
            return to_pixels(image, self.spec)
        return distort(image, self.spec, self.distortion, digest, view)


def compute_rows(run_backbone: RunBackbone, batch: int, views: Iterator[View]) -> list[Row]:
    """Return the row of each view; `run_backbone` gets up to `batch` views at a time."""
    rows: list[Row] = []
    while block := list(islice(views, batch)):
        pixels = [view.pixels for view in block if view.pixels is not None]
        bottlenecks = iter(run_backbone(np.concatenate(pixels)) if pixels else ())
        for digest, view, usable, error in block:
            if usable is None:
                rows.append(Row(digest, view, error, None))
            else:
                rows.append(_row(digest, view, next(bottlenecks)))
    return rows


def _row(digest: bytes, view: int, bottleneck: Tensor) -> Row:
    with np.errstate(over="ignore"):
        rounded = bottleneck.astype(np.float16)
    if np.isfinite(rounded).all():
        return Row(digest, view, None, rounded)
    return Row(digest, view, "its bottleneck is not finite in float16", None)


def _analyse(
    tasks: Sequence[Task],
    decoder: Decoder,
    backbone: Backbone,
    engine_choice: EngineChoice,
    cache: Cache,
    cached: CachedRows,
    progress: Progress,
) -> int:
    """Compute the views of `tasks`, add them to the cache and to `cached`; return their number.

    A row whose bytes are not those of a photo's digest is of no key of `cached`: the photo changed
    since it was scanned, and is missing there. The next run tries it again.
    """
    view_count = sum(len(task.views) for task in tasks)
    engine = engine_choice.choose(backbone, view_count, progress)

    def compute(run_backbone: RunBackbone, shard: Sequence[Task]) -> tuple[int, list[Row]]:
        rows = compute_rows(run_backbone, engine.batch, decoder.views(shard))
        cache.add(rows)
        return sum(len(task.views) for task in shard), rows

    analysed = 0
    unit = "photos" if view_count == len(tasks) else "views"
    with progress.bar("bottlenecks", view_count, unit) as advance:
        for tried, rows in parallel.run(plan(tasks), engine.make, compute):
            advance(tried)
            cached.add(rows)
            analysed += len(rows)
    return analysed
