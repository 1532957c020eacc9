"""The trainer: from a folder of photos to a frozen graph and what it is worth."""

import json
import platform
from collections import Counter
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from deploy import files
from deploy.contract import Contract, write_labels
from retrain import __version__, backbones, dataset, graph, split
from retrain.bottlenecks import Bottlenecks, obtain
from retrain.dataset import Dataset
from retrain.events import events
from retrain.export import frozen_graph
from retrain.head import Evaluation, Examples, Head, HeadConfig, fit
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.scores import Accuracy
from retrain.split import SplitConfig

SCHEMA_VERSION = 1
_VERSIONS_OF = ("tensorflow", "ai-edge-litert", "numpy", "pillow", "pyarrow")
_LINES = 10
"""About how many evaluations are printed in a run."""


def default_cache_dir() -> Path:
    """Return the user's cache folder: runs share what they have in common."""
    return Path(platformdirs.user_cache_dir("retrain"))


@dataclass(frozen=True)
class Source:
    """The photos and where their bottlenecks are kept; `bottleneck_dir` is in the cache if None."""

    image_dir: Path
    architecture: str = backbones.DEFAULT
    cache_dir: Path = field(default_factory=default_cache_dir)
    bottleneck_dir: Path | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what `train` makes, and where it goes."""

    source: Source
    output_dir: Path = Path("retrained")
    split: SplitConfig = field(default_factory=SplitConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    final_tensor_name: str = "final_result"


def analyse(source: Source, progress: Progress) -> tuple[backbones.Backbone, Bottlenecks]:
    """Read the photos of `source`, fill the cache with what it lacks, and return both."""
    with progress.stage("scan"):
        found = dataset.scan(source.image_dir)
    progress.info(f"{source.image_dir}: {len(found.photos)} photos in {len(found.labels)} classes")
    with progress.stage("backbone"):
        backbone = backbones.load(source.architecture, source.cache_dir)
    with progress.stage("bottlenecks"):
        folder = source.bottleneck_dir or source.cache_dir / "bottlenecks"
        result = obtain(found, backbone, folder, progress)
    cached = len(found.photos) - result.analysed
    progress.info(f"{result.analysed} photos analysed now, {cached} taken from the cache")
    _tell(result.dataset, progress)
    return backbone, result


def _tell(photos: Dataset, progress: Progress) -> None:
    for warning in photos.warnings():
        progress.warn(warning)
    if photos.bad:
        progress.warn(f"{len(photos.bad)} files are left out:")
        for bad in photos.bad:
            progress.info(f"  {bad.path}: {bad.reason}")


def train(config: TrainConfig, progress: Progress) -> dict[str, Any]:
    """Train, write the files of `config.output_dir`, and return what metrics.json holds."""
    run = RunFolder(config.output_dir)
    with run.writing():
        backbone, result = analyse(config.source, progress)
        photos, labels = result.dataset.photos, result.dataset.labels
        splits = split.assign(photos, config.split)
        examples = _by_split(result, splits)
        with progress.stage("tensorflow"):
            graph.tensorflow()
        with progress.stage("train"), events(run.summaries) as board:

            def report(evaluation: Evaluation) -> None:
                board.write(evaluation)
                _print_step(evaluation, config.head, progress)

            training, validation = examples[split.TRAINING], examples[split.VALIDATION]
            head = fit(training, validation, len(labels), config.head, report)
        with progress.stage("export"):
            frozen = frozen_graph(backbone, head, config.final_tensor_name)
        contract = Contract(
            input=backbone.spec,
            labels=labels,
            backbone=backbone.name,
            weights_sha256=backbone.weights_sha256,
            dataset_sha256=result.dataset.sha256,
            graph_sha256=sha256(frozen).hexdigest(),
            tool_version=__version__,
        )
        metrics = {
            "schema": SCHEMA_VERSION,
            "graph_sha256": contract.graph_sha256,
            **_metrics(config, result, splits, _accuracies(head, examples)),
            "seconds": progress.seconds,
        }
        dataset.write_manifest(run.manifest, photos, splits)
        files.write(run.graph, frozen)
        files.write(run.graph_labels, write_labels(labels))
        files.write(run.contract, contract.to_json())
        files.write_json(run.metrics, metrics)
    return metrics


def _by_split(result: Bottlenecks, splits: list[str]) -> dict[str, Examples]:
    index = {label: i for i, label in enumerate(result.dataset.labels)}
    labels = np.array([index[photo.label] for photo in result.dataset.photos])
    where = np.array(splits)
    return {
        name: Examples(result.values[where == name], labels[where == name]) for name in split.SPLITS
    }


def _accuracies(head: Head, examples: dict[str, Examples]) -> dict[str, Accuracy]:
    return {
        name: Accuracy.of(head.logits(part.bottlenecks), part.labels)
        for name, part in examples.items()
    }


def _print_step(evaluation: Evaluation, config: HeadConfig, progress: Progress) -> None:
    every = max(1, config.how_many_training_steps // _LINES)
    if evaluation.step % every < config.eval_step_interval:
        progress.info(
            f"step {evaluation.step}: train accuracy {evaluation.train_accuracy:.1%}, "
            f"validation accuracy {evaluation.validation_accuracy:.1%}, "
            f"cross entropy {evaluation.train_cross_entropy:.4f}"
        )


def _metrics(
    config: TrainConfig,
    result: Bottlenecks,
    splits: list[str],
    accuracies: dict[str, Accuracy],
) -> dict[str, Any]:
    photos = result.dataset
    return {
        "accuracy": {name: accuracy.to_json() for name, accuracy in accuracies.items()},
        "labels": photos.labels,
        "photos": Counter(photo.label for photo in photos.photos),
        "split": Counter(splits),
        "bad": [{"path": str(bad.path), "reason": bad.reason} for bad in photos.bad],
        "warnings": photos.warnings(),
        "analysed": result.analysed,
        "settings": json.loads(json.dumps(asdict(config), default=str)),
        "versions": {
            "retrain": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _VERSIONS_OF},
        },
    }
