"""Extract the bottlenecks of a shard: decode its photos, run the backbone, write the rows."""

import hashlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from typing import NamedTuple

import numpy as np
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import decoder, open_image, to_pixels
from retrain.bottlenecks.cache import Cache
from retrain.bottlenecks.cached_rows import Row
from retrain.bottlenecks.engine import Engine, Pixels, RunBackbone, Tensor
from retrain.bottlenecks.plan_shards import Task
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data.distort import distort
from retrain.data.remote_path import read_photo
from retrain.settings.training import Distortion

_OUT_OF_MEMORY = "memory was too little: run again"
_OTHER_BYTES = (
    "its bytes are not those of its digest: run again if it changed; correct the digest, or leave "
    "it out, if a list has it"
)


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
