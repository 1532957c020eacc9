"""Define the result of a training, and write it with its graph into the run's folder."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from deploy import files
from deploy.contract import Contract, write_labels
from retrain import __version__, predictions, stored_settings
from retrain.bottlenecks.near_duplicates import Pair
from retrain.data import manifest, split
from retrain.data.failed_files import write_failed_files
from retrain.data.photo import BadPhoto, shown
from retrain.data.photo_table import PhotoTable
from retrain.frozen_graph import FrozenGraph
from retrain.metrics import Accuracy, blocks
from retrain.predictions import PredictionRows, Predictions, sha256_of
from retrain.run_folder import METRICS_VERSION, RunFolder
from retrain.settings.source import Precision
from retrain.settings.training import AdoptSettings, TrainSettings
from retrain.training.curves import CurvePoint, to_json
from retrain.training.evaluate import Evaluation
from retrain.training.head import Floats, softmax
from retrain.training.load_examples import TrainingData
from retrain.training.train_top import FineTuning

MAX_NAMED_FILES = 100
"""Files left out that metrics.json names; failed.csv has all."""
_PACKAGES = ("tensorflow", "ai-edge-litert", "numpy", "pillow", "pyarrow")


@dataclass(frozen=True)
class TrainResult:
    """The result of `train` or `adopt`."""

    run: RunFolder
    """The folder with the files that were written."""
    contract: Contract
    accuracy: Mapping[str, Accuracy]
    """That of each split."""
    test: Evaluation
    """All figures on the test photos."""
    photos: Mapping[str, int]
    """Their number by label."""
    splits: Mapping[str, int]
    """The number of photos by split."""
    split_by: Literal["folders", "content"]
    bad: tuple[BadPhoto, ...]
    """The files that were left out."""
    warnings: tuple[str, ...]
    analysed: int
    """The number of photos that were not in the cache."""
    settings: TrainSettings | AdoptSettings
    versions: Mapping[str, str]
    """Those of Python and of the packages that compute."""
    copies_across_splits: tuple[Pair, ...] | None
    """Photos that look the same as one in another split; None if they were not searched for."""
    seconds: Mapping[str, float]
    """The time of each stage."""
    predictions: Predictions
    """Those of the validation and test photos."""
    curves: Mapping[str, Sequence[CurvePoint]]
    """The scores in training, by stage; empty for `adopt`."""
    fine_tuning: FineTuning | None = None
    """The record of fine-tuning; None without it."""
    extract_precision: Precision = "float32"
    """That of the network that computed the bottlenecks."""
    trunk_sha256: str | None = None
    """The SHA-256 of the int8 trunk that computed the bottlenecks; None in float32."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json; its paths are absolute."""
        values: dict[str, Any] = {"schema": METRICS_VERSION}
        if isinstance(self.settings, AdoptSettings):
            values["command"] = "adopt"
        values |= {
            "graph_sha256": self.contract.graph_sha256,
            "accuracy": {name: accuracy.to_json() for name, accuracy in self.accuracy.items()},
            "test": self.test.to_json(),
            "temperature": self.contract.temperature,
            "labels": self.contract.labels,
            "photos": self.photos,
            "split": self.splits,
            "split_by": self.split_by,
            "bad": [
                {"path": shown(photo.path.absolute()), "reason": photo.reason}
                for photo in self.bad[:MAX_NAMED_FILES]
            ],
            "bad_count": len(self.bad),
            "warnings": self.warnings,
            "analysed": self.analysed,
            "extract_precision": self.extract_precision,
            "settings": stored_settings.to_json(self.settings),
            "versions": self.versions,
        }
        if self.trunk_sha256:
            values["trunk_sha256"] = self.trunk_sha256
        if self.copies_across_splits is not None:
            values["copies_across_splits"] = [pair.to_json() for pair in self.copies_across_splits]
        if self.fine_tuning:
            values["fine_tuning"] = self.fine_tuning.to_json()
        if self.curves:
            values["curves"] = {name: to_json(points) for name, points in self.curves.items()}
        return {**values, "seconds": self.seconds}


def build_contract(data: TrainingData, graph: FrozenGraph, temperature: float = 1.0) -> Contract:
    """Return the contract of the retrained graph."""
    return Contract(
        input=graph.spec,
        labels=data.labels,
        backbone=data.backbone.name,
        weights_sha256=data.backbone.weights_sha256,
        dataset_sha256=data.dataset.sha256,
        graph_sha256=graph.sha256,
        tool_version=__version__,
        output=graph.output,
        temperature=temperature,
    )


def build_result(
    settings: TrainSettings | AdoptSettings,
    data: TrainingData,
    training: Accuracy,
    logits: Mapping[str, Floats],
    test: Evaluation,
    contract: Contract,
    warnings: Sequence[str],
    copies: Sequence[Pair] | None,
    seconds: Mapping[str, float],
    curves: Mapping[str, Sequence[CurvePoint]],
    fine_tuning: FineTuning | None = None,
) -> TrainResult:
    """Return the result of a run.

    `training` is the accuracy on its photos, `logits` are those of validation and testing.
    `warnings` are those beside the data set's own.
    """
    photos = data.dataset.photos
    is_int8 = data.backbone.precision == "int8"
    rows = PredictionRows.of_scores(_predict(data, logits), data.labels)
    return TrainResult(
        run=RunFolder(settings.output_dir),
        contract=contract,
        accuracy={
            split.TRAINING: training,
            **{name: Accuracy.of(logits[name], data.examples[name].labels) for name in logits},
        },
        test=test,
        photos=photos.label_counts(),
        splits=data.splits.counts(),
        split_by="folders" if split.own_split(photos) else "content",
        bad=data.dataset.bad,
        warnings=(*data.dataset.warnings(), *warnings),
        analysed=data.analysed,
        settings=settings,
        versions={
            "retrain": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        copies_across_splits=None if copies is None else tuple(copies),
        seconds=dict(seconds),
        predictions=Predictions(contract.graph_sha256, rows),
        curves=curves,
        fine_tuning=fine_tuning,
        extract_precision=data.backbone.precision,
        trunk_sha256=data.backbone.flatbuffer_sha256 if is_int8 else None,
    )


def write_run(result: TrainResult, data: TrainingData, graph: FrozenGraph) -> None:
    """Write the files of `result`, the graph and the int8 trunk into the run's folder.

    The predictions of another graph, which was there before, are kept. The graph is written first,
    the contract after all that both describe. In between its digest does not match, and no command
    reads a run that is only partly written.
    """
    run = result.run
    files.write(run.graph, graph.graph_def)
    if data.backbone.precision == "int8":
        files.write(run.trunk, data.backbone.flatbuffer)
    else:
        run.trunk.unlink(missing_ok=True)
    files.write(run.graph_labels, write_labels(data.labels))
    manifest.write_manifest(run.manifest, data.dataset.photos, data.splits)
    write_failed_files(run.failed, data.dataset)
    files.write(run.contract, result.contract.to_json())
    files.write_json(run.metrics, result.to_json())
    if sha256_of(run.predictions) not in (None, result.predictions.sha256):
        run.predictions.replace(run.previous_predictions)
    predictions.write(run.predictions, result.predictions)


def _predict(
    data: TrainingData, logits: Mapping[str, Floats]
) -> Iterator[tuple[Floats, PhotoTable, str]]:
    """Yield the scores, the photos and the split of validation, then of testing, in blocks."""
    validation = data.dataset.photos.take(data.splits.members(split.VALIDATION))
    photos = {split.VALIDATION: validation, split.TESTING: data.test_photos}
    for name, members in photos.items():
        for first, block in blocks(logits[name]):
            yield softmax(block), members[first : first + len(block)], name
