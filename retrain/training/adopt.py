"""Adopt a frozen classifier as it is: no training, a run whose photos score it."""

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy import files
from deploy.contract import Contract, write_labels
from deploy.errors import BadData, WrongUse
from retrain import __version__
from retrain.backbones.custom.classifier import (
    OUTPUT,
    read_classic_labels,
)
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import extract
from retrain.data import photo_folder, split
from retrain.data.manifest import write_manifest
from retrain.data.photo_folder import Dataset
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.label_image import LabelImageSettings
from retrain.settings.training import Source, SplitSettings
from retrain.training import export_graph
from retrain.training.evaluate import assess
from retrain.training.load_examples import tell_left_out, undistorted
from retrain.training.split_classifier import take_apart
from retrain.training.train import SCHEMA_VERSION, about

UNKNOWN_TRAINING = (
    "which photos this graph was trained on is not known: those among the test photos make its "
    "accuracy too good; for an honest figure use photos that it never saw"
)


@dataclass(frozen=True)
class AdoptConfig:
    """What to adopt: the graph `source.graph` with its `labels`, scored on `source.image_dir`.

    By default 60% of the photos test, as nothing is trained and few are needed to calibrate.
    A split that the user made is used as it is.
    """

    source: Source
    labels: Path
    typed: LabelImageSettings = field(default_factory=LabelImageSettings)
    output_dir: Path = Path("retrained")
    split: SplitSettings = field(default_factory=lambda: SplitSettings(60, 10))

    def __post_init__(self) -> None:
        self.source.require_outside("--output-dir", self.output_dir)
        run = RunFolder(self.output_dir)
        for file, written in ((self.source.graph, run.graph), (self.labels, run.graph_labels)):
            if file and file.resolve() == written.resolve():
                raise WrongUse(
                    f"{file} would be overwritten by the run's own {written.name}: name another "
                    "--output-dir"
                )


def adopt(config: AdoptConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Write the files of a run of the graph as it is; return what metrics.json holds.

    Raises WrongUse that says what to type where the graph does not say how it takes photos, and
    BadData where graph, labels and photos do not fit.
    """
    progress = progress or Progress()
    source, run = config.source, RunFolder(config.output_dir)
    path = source.graph
    if path is None:
        raise WrongUse("name the frozen graph to adopt")
    labels = read_classic_labels(config.labels)
    _require_apart(labels, config.labels)
    with run.writing():
        with progress.stage("backbone"):
            parts = take_apart(path, config.typed, config.labels, len(labels))
        spec = parts.ends.spec
        progress.info(
            f"{path}: photos of {spec.height}x{spec.width} pixels into {parts.ends.input_tensor}, "
            f"mean {spec.mean:g}, std {spec.std:g}; scores from {parts.ends.scores}; final layer "
            f"after {parts.bottleneck}"
        )
        with progress.stage("scan"):
            photos = photo_folder.scan(source.image_dir, source.labels_from)
            photos, unmatched = match(photos, labels, config.labels)
        progress.info(
            f"{source.image_dir}: {len(photos.photos)} photos of {len(photos.labels)} of the "
            f"{len(labels)} labels"
        )
        with progress.stage("backbone"):
            sides = (spec.height, spec.width)
            ends = Ends(parts.ends.input_tensor, parts.bottleneck, sides, spec.mean, spec.std)
            backbone = load_custom(path, ends, source.cache_dir)
        with progress.stage("bottlenecks"):
            bottlenecks = extract(
                photos.photos,
                backbone,
                EngineChoice(source.extract_engine, source.engines),
                source.bottlenecks,
                progress,
            )
            usable = photos.without(bottlenecks.bad)
        own = split.own_split(photos.photos)
        if own:
            progress.info("the split is the one of the folders")
        shares = SplitSettings() if own else config.split
        splits = split.assign(usable.photos, shares)
        tell_left_out(usable, progress)
        warnings = [*parts.warnings, *unmatched]
        warnings += [*split.warnings(usable.photos, splits), UNKNOWN_TRAINING]
        for warning in warnings:
            progress.warn(warning)
        with progress.stage("assess"):
            examples = undistorted(bottlenecks, labels, splits)
            testing = [
                photo.path
                for photo, name in zip(usable.photos, splits, strict=True)
                if name == split.TESTING
            ]
            results = assess(parts.head, examples[split.TESTING], testing, labels)
        with progress.stage("export"):
            frozen = export_graph.frozen_graph(backbone, parts.head, OUTPUT)
        contract = Contract(
            input=spec,
            labels=labels,
            backbone=backbone.name,
            weights_sha256=backbone.weights_sha256,
            dataset_sha256=usable.sha256,
            graph_sha256=hashlib.sha256(frozen).hexdigest(),
            tool_version=__version__,
            output=OUTPUT,
        )
        progress.show_seconds()
        metrics = {
            "schema": SCHEMA_VERSION,
            "command": "adopt",
            "graph_sha256": contract.graph_sha256,
            "accuracy": {
                name: Accuracy.of(
                    parts.head.logits_of(photos_of_split), photos_of_split.labels
                ).to_json()
                for name, photos_of_split in examples.items()
            },
            "test": results.to_json(),
            "temperature": contract.temperature,
            **about(config, usable, splits, bottlenecks.analysed),
            "labels": labels,
            "warnings": [*usable.warnings(), *warnings],
            "seconds": progress.seconds,
        }
        # The contract is written late: until then its digest does not match, so no command reads
        # a half-written run.
        files.write(run.graph, frozen)
        files.write(run.graph_labels, write_labels(labels))
        write_manifest(run.manifest, usable.photos, splits)
        files.write(run.contract, contract.to_json())
        files.write_json(run.metrics, metrics)
    return metrics


def match(photos: Dataset, labels: tuple[str, ...], source: Path) -> tuple[Dataset, list[str]]:
    """Return the photos under the labels of `source`, in their order, and what is left out.

    A folder has the label of its name, else the one that the classic script made of its name: in
    lower case, all but a..z and 0..9 as spaces. Raises BadData if no folder has one.
    """
    same = defaultdict(list)
    for label in labels:
        same[_classic_name(label)].append(label)
    names: dict[str, str] = {}
    for folder in photos.labels:
        candidates = [folder] if folder in labels else same[_classic_name(folder)]
        if len(candidates) == 1:
            names[folder] = candidates[0]
    if not names:
        raise BadData(
            f"{photos.root}: no folder has a label of {source}: folders "
            f"{', '.join(photos.labels[:8])}; labels {', '.join(labels[:8])}. Remedy: name each "
            "folder as its label, or choose the level of these folders with --labels-from"
        )
    counts = Counter(photo.label for photo in photos.photos)
    warnings = [
        f"{photos.root / folder}: no label of {source} is like it: {counts[folder]} photos are "
        "left out; rename the folder if it is one"
        for folder in photos.labels
        if folder not in names
    ]
    warnings += [
        f"no folder of photos for the label {label}: nothing is measured of it"
        for label in labels
        if label not in names.values()
    ]
    renamed = tuple(
        replace(photo, label=names[photo.label]) for photo in photos.photos if photo.label in names
    )
    classes = tuple(
        folder._replace(label=names[folder.label])
        for folder in photos.classes
        if folder.label in names
    )
    return replace(photos, classes=classes, photos=renamed).without(()), warnings


def _classic_name(folder: str) -> str:
    return re.sub("[^a-z0-9]+", " ", folder.lower()).strip()


def _require_apart(labels: tuple[str, ...], source: Path) -> None:
    for label, count in Counter(labels).items():
        if count > 1:
            lines = [str(i + 1) for i, other in enumerate(labels) if other == label]
            shown = ", ".join(lines[:5]) + (f" and {count - 5} more" if count > 5 else "")
            raise BadData(f"{source}: {label} is the label of lines {shown}: make them differ")
