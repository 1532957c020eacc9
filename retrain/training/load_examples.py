"""Load training data: extract bottlenecks, assign splits, add distorted views."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from deploy.errors import BadData
from deploy.system.counts import with_noun
from retrain import backbones, tf_graph
from retrain.backbones import Backbone
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.cut_points import CutPoint, choose_cut_point, find_cut_points
from retrain.backbones.int8_trunk import calibration_photos, quantize_backbone, read_trunk
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import Bottlenecks, DistortedViews, extract
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data import split
from retrain.data.dataset import Dataset
from retrain.data.photo import shown
from retrain.data.photo_table import PhotoTable
from retrain.data.source import read_photos
from retrain.data.split import Splits
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings, TrainSettings
from retrain.training.export_graph import require_free_name
from retrain.training.head import Examples

_MAX_LINES_PER_REASON, _MAX_REASONS = 20, 20


@dataclass(frozen=True)
class TrainingData:
    """The photos of a run with their splits and bottlenecks.

    `labels` are the classes, in the order of the head's outputs. `splits` holds the split of each
    of `dataset.photos`, `examples` the bottlenecks of each split. `test_photos` are the photos of
    the testing examples, in their order. `analysed` counts the photos and views whose bottlenecks
    were not in the cache. Above `cut` the network is fine-tuned; None without fine-tuning.
    """

    backbone: Backbone
    dataset: Dataset
    labels: tuple[str, ...]
    splits: Splits
    examples: dict[str, Examples]
    test_photos: PhotoTable
    analysed: int
    cut: CutPoint | None = None


def read_source(
    source: Source, progress: Progress, settings: SplitSettings | None = None
) -> tuple[Dataset, Backbone]:
    """Return the photos and the backbone.

    Raises WrongUse if the folders make a split and `settings` asks for another.
    """
    with progress.stage("scan"):
        dataset = read_photos(source.image_dir, source.labels_from, source.scans)
    photos = dataset.photos
    progress.info(f"{source.image_dir}: {len(photos)} photos in {len(dataset.labels)} classes")
    if settings:
        split.require_one_split(photos, settings)
    if split.own_split(photos):
        counts = photos.split_counts()
        progress.info(
            f"the split is the one of the {'folders' if dataset.has_folders else 'list'}: "
            + ", ".join(f"{counts[name]} {name}" for name in split.SPLITS)
            + " photos"
        )
    with progress.stage("backbone"):
        backbone = _load_backbone(source)
    return dataset, backbone


def with_precision(
    source: Source,
    dataset: Dataset,
    backbone: Backbone,
    settings: SplitSettings,
    progress: Progress,
) -> Backbone:
    """Return `backbone` in the precision of `source`: int8 is calibrated on training photos.

    These are chosen before it is known which photos can be used, by the split of all. Raises
    BadData and OSError as `read_trunk` and `quantize_backbone` do.
    """
    if source.precision == "float32":
        return backbone
    with progress.stage("quantize"):
        if source.trunk:
            trunk = read_trunk(source.trunk, backbone)
            origin = str(source.trunk)
        else:
            photos = calibration_photos(dataset.photos, split.assign(dataset.photos, settings))
            trunk = quantize_backbone(backbone, photos, source.cache_dir)
            origin = f"calibrated on {with_noun(len(photos), 'training photo')}"
    progress.info(f"int8 trunk {trunk.flatbuffer_sha256[:12]}: {origin}")
    return trunk


def analyse(
    source: Source, dataset: Dataset, backbone: Backbone, progress: Progress
) -> tuple[Dataset, Bottlenecks]:
    """Return the usable photos and their bottlenecks; the cache gets those that it lacks."""
    photos = dataset.photos
    with progress.stage("bottlenecks"):
        bottlenecks = extract(
            photos,
            backbone,
            EngineChoice.of(source),
            source.bottlenecks,
            progress,
            thumbnails=ThumbnailCache(source.pictures),
        )
        usable = dataset.without(bottlenecks.bad)
    analysed, cached = bottlenecks.analysed, bottlenecks.cached
    lost = len(photos) - analysed - cached
    progress.info(
        f"{with_noun(analysed, 'photo')} analysed now, {cached:,} taken from the cache"
        + (f", {lost:,} could not be analysed" if lost else "")
    )
    return usable, bottlenecks


def _load_backbone(source: Source) -> Backbone:
    if source.graph is None:
        return backbones.load(source.architecture, source.cache_dir, source.weights)
    from retrain.backbones.custom.load import load_custom  # most trainings do without it

    ends = Ends(
        source.input_tensor,
        source.bottleneck_tensor,
        source.input_size,
        source.input_mean,
        source.input_std,
    )
    return load_custom(source.graph, ends, source.cache_dir)


def print_left_out(dataset: Dataset, progress: Progress) -> None:
    """Print the warnings of a data set, and the files that it leaves out, with the reasons."""
    for warning in dataset.warnings():
        progress.warn(warning)
    if dataset.bad:
        progress.warn(f"{with_noun(len(dataset.bad), 'file', 'is/are')} left out:")
        counts = Counter(photo.reason for photo in dataset.bad)
        printed = dict(counts.most_common(_MAX_REASONS))
        lines: Counter[str] = Counter()
        for photo in dataset.bad:
            lines[photo.reason] += 1
            if photo.reason in printed and lines[photo.reason] <= _MAX_LINES_PER_REASON:
                progress.info(f"  {shown(photo.path)}: {photo.reason}")
        for reason, count in printed.items():
            if count > _MAX_LINES_PER_REASON:
                progress.info(f"  and {count - _MAX_LINES_PER_REASON} more: {reason}")
        if len(counts) > len(printed):
            reasons = len(counts) - len(printed)
            unprinted = counts.total() - sum(printed.values())
            progress.info(f"  and {unprinted} more, for {with_noun(reasons, 'other reason')}")


def load_undistorted(
    backbone: Backbone,
    dataset: Dataset,
    bottlenecks: Bottlenecks,
    labels: tuple[str, ...],
    settings: SplitSettings,
) -> TrainingData:
    """Return the photos as they are; their split is the folders', else that of `settings`."""
    photos = dataset.photos
    splits = split.assign(photos, settings)
    indices = photos.labels_in(labels)
    examples = {}
    for name in split.SPLITS:
        members = splits.members(name)
        rows = bottlenecks.rows[members]
        examples[name] = Examples(bottlenecks.store, rows, indices[members])
    test_photos = photos.take(splits.members(split.TESTING))
    return TrainingData(
        backbone,
        dataset,
        labels,
        splits,
        examples,
        test_photos,
        bottlenecks.analysed,
    )


def load_examples(settings: TrainSettings, progress: Progress) -> TrainingData:
    """Return the photos that `settings` names, with distorted views if any are set.

    Raises WrongUse, before the long work, for a cut that the network does not have, and for a
    `final_tensor_name` that it has already.
    """
    source = settings.source
    dataset, backbone = read_source(source, progress, settings.split)
    cut = None
    graph_def = tf_graph.read(backbone.graph_path)
    require_free_name(graph_def, settings.final_tensor_name)
    if settings.fine_tuning:
        with progress.stage("backbone"):
            cut = choose_cut_point(find_cut_points(graph_def), settings.fine_tuning.cut)
    backbone = with_precision(source, dataset, backbone, settings.split, progress)
    dataset, bottlenecks = analyse(source, dataset, backbone, progress)
    print_left_out(dataset, progress)
    data = load_undistorted(backbone, dataset, bottlenecks, dataset.labels, settings.split)
    data = replace(data, cut=cut)
    for warning in split.warnings(data.dataset.photos, data.splits):
        progress.warn(warning)
    split.require_training_photos(data.dataset.photos, data.splits)
    if settings.distortion.active:
        views = DistortedViews(settings.views, settings.distortion)
        data = _with_views(data, bottlenecks.store, views, source, progress)
    return _with_fewer_test_photos(data, settings)


def load_feature_maps(
    data: TrainingData,
    trunk: Backbone,
    views: DistortedViews,
    settings: TrainSettings,
    progress: Progress,
) -> dict[str, Examples]:
    """Return the examples of each split as the outputs of `trunk`, of the same photos as `data`.

    Training photos have `views` too. Raises BadData for a photo without a feature map.
    """
    photos = data.dataset.photos
    with progress.stage("feature maps"):
        maps = extract(
            photos,
            trunk,
            EngineChoice.of(settings.source),
            settings.source.bottlenecks,
            progress,
        )
    _require_all(maps, ": name another `cut`, or remove the photo")
    progress.info(
        f"{with_noun(maps.analysed, 'feature map')} analysed now, "
        f"{len(photos) - maps.analysed:,} taken from the cache"
    )
    undistorted = load_undistorted(trunk, data.dataset, maps, data.labels, settings.split)
    complete = _with_views(undistorted, maps.store, views, settings.source, progress)
    return _with_fewer_test_photos(complete, settings).examples


def _require_all(bottlenecks: Bottlenecks, remedy: str = "") -> None:
    if bottlenecks.bad:
        photo = bottlenecks.bad[0]
        raise BadData(f"{photo.path}: {photo.reason}{remedy}")


def _with_views(
    data: TrainingData,
    store: FeatureStore,
    views: DistortedViews,
    source: Source,
    progress: Progress,
) -> TrainingData:
    """Return `data` whose training examples have distorted views too, appended to its `store`."""
    training = data.dataset.photos.take(data.splits.members(split.TRAINING))
    undistorted = data.examples[split.TRAINING]
    with progress.stage("views"):
        bottlenecks = extract(
            training,
            data.backbone,
            EngineChoice.of(source),
            source.bottlenecks,
            progress,
            distorted=views,
            store=store,
        )
    _require_all(bottlenecks)
    rows, analysed = bottlenecks.rows, bottlenecks.analysed
    progress.info(
        f"{with_noun(views.count, 'distorted view')} of each of "
        f"{with_noun(len(training), 'training photo')}: {analysed:,} analysed now, "
        f"{rows.size - analysed:,} taken from the cache"
    )
    with_views = undistorted._replace(rows=np.hstack([undistorted.rows, rows]))
    examples = {**data.examples, split.TRAINING: with_views}
    return replace(data, examples=examples, analysed=data.analysed + analysed)


def _with_fewer_test_photos(data: TrainingData, settings: TrainSettings) -> TrainingData:
    """Return `data` with `test_batch_size` of its test photos, drawn with the seed."""
    count = len(data.test_photos)
    if not 0 < settings.test_batch_size < count:
        return data
    random = np.random.default_rng(settings.head.seed)
    indices = np.sort(random.permutation(count)[: settings.test_batch_size])
    testing = data.examples[split.TESTING]
    testing = testing._replace(rows=testing.rows[indices], labels=testing.labels[indices])
    return replace(
        data,
        examples={**data.examples, split.TESTING: testing},
        test_photos=data.test_photos.take(indices),
    )
