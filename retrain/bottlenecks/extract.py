"""From photos to bottlenecks: plan what is missing, analyse it on all cores, read it back."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import normalise, open_image, to_tensor
from deploy.system.cores import cores
from retrain import parallel
from retrain.backbones import Backbone
from retrain.bottlenecks.cache import Cache, DamagedShards, Key, Row
from retrain.bottlenecks.engine import Choice, Extract, Tensor
from retrain.bottlenecks.feature_store import Matrix
from retrain.bottlenecks.thumbnails import Pictures
from retrain.data.distort import RULES, distort
from retrain.data.photo_folder import BadPhoto, Dataset, Photo
from retrain.fingerprint import fingerprint
from retrain.progress import Progress
from retrain.settings.training import Distortion

_SHARD = (16, 256)
"""The least and the most views of a shard: a killed run loses those in hand."""


class Task(NamedTuple):
    """A photo to decode once, and the views of it to analyse; view 0 is the photo as it is."""

    photo: Photo
    views: Sequence[int]


Look = Callable[[Image.Image, Photo, int], Tensor]
"""Makes of a decoded photo the tensor of one of its views."""


@dataclass(frozen=True)
class Bottlenecks:
    """A data set whose photos all have a bottleneck.

    `rows` is int64 (N,), the row in `matrix` of each of `dataset.photos`; `analysed` counts the
    photos that this run had to analyse.
    """

    dataset: Dataset
    matrix: Matrix
    rows: npt.NDArray[np.int64]
    analysed: int


def obtain(
    dataset: Dataset,
    backbone: Backbone,
    choice: Choice,
    folder: Path,
    progress: Progress,
    pictures: Pictures | None = None,
) -> Bottlenecks:
    """Return the bottlenecks of `dataset`, analysing what the cache below `folder` lacks.

    `pictures` gets each photo that is decoded. Photos that cannot be decoded are moved to the data
    set's bad ones; raises BadData when a class is left with none.
    """
    cache, spec = Cache(folder / backbone.fingerprint, backbone.width), backbone.spec
    analysed = 0

    def look(image: Image.Image, photo: Photo, _view: int) -> Tensor:
        if pictures:
            pictures.add(photo.digest, image)
        return to_tensor(image, spec)

    while True:
        try:
            known = cache.known()
            missing = [Task(each, [0]) for each in dataset.photos if (each.digest, 0) not in known]
            if missing:
                analysed += _analyse(missing, look, spec, backbone, choice, cache, progress)
                known = cache.known()
                if pictures:
                    pictures.flush()
            good = dataset.without(_bad(dataset, known))
            matrix = Matrix(backbone.width, cache.folder)
            rows = cache.load([(photo.digest, 0) for photo in good.photos], matrix)
            return Bottlenecks(good, matrix, rows, analysed)
        except DamagedShards as error:
            progress.warn(f"{error}; their photos are analysed again")


def obtain_views(
    photos: Sequence[Photo],
    count: int,
    distortion: Distortion,
    backbone: Backbone,
    choice: Choice,
    folder: Path,
    matrix: Matrix,
    progress: Progress,
) -> tuple[npt.NDArray[np.int64], int]:
    """Append views 1 to `count` of `photos`, distorted, to `matrix`.

    Returns the row of each, int64 (N, count), and how many views this run had to analyse. They
    have a cache of their own below `folder`, which another distortion does not share.
    """
    cache = Cache(folder / _fingerprint(backbone, distortion), backbone.width)
    keys = [(photo.digest, view) for photo in photos for view in range(1, count + 1)]
    spec, most = backbone.spec, distortion.most_enlarged
    # A view is of a part of the photo, which must be as sharp as a whole one is.
    decoded = replace(spec, height=ceil(most * spec.height), width=ceil(most * spec.width))
    analysed = 0

    def look(image: Image.Image, photo: Photo, view: int) -> Tensor:
        return normalise(distort(image, spec, distortion, photo.digest, view), spec)

    while True:
        try:
            known = cache.known()
            missing = [task for task in _tasks(photos, count, known) if task.views]
            if missing:
                analysed += _analyse(missing, look, decoded, backbone, choice, cache, progress)
            return cache.load(keys, matrix).reshape(len(photos), count), analysed
        except DamagedShards as error:
            progress.warn(f"{error}; their photos are analysed again")


def _tasks(photos: Sequence[Photo], count: int, known: dict[Key, str | None]) -> Iterator[Task]:
    for photo in photos:
        views = range(1, count + 1)
        yield Task(photo, [view for view in views if (photo.digest, view) not in known])


def _fingerprint(backbone: Backbone, distortion: Distortion) -> str:
    parts = {"backbone": backbone.fingerprint, "distortion": asdict(distortion), "rules": RULES}
    return fingerprint(parts)


def plan(tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
    """Yield the tasks of each shard to make, small enough that all cores end together."""
    views = max((len(task.views) for task in tasks), default=1)
    size = min(max(len(tasks) * views // (32 * cores()), _SHARD[0]), _SHARD[1])
    size = max(1, size // views)
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


class _Look(NamedTuple):
    """A view to analyse, or why there is none: `tensor` or `error` is None."""

    digest: bytes
    view: int
    tensor: Tensor | None
    error: str | None


def extract_shard(
    extract: Extract, batch: int, tasks: Sequence[Task], look: Look, spec: InputSpec
) -> list[Row]:
    """Return a row for each view of a photo that can be read: its bottleneck, or why it has none.

    `extract` gets up to `batch` tensors at a time. Photos are decoded for `spec`. A row is keyed
    by the bytes that were read. A photo that changed or vanished since it was found thus has no
    row under its digest, nor has one that memory was too little for: the next run tries again.
    """
    looks = _looks(tasks, look, spec)
    rows: list[Row] = []
    while part := list(islice(looks, batch)):
        tensors = [each.tensor for each in part if each.tensor is not None]
        values = iter(extract(np.concatenate(tensors)) if tensors else ())
        for digest, view, tensor, error in part:
            if tensor is None:
                rows.append(Row(digest, view, error, None))
            else:
                rows.append(_row(digest, view, next(values)))
    return rows


def _looks(tasks: Sequence[Task], look: Look, spec: InputSpec) -> Iterator[_Look]:
    for photo, views in tasks:
        try:
            content = photo.path.read_bytes()
        except OSError:
            continue
        digest = hashlib.sha256(content).digest()
        as_read = replace(photo, digest=digest)
        try:
            image = open_image(content, spec)
            for view in views:
                yield _Look(digest, view, look(image, as_read, view), None)
        except BadData as reason:
            if isinstance(reason.__cause__, MemoryError):
                continue
            yield from (_Look(digest, view, None, str(reason)) for view in views)


def _row(digest: bytes, view: int, values: Tensor) -> Row:
    with np.errstate(over="ignore"):
        kept = values.astype(np.float16)
    if np.isfinite(kept).all():
        return Row(digest, view, None, kept)
    return Row(digest, view, "its bottleneck is not finite in float16", None)


def _analyse(
    tasks: Sequence[Task],
    look: Look,
    spec: InputSpec,
    backbone: Backbone,
    choice: Choice,
    cache: Cache,
    progress: Progress,
) -> int:
    total = sum(len(task.views) for task in tasks)
    engine = choice.engine(backbone, total, progress)

    def shard(extract: Extract, part: Sequence[Task]) -> tuple[int, int]:
        rows = extract_shard(extract, engine.batch, part, look, spec)
        cache.add(rows)
        return sum(len(task.views) for task in part), len(rows)

    done = 0
    with progress.bar(
        "bottlenecks", total, "photos" if total == len(tasks) else "views"
    ) as advance:
        for tried, analysed in parallel.run(plan(tasks), engine.make, shard):
            advance(tried)
            done += analysed
    return done


def _bad(dataset: Dataset, known: dict[Key, str | None]) -> list[BadPhoto]:
    gone = "it changed or vanished during the run, or memory was too little: run again"
    errors = ((photo, known.get((photo.digest, 0), gone)) for photo in dataset.photos)
    return [BadPhoto(photo.path, error) for photo, error in errors if error]
