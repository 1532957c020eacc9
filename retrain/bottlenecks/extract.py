"""Extract the bottlenecks of photos: load those in the cache, compute the others on all cores."""

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
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
from deploy.image import decoder, open_image, to_pixels
from deploy.system.cores import cores
from retrain import parallel
from retrain.backbones import Backbone
from retrain.bottlenecks.cache import Cache
from retrain.bottlenecks.cached_rows import CachedRows, Row
from retrain.bottlenecks.engine import Engine, EngineChoice, Pixels, RunBackbone, Tensor
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data.distort import RULES, distort
from retrain.data.photo import BadPhoto, Photo
from retrain.data.photo_table import PhotoTable
from retrain.data.remote_path import read_photo
from retrain.fingerprint import fingerprint
from retrain.progress import Progress
from retrain.settings.cache import UrlPlace
from retrain.settings.training import Distortion

_MIN_SHARD_VIEWS, _MAX_SHARD_VIEWS = 16, 4096
_MAX_SHARD_BYTES = 1 << 24
"""A killed run loses the shards in hand, and a worker holds one in memory."""
_SHARDS_PER_WORKER = 32
"""At least so many, if they are not too small, so that all workers end together."""
_SHARDS_AT_THE_END = 4
"""Of what is left, a shard is at most this part of one worker's share."""
_OUT_OF_MEMORY = "memory was too little: run again"
_OTHER_BYTES = (
    "its bytes are not those of its digest: run again if it changed; correct the digest, or leave "
    "it out, if a list has it"
)
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


class Task(NamedTuple):
    """A photo to decode once, and the numbers of its views to compute."""

    photo: Photo
    views: Sequence[int]


def plan(
    photos: Sequence[Photo],
    views: range,
    missing: npt.NDArray[np.int64],
    width: int,
    workers: Callable[[], int],
) -> Iterator[tuple[Task, ...]]:
    """Yield the tasks of each shard: the photos with those of `views` that are `missing`.

    `missing` are numbers of views, photo by photo. Shards of bottlenecks of `width` values are
    small enough, and at the end ever smaller, that all `workers` end together; their number is
    first asked for here, as Ray must run for it.
    """
    if not len(missing):
        return
    worker_count, first = workers(), 0
    most = shard_photos(len(missing), len(views), width, worker_count)
    least = max(1, _MIN_SHARD_VIEWS // len(views))
    while first < len(missing):
        share = (len(missing) - first) // (_SHARDS_AT_THE_END * worker_count * len(views))
        size = min(most, max(least, share))
        block = missing[first : first + size * len(views)]  # of at least `size` photos, if there
        numbers, places = np.divmod(block, len(views))
        starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        ends = [*starts[1:], len(block)][:size]
        yield tuple(
            Task(photos[int(numbers[start])], tuple(views[i] for i in places[start:end].tolist()))
            for start, end in zip(starts, ends, strict=False)
        )
        first += ends[-1]


def shard_photos(view_count: int, views: int, width: int, workers: int) -> int:
    """Return how many photos of up to `views` views a shard has, of `view_count` views in all."""
    size = view_count // (_SHARDS_PER_WORKER * workers)
    most = max(_MIN_SHARD_VIEWS, min(_MAX_SHARD_VIEWS, _MAX_SHARD_BYTES // (2 * width)))
    return max(1, min(max(size, _MIN_SHARD_VIEWS), most) // views)


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

    def views(self, tasks: Sequence[Task], lost: dict[bytes, str]) -> Iterator[View]:
        """Yield the views of `tasks`, each photo read, hashed and decoded once.

        A photo that cannot be read, whose bytes are not those of its digest, or that memory is too
        little for, yields none. `lost` gets the reason, by the digest: another run may succeed.
        """
        enlarged = self.distortion.most_enlarged
        # A view shows a part of the photo, which must be as sharp as a whole photo is.
        height, width = ceil(enlarged * self.spec.height), ceil(enlarged * self.spec.width)
        spec = replace(self.spec, height=height, width=width)
        for photo, views in tasks:
            digest = photo.digest
            try:
                content = read_photo(photo.path)
            except OSError as error:
                lost[digest] = f"cannot be read ({error.strerror})"
                continue
            if hashlib.sha256(content).digest() != digest:
                lost[digest] = _OTHER_BYTES
                continue
            try:
                image = open_image(content, spec)
                if self.thumbnails:
                    self.thumbnails.add(digest, image)
                for view in views:
                    yield View(digest, view, self._pixels(image, digest, view), None)
            except BadData as error:
                if isinstance(error.__cause__, MemoryError):
                    lost[digest] = _OUT_OF_MEMORY
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


class Worker(NamedTuple):
    """What a thread, or an actor of Ray, analyses photos with."""

    run_backbone: RunBackbone
    batch: int
    decoder: Decoder
    cache: Cache


@dataclass(frozen=True)
class MakeWorker:
    """Make the `Worker` of a thread, or of an actor of Ray, to which this is sent.

    `versions` decide the pixels (`deploy.image.decoder`), and so the bottlenecks.
    """

    engine: Engine
    decoder: Decoder
    cache: Cache
    versions: str

    def __call__(self) -> Worker:
        """Return a new worker; raise BadData where photos would be decoded in another way."""
        if decoder() != self.versions:
            raise BadData(
                f"a worker on {platform.node()} decodes photos with {decoder()}, this machine with "
                f"{self.versions}: install the same versions"
            )
        return Worker(self.engine.make(), self.engine.batch, self.decoder, self.cache)


class Counts(NamedTuple):
    """What a shard holds: photos and views that were tried, rows, bad ones of these, its name.

    A photo that could not be read has no row; `lost` has the reason, by its digest. Without a row
    there is no shard, and no name.
    """

    photos: int
    views: int
    rows: int
    bad: int
    name: str | None
    lost: dict[bytes, str]


def extract_shard(worker: Worker, tasks: Sequence[Task]) -> Counts:
    """Write the views of `tasks` as one shard; the second time it has the same rows.

    Raises OSError if it cannot be written.
    """
    lost: dict[bytes, str] = {}
    rows = compute_rows(worker.run_backbone, worker.batch, worker.decoder.views(tasks, lost))
    name = worker.cache.add(rows) if rows else None
    bad = sum(row.bottleneck is None for row in rows)
    return Counts(len(tasks), sum(len(task.views) for task in tasks), len(rows), bad, name, lost)


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
