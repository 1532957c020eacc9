"""Train the head on a folder of photos, and write the files of the run."""

from collections.abc import Sequence
from contextlib import ExitStack, closing

import numpy as np
from PIL import Image

from deploy import files
from deploy.contract import InputSpec, write_labels
from deploy.errors import BadData
from deploy.system.counts import with_noun
from deploy.system.temporary_files import sweep
from retrain import parallel, tf_graph
from retrain.bottlenecks import near_duplicates
from retrain.bottlenecks.near_duplicates import Pair
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data import split
from retrain.data.photo import Photo
from retrain.data.photo_pixels import decode
from retrain.metrics import fit_temperature
from retrain.progress import Progress
from retrain.run_folder import RunFolder, lock_file
from retrain.settings.doctor import MAX_EXAMINED
from retrain.settings.training import TrainSettings
from retrain.training.curves import CurvePoint
from retrain.training.evaluate import Evaluation, evaluate
from retrain.training.export_graph import export_graph, require_empty, write_saved_model
from retrain.training.load_examples import TrainingData, load_examples
from retrain.training.result import TrainResult, build_contract, build_result, write_run
from retrain.training.tensorboard import MAX_POINTS, THUMBNAIL_SIDE, EventWriter
from retrain.training.train_head import head_checkpoint, train_head
from retrain.training.train_top import fine_tuned_network, fine_tuning_checkpoint
from retrain.training.trained_network import LinearNetwork, TrainedNetwork

_MAX_PRINTED_PAIRS = 5
_THUMBNAIL_INPUT = InputSpec(2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE, None, 0, 1)
"""Photos are decoded for this size, a large JPEG at a smaller scale."""


def train(settings: TrainSettings, progress: Progress | None = None) -> TrainResult:
    """Train, and write the files of `settings.output_dir`.

    Raises WrongUse for settings that contradict the photos or the network, BadData for photos,
    weights or a checkpoint that cannot be used, and OSError for files that cannot be written.
    """
    progress = progress or Progress()
    if settings.fine_tuning:
        tf_graph.use_onednn()
    run = RunFolder(settings.output_dir)
    run.require_free("graph", settings.source.graph)
    run.require_free("trunk", settings.source.trunk, run.trunk)
    run.require_free("output_graph", settings.output_graph, run.graph)
    run.require_free("output_labels", settings.output_labels, run.graph_labels)
    run.require_free("checkpoint_path", settings.checkpoint_path, run.checkpoint)
    if settings.saved_model_dir:
        require_empty(settings.saved_model_dir)
    with ExitStack() as locks:
        locks.enter_context(run.writing())
        if settings.checkpoint_path:
            locks.enter_context(lock_file(settings.checkpoint_path, "checkpoint_path"))
        for path in filter(None, (settings.output_graph, settings.output_labels)):
            path.parent.mkdir(parents=True, exist_ok=True)  # an impossible path fails now
            sweep(path.parent)
        data = load_examples(settings, progress)
        if not settings.resume:  # later, `resume` must find the checkpoints of this run only
            checkpoints = [head_checkpoint(settings)]
            # Beside a path of the user's choice, that file is ours only if it is written now.
            if settings.fine_tuning or not settings.checkpoint_path:
                checkpoints.append(fine_tuning_checkpoint(settings))
            for path in checkpoints:
                if path.is_file():  # and not a device, such as /dev/null
                    path.unlink()
        with ExitStack() as stack:
            writer = EventWriter(settings.summaries_dir or run.summaries)
            events = stack.enter_context(closing(writer))
            with progress.stage("train"):
                head = train_head(settings, data, events, progress)
            linear = LinearNetwork(head, data.examples)
            network: TrainedNetwork = linear
            fine_tuning = None
            if settings.fine_tuning and data.cut:
                fine_tuned = fine_tuned_network(
                    settings, settings.fine_tuning, data.cut, data, linear, events, progress
                )
                network, fine_tuning = stack.enter_context(fine_tuned)
            with progress.stage("assess"):
                labels = {name: examples.labels for name, examples in data.examples.items()}
                temperature = fit_temperature(
                    network.logits_of(split.VALIDATION), labels[split.VALIDATION]
                )
                network = network.with_temperature(temperature)
                training = network.accuracy_on(split.TRAINING)
                assessed = (split.VALIDATION, split.TESTING)
                logits = {name: network.logits_of(name) for name in assessed}
                photos = data.test_photos
                test = evaluate(logits[split.TESTING], labels[split.TESTING], photos, data.labels)
                _write_test_events(events, settings, data, network, test)
                copies = _find_copies(settings, data, progress)
        with progress.stage("export"):
            graph = export_graph(data.backbone, network, settings.final_tensor_name)
            contract = build_contract(data, graph, temperature)
            if settings.saved_model_dir:
                write_saved_model(graph, settings.saved_model_dir)
        if settings.print_misclassified_test_images:
            wrong = test.accuracy.total - test.accuracy.right
            progress.info(f"{with_noun(wrong, 'misclassified test photo')}:")
            for photo in test.misclassified:
                progress.info(f"  {photo}")
            if wrong > len(test.misclassified):
                progress.info(f"  and {wrong - len(test.misclassified)} more")
        progress.show_seconds()
        warnings = split.warnings(data.dataset.photos, data.splits)
        result = build_result(
            settings,
            data,
            training,
            logits,
            test,
            contract,
            warnings,
            copies,
            progress.seconds,
            _named_curves(events),
            fine_tuning,
        )
        write_run(result, data, graph)
        if settings.output_graph:
            files.write(settings.output_graph, graph.graph_def)
        if settings.output_labels:
            files.write(settings.output_labels, write_labels(data.labels))
    return result


def _find_copies(
    settings: TrainSettings, data: TrainingData, progress: Progress
) -> list[Pair] | None:
    """Return photos that look the same as one in another split; print a warning and a few.

    Returns None if the photos are too many to compare them.
    """
    count = len(data.dataset.photos)
    if count > MAX_EXAMINED:
        progress.warn(
            f"{count:,} photos are not searched for copies of other size or quality: at most "
            f"{MAX_EXAMINED:,} are"
        )
        return None
    pictures = ThumbnailCache(settings.source.pictures)
    copies = near_duplicates.find(data.dataset.photos, data.splits, pictures, progress)
    pairs = [pair for pair in copies if pair.is_across_splits]
    if pairs:
        progress.warn(near_duplicates.warning(pairs))
        for pair in pairs[:_MAX_PRINTED_PAIRS]:
            progress.info(f"  {pair}")
        if len(pairs) > _MAX_PRINTED_PAIRS:
            progress.info(f"  and {len(pairs) - _MAX_PRINTED_PAIRS} more, in metrics.json")
    return pairs


def _write_test_events(
    events: EventWriter,
    settings: TrainSettings,
    data: TrainingData,
    network: TrainedNetwork,
    test: Evaluation,
) -> None:
    """Write the projector of the test photos, at most MAX_POINTS, and the confusion matrix."""
    photos = data.test_photos
    points = _evenly_spaced(photos)
    pictures = parallel.run_in_order(
        points, lambda: None, lambda _, i: _decode_thumbnail(photos[i]), lambda _: None
    )
    thumbnails = {i: picture for i, picture in zip(points, pictures, strict=True) if picture}
    if thumbnails:
        bottlenecks = network.bottlenecks_of(split.TESTING, np.array(list(thumbnails)))
        labels = [photos[i].label for i in thumbnails]
        events.write_projector(bottlenecks, labels, list(thumbnails.values()))
    steps = settings.head.how_many_training_steps
    events.write_confusion_matrix(steps, test.confusion, test.labels)


def _named_curves(events: EventWriter) -> dict[str, Sequence[CurvePoint]]:
    """Return the curves of the linear head and of fine-tuning, as far as there are points."""
    return {stage.removesuffix("_") or "linear": points for stage, points in events.curves.items()}


def _decode_thumbnail(photo: Photo) -> Image.Image | None:
    """Return a small picture of the photo; None if it changed or vanished since the scan."""
    try:
        image = decode(photo, _THUMBNAIL_INPUT)
    except BadData:
        return None
    image.thumbnail((_THUMBNAIL_INPUT.width, _THUMBNAIL_INPUT.height))
    return image


def _evenly_spaced(photos: Sequence[object]) -> range:
    """Return at most MAX_POINTS indices of `photos`, at equal distances."""
    return range(0, len(photos), -(-len(photos) // MAX_POINTS))
