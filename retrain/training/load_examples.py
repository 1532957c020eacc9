"""From a folder to examples: photos analysed once, split, with distorted views if asked for."""

from collections import Counter

import numpy as np

from deploy.errors import BadData
from retrain import backbones
from retrain.backbones import Backbone
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import Bottlenecks, DistortedViews, extract
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data import photo_folder, split
from retrain.data.photo_folder import Dataset, Photo
from retrain.progress import Progress
from retrain.settings.training import Source, SplitSettings, TrainSettings
from retrain.training.head import Examples

_LINES_PER_REASON = 20


def analyse(
    source: Source, progress: Progress, config: SplitSettings | None = None
) -> tuple[Backbone, Dataset, Bottlenecks]:
    """Return the backbone of `source`, its usable photos, and their bottlenecks.

    Raises WrongUse before the long work if the user made a split, and `config` asks for another.
    """
    with progress.stage("scan"):
        found = photo_folder.scan(source.image_dir, source.labels_from)
    progress.info(f"{source.image_dir}: {len(found.photos)} photos in {len(found.labels)} classes")
    if config:
        split.require_one_split(found.photos, config)
    if split.own_split(found.photos):
        counts = Counter(photo.split for photo in found.photos)
        progress.info(
            "the split is the one of the folders: "
            + ", ".join(f"{counts[name]} {name}" for name in split.SPLITS)
            + " photos"
        )
    with progress.stage("backbone"):
        backbone = _backbone(source)
    with progress.stage("bottlenecks"):
        result = extract(
            found.photos,
            backbone,
            EngineChoice(source.extract_engine, source.engines),
            source.bottlenecks,
            progress,
            thumbnails=ThumbnailCache(source.pictures),
        )
        usable = found.without(result.bad)
    cached = len(found.photos) - result.analysed
    progress.info(f"{result.analysed} photos analysed now, {cached} taken from the cache")
    tell_left_out(usable, progress)
    return backbone, usable, result


def _backbone(source: Source) -> Backbone:
    if source.graph is None:
        return backbones.load(source.architecture, source.cache_dir, source.weights)
    ends = Ends(
        source.input_tensor,
        source.bottleneck_tensor,
        source.input_size,
        source.input_mean,
        source.input_std,
    )
    return load_custom(source.graph, ends, source.cache_dir)


def tell_left_out(photos: Dataset, progress: Progress) -> None:
    """Print what is to know of the photos: warnings, and each file that is left out."""
    for warning in photos.warnings():
        progress.warn(warning)
    if photos.bad:
        progress.warn(f"{len(photos.bad)} files are left out:")
        counts = Counter(bad.reason for bad in photos.bad)
        lines: Counter[str] = Counter()
        for bad in photos.bad:
            lines[bad.reason] += 1
            if lines[bad.reason] <= _LINES_PER_REASON:
                progress.info(f"  {photo_folder.shown(bad.path)}: {bad.reason}")
        for reason, count in counts.items():
            if count > _LINES_PER_REASON:
                progress.info(f"  and {count - _LINES_PER_REASON} more: {reason}")


def undistorted(
    found: Bottlenecks, labels: tuple[str, ...], splits: list[str]
) -> dict[str, Examples]:
    """Return the examples of each split as they are; a label's index is its place in `labels`."""
    index = {label: i for i, label in enumerate(labels)}
    indices = np.array([index[photo.label] for photo in found.photos])
    where = np.array(splits)
    return {
        name: Examples(found.store, found.rows[where == name], indices[where == name])
        for name in split.SPLITS
    }


def by_split(
    config: TrainSettings,
    backbone: Backbone,
    labels: tuple[str, ...],
    found: Bottlenecks,
    splits: list[str],
    progress: Progress,
) -> tuple[dict[str, Examples], int]:
    """Return the examples of each split, and how many photos and views had to be analysed."""
    examples = undistorted(found, labels, splits)
    if not config.distortion.active:
        return examples, found.analysed
    training = [
        photo for photo, name in zip(found.photos, splits, strict=True) if name == split.TRAINING
    ]
    with progress.stage("views"):
        views = extract(
            training,
            backbone,
            EngineChoice(config.source.extract_engine, config.source.engines),
            config.source.bottlenecks,
            progress,
            distorted=DistortedViews(config.views, config.distortion),
            store=found.store,
        )
    if views.bad:
        raise BadData(f"{views.bad[0].path}: {views.bad[0].reason}")
    progress.info(
        f"{config.views} distorted views of each of {len(training)} training photos: "
        f"{views.analysed} analysed now, {views.rows.size - views.analysed} taken from the cache"
    )
    plain = examples[split.TRAINING]
    examples[split.TRAINING] = plain._replace(rows=np.hstack([plain.rows, views.rows]))
    return examples, found.analysed + views.analysed


def sample(
    photos: list[Photo], examples: Examples, config: TrainSettings
) -> tuple[list[Photo], Examples]:
    """Return `test_batch_size` of the test photos, the same ones for the same seed."""
    count = len(photos)
    if not 0 < config.test_batch_size < count:
        return photos, examples
    random = np.random.default_rng(config.head.seed)
    chosen = np.sort(random.permutation(count)[: config.test_batch_size])
    rows, labels = examples.rows[chosen], examples.labels[chosen]
    return [photos[i] for i in chosen], examples._replace(rows=rows, labels=labels)
