"""What a conversion starts from: settings, the run's graph, and photos of each split."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deploy.contract import Contract, InputSpec
from deploy.errors import BadData
from retrain import tf_graph as graph
from retrain.conversion import familiarity
from retrain.conversion.graph_classifier import GraphClassifier
from retrain.conversion.parity import Scores, graph_scores, require_accuracy
from retrain.conversion.quantize import Pixels, spanned
from retrain.conversion.targets import TARGETS, Target
from retrain.data import split
from retrain.data.manifest import read_manifest
from retrain.data.photo_folder import Photo
from retrain.data.photo_pixels import pixels
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.conversion import ConvertSettings

_EACH = 20
"""Of so many training photos the mean of a class is taken."""


@dataclass(frozen=True)
class Material:
    """What a conversion starts from, and what its models are held against.

    `calibration` is uint8 (N, height, width, 3), `testing` are the test photos, `likely` those to
    make goldens of, `known` validation photos to calibrate the reject rate on. `trained` is the
    test accuracy that training told of this graph, None if it is not known.
    """

    config: ConvertSettings
    graph: bytes
    contract: Contract
    calibration: Pixels
    testing: Sequence[Photo]
    likely: Sequence[Photo]
    known: Sequence[Photo]
    trained: Accuracy | None
    targets: tuple[Target, ...]
    progress: Progress

    # Both when they are asked for, after the first conversion: until then TensorFlow is in the
    # converter's process only, and the two do not add up.
    @cached_property
    def reference(self) -> GraphClassifier:
        """The graph, to be held against."""
        return GraphClassifier(graph.parse(self.graph), self.contract)

    @cached_property
    def expected(self) -> Scores:
        """What it gives the photos `testing`, float32 (N, classes)."""
        scores = graph_scores(self.reference, self.testing, self.progress)
        if self.trained:
            require_accuracy(scores, self.testing, self.contract.labels, self.trained)
        return scores


def prepare(run: RunFolder, config: ConvertSettings, progress: Progress) -> Material:
    """Read the photos of the run's manifest: some to calibrate on, all of the test split."""
    contract, retrained = run.read_graph()
    frozen = retrained.graph_def
    trained = run.test_accuracy(contract)
    manifest = read_manifest(run.manifest)
    training, known, testing = (
        [photo for photo, name in manifest if name == wanted]
        for wanted in (split.TRAINING, split.VALIDATION, split.TESTING)
    )
    with progress.stage("calibration"):
        chosen = _balanced(training, config.calibration_images, config.seed)
        calibration = _calibration(chosen, contract.input)
    if config.reject_rate:
        near = _balanced(training, _EACH * len(contract.labels), config.seed)
        with progress.stage("familiarity"):
            frozen = familiarity.add(frozen, contract, near, known, progress)
    return Material(
        config,
        frozen,
        contract,
        calibration,
        testing,
        _balanced(testing, len(testing), config.seed),
        known,
        # Familiarity changes the graph: where it is 0, so are all scores.
        None if config.reject_rate else trained,
        tuple(TARGETS[name] for name in config.targets),
        progress,
    )


def _balanced(photos: Sequence[Photo], count: int, seed: int) -> list[Photo]:
    """Return `count` photos, as many of each class as there are; the same seed, the same ones."""
    random = np.random.default_rng(seed)
    by_label: dict[str, list[Photo]] = {}
    for i in random.permutation(len(photos)):
        by_label.setdefault(photos[i].label, []).append(photos[i])
    columns = [by_label[label] for label in sorted(by_label)]
    longest = max((len(column) for column in columns), default=0)
    turns = (column[turn] for turn in range(longest) for column in columns if turn < len(column))
    return [photo for photo, _ in zip(turns, range(count), strict=False)]


def _calibration(photos: Sequence[Photo], spec: InputSpec) -> Pixels:
    if not photos:
        raise BadData("no training photos to calibrate on")
    return spanned(np.concatenate([pixels(photo, spec) for photo in photos]))
