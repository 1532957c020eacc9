"""Adopt a frozen classifier of another program: write a run of it without training."""

from collections import Counter
from pathlib import Path

from deploy.contract import check_labels
from deploy.errors import BadData, WrongUse
from deploy.untrusted_files import naming
from retrain.backbones.custom.classifier import OUTPUT, read_classic_labels
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import extract
from retrain.data import split
from retrain.data.match_labels import match_labels
from retrain.data.source import read_photos
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.training import AdoptSettings, SplitSettings
from retrain.training.evaluate import evaluate
from retrain.training.export_graph import export_graph
from retrain.training.extract_head import extract_head
from retrain.training.load_examples import load_undistorted, print_left_out
from retrain.training.result import TrainResult, build_contract, build_result, write_run
from retrain.training.trained_network import LinearNetwork

TRAINING_PHOTOS_UNKNOWN = (
    "which photos this graph was trained on is not known: those among the test photos make its "
    "accuracy too good; for an honest figure use photos that it never saw"
)


def adopt(settings: AdoptSettings, progress: Progress | None = None) -> TrainResult:
    """Write a run of the classifier `settings.source.graph`, with figures on its test photos.

    Raises WrongUse, naming the settings to set, where the graph does not say how it takes photos,
    and BadData where graph, labels and photos do not fit each other.
    """
    progress = progress or Progress()
    source, run = settings.source, RunFolder(settings.output_dir)
    path = source.graph
    if path is None:
        raise WrongUse("`graph`: name the frozen graph to adopt")
    run.require_free("graph", path)
    run.require_free("labels", settings.labels)
    labels = read_classic_labels(settings.labels)
    with naming(settings.labels):
        check_labels(labels)
    _require_distinct(labels, settings.labels)
    with run.writing():
        with progress.stage("backbone"):
            classifier = extract_head(path, settings.typed, settings.labels, len(labels))
        ends, spec = classifier.ends, classifier.ends.spec
        progress.info(
            f"{path}: photos of {spec.height}x{spec.width} pixels into {ends.input_tensor}, mean "
            f"{spec.mean:g}, std {spec.std:g}; scores from {ends.scores}; final layer after "
            f"{classifier.bottleneck}"
        )
        with progress.stage("scan"):
            dataset = read_photos(source.image_dir, source.labels_from, source.scans)
            dataset, unmatched = match_labels(dataset, labels, str(settings.labels))
        progress.info(
            f"{source.image_dir}: {len(dataset.photos)} photos of {len(dataset.labels)} of the "
            f"{len(labels)} labels"
        )
        with progress.stage("backbone"):
            sides = (spec.height, spec.width)
            trunk = Ends(ends.input_tensor, classifier.bottleneck, sides, spec.mean, spec.std)
            backbone = load_custom(path, trunk, source.cache_dir)
        with progress.stage("bottlenecks"):
            bottlenecks = extract(
                dataset.photos,
                backbone,
                EngineChoice.of(source),
                source.bottlenecks,
                progress,
            )
            usable = dataset.without(bottlenecks.bad)
        by_folders = split.own_split(dataset.photos)
        if by_folders:
            place = "folders" if dataset.has_folders else "list"
            progress.info(f"the split is the one of the {place}")
        shares = SplitSettings() if by_folders else settings.split
        data = load_undistorted(backbone, usable, bottlenecks, labels, shares)
        print_left_out(data.dataset, progress)
        warnings = [
            *classifier.warnings,
            *unmatched,
            *split.warnings(data.dataset.photos, data.splits),
            TRAINING_PHOTOS_UNKNOWN,
        ]
        for warning in warnings:
            progress.warn(warning)
        with progress.stage("assess"):
            network = LinearNetwork(classifier.head, data.examples)
            training = network.accuracy_on(split.TRAINING)
            logits = {name: network.logits_of(name) for name in (split.VALIDATION, split.TESTING)}
            test = evaluate(
                logits[split.TESTING],
                data.examples[split.TESTING].labels,
                data.test_photos,
                labels,
            )
        with progress.stage("export"):
            graph = export_graph(backbone, network, OUTPUT)
        progress.show_seconds()
        contract = build_contract(data, graph)
        result = build_result(
            settings, data, training, logits, test, contract, warnings, None, progress.seconds, {}
        )
        write_run(result, data, graph)
    return result


def _require_distinct(labels: tuple[str, ...], source: Path) -> None:
    for label, count in Counter(labels).items():
        if count > 1:
            lines = [str(i + 1) for i, line in enumerate(labels) if line == label]
            listed = ", ".join(lines[:5]) + (f" and {count - 5} more" if count > 5 else "")
            raise BadData(f"{source}: {label} is the label of lines {listed}: make them differ")
