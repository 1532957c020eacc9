"""The trainer: from a folder of photos to a frozen graph and what it is worth."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

from deploy import files
from deploy.contract import Contract, InputSpec, write_labels
from deploy.errors import BadData
from deploy.system.temporary_files import sweep
from retrain import __version__
from retrain.bottlenecks import near_duplicates
from retrain.bottlenecks.near_duplicates import Pair
from retrain.bottlenecks.thumbnails import ThumbnailCache
from retrain.data import manifest, photo_folder, split
from retrain.data.photo_folder import Dataset, Photo
from retrain.data.photo_pixels import decode
from retrain.metrics import Accuracy, fit_temperature
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.training import TrainSettings
from retrain.training import export_graph
from retrain.training.evaluate import Results, assess
from retrain.training.head import Examples
from retrain.training.load_examples import analyse, by_split, sample
from retrain.training.loop import learn, run_key
from retrain.training.tensorboard import MAX_POINTS, THUMBNAIL, Events, events

SCHEMA_VERSION = 1
_PAIRS_SHOWN = 5
_VERSIONS_OF = ("tensorflow", "ai-edge-litert", "numpy", "pillow", "pyarrow")


def train(config: TrainSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Train, write the files of `config.output_dir`, and return what metrics.json holds."""
    progress = progress or Progress()
    run = RunFolder(config.output_dir)
    if config.saved_model_dir:
        export_graph.require_free(config.saved_model_dir)
    with run.writing():
        for path in filter(None, (config.output_graph, config.output_labels)):
            path.parent.mkdir(parents=True, exist_ok=True)  # what cannot be is an error now
            sweep(path.parent)
        backbone, dataset, found = analyse(config.source, progress, config.split)
        photos, labels = dataset.photos, dataset.labels
        splits = split.assign(photos, config.split)
        for warning in split.warnings(photos, splits):
            progress.warn(warning)
        examples, analysed = by_split(config, backbone, labels, found, splits, progress)
        testing = [
            photo for photo, name in zip(photos, splits, strict=True) if name == split.TESTING
        ]
        testing, examples[split.TESTING] = sample(testing, examples[split.TESTING], config)
        with events(config.summaries_dir or run.summaries) as board:
            with progress.stage("train"):
                key = run_key(config, backbone, dataset, splits)
                head = learn(config, backbone, examples, len(labels), key, board, progress)
            with progress.stage("assess"):
                validation = examples[split.VALIDATION]
                logits = head.logits_of(validation)
                temperature = fit_temperature(logits, validation.labels)
                head = head.cooled(temperature)
                results = assess(
                    head, examples[split.TESTING], [photo.path for photo in testing], labels
                )
                _show(board, config, backbone.spec, results, testing, examples[split.TESTING])
                copies = _copies(photos, splits, config, progress)
        with progress.stage("export"):
            frozen = export_graph.frozen_graph(backbone, head, config.final_tensor_name)
            contract = Contract(
                input=backbone.spec,
                labels=labels,
                backbone=backbone.name,
                weights_sha256=backbone.weights_sha256,
                dataset_sha256=dataset.sha256,
                graph_sha256=hashlib.sha256(frozen).hexdigest(),
                tool_version=__version__,
                output=config.final_tensor_name,
                temperature=temperature,
            )
            if config.saved_model_dir:
                export_graph.saved_model(frozen, config.final_tensor_name, config.saved_model_dir)
        _tell_results(results, config, progress)
        progress.show_seconds()
        metrics = {
            "schema": SCHEMA_VERSION,
            "graph_sha256": contract.graph_sha256,
            "accuracy": {
                name: Accuracy.of(head.logits_of(part), part.labels).to_json()
                for name, part in examples.items()
            },
            "test": results.to_json(),
            "temperature": temperature,
            **about(config, dataset, splits, analysed),
            "copies_across_splits": [pair.to_json() for pair in copies],
            "seconds": progress.seconds,
        }
        # Until the contract is there, it is another graph's, and so nothing takes the new ones.
        files.write(run.graph, frozen)
        files.write(run.graph_labels, write_labels(labels))
        manifest.write_manifest(run.manifest, photos, splits)
        files.write(run.contract, contract.to_json())
        files.write_json(run.metrics, metrics)
        if config.output_graph:
            files.write(config.output_graph, frozen)
        if config.output_labels:
            files.write(config.output_labels, write_labels(labels))
    return metrics


def _copies(
    photos: Sequence[Photo], splits: list[str], config: TrainSettings, progress: Progress
) -> list[Pair]:
    pairs = near_duplicates.find(photos, splits, ThumbnailCache(config.source.pictures), progress)
    if pairs:
        progress.warn(near_duplicates.warning(pairs))
        for pair in pairs[:_PAIRS_SHOWN]:
            progress.info(f"  {pair}")
        if len(pairs) > _PAIRS_SHOWN:
            progress.info(f"  and {len(pairs) - _PAIRS_SHOWN} more, in metrics.json")
    return pairs


def _show(
    board: Events,
    config: TrainSettings,
    spec: InputSpec,
    results: Results,
    photos: Sequence[Photo],
    testing: Examples,
) -> None:
    thumbnails = {}
    for i in range(0, len(photos), -(-len(photos) // MAX_POINTS)):
        try:
            image = decode(photos[i], spec)
        except BadData:  # it changed or vanished since it was analysed: no point of it is shown
            continue
        image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
        thumbnails[i] = image
    if thumbnails:
        values = testing.matrix.take(testing.rows[list(thumbnails), 0])
        board.projector(values, [photos[i].label for i in thumbnails], list(thumbnails.values()))
    board.confusion(config.head.how_many_training_steps, results.confusion, results.labels)


def _tell_results(results: Results, config: TrainSettings, progress: Progress) -> None:
    if config.print_misclassified_test_images:
        progress.info(f"{len(results.misclassified)} misclassified test photos:")
        for each in results.misclassified:
            progress.info(f"  {each}")


def about(config: Any, photos: Dataset, splits: list[str], analysed: int) -> dict[str, Any]:
    """Return what metrics.json says of photos and settings, the dataclass `config`."""
    return {
        "labels": photos.labels,
        "photos": Counter(photo.label for photo in photos.photos),
        "split": Counter(splits),
        "split_by": "folders" if split.own_split(photos.photos) else "content",
        "bad": [{"path": photo_folder.shown(bad.path), "reason": bad.reason} for bad in photos.bad],
        "warnings": [*photos.warnings(), *split.warnings(photos.photos, splits)],
        "analysed": analysed,
        "settings": json.loads(json.dumps(asdict(config), default=photo_folder.shown)),
        "versions": {
            "retrain": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _VERSIONS_OF},
        },
    }
