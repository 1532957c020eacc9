"""Read what a conversion needs from a run: the graph, and photos of each split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.contract import Contract, InputSpec
from deploy.errors import BadData
from retrain.conversion.unknown import add_familiarity
from retrain.data import split
from retrain.data.manifest import read_manifest
from retrain.data.photo_folder import Photo
from retrain.data.photo_pixels import pixels
from retrain.data.take_in_turn import take_in_turn
from retrain.frozen_graph import FrozenGraph
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.quantization.quantize import Pixels, span_byte_range
from retrain.run_folder import RunFolder
from retrain.settings.conversion import ConvertSettings

_PHOTOS_PER_CLASS_MEAN = 20
"""Training photos per class used for the class mean, which familiarity compares with."""


@dataclass(frozen=True)
class ConversionInputs:
    """The graph to convert, and the photos to calibrate and check its models with.

    `graph` includes familiarity if photos may be unknown; `contract` is the run's, of the graph
    without it. `calibration` is uint8 (N, height, width, 3). The first of `golden_photos` are of
    all classes. `training_accuracy` is the test accuracy of this graph in metrics.json; None if
    the run has none, and if familiarity changes the scores.
    """

    graph: FrozenGraph
    contract: Contract
    calibration: Pixels
    test_photos: Sequence[Photo]
    golden_photos: Sequence[Photo]
    validation_photos: Sequence[Photo]
    training_accuracy: Accuracy | None


def read_inputs(run: RunFolder, settings: ConvertSettings, progress: Progress) -> ConversionInputs:
    """Read the graph of `run` and the photos of its manifest.

    Raises BadData if the run is damaged or incomplete, and if a photo changed since training.
    """
    contract, graph = run.read_graph()
    training_accuracy = run.test_accuracy(contract)
    manifest = read_manifest(run.manifest)
    training, validation, testing = (
        [photo for photo, photo_split in manifest if photo_split == name]
        for name in (split.TRAINING, split.VALIDATION, split.TESTING)
    )
    with progress.stage("calibration"):
        chosen = _balanced(training, settings.calibration_images, settings.seed)
        calibration = _calibration_pixels(chosen, contract.input)
    if settings.reject_rate:
        count = _PHOTOS_PER_CLASS_MEAN * len(contract.labels)
        familiar = _balanced(training, count, settings.seed)
        with progress.stage("familiarity"):
            graph = add_familiarity(graph, familiar, validation, progress)
        training_accuracy = None  # where familiarity is 0, so are all scores
    return ConversionInputs(
        graph,
        contract,
        calibration,
        test_photos=testing,
        golden_photos=_balanced(testing, len(testing), settings.seed),
        validation_photos=validation,
        training_accuracy=training_accuracy,
    )


def _balanced(photos: Sequence[Photo], count: int, seed: int) -> list[Photo]:
    """Return at most `count` random photos, one of each class in turn; `seed` fixes which."""
    random = np.random.default_rng(seed)
    shuffled = [photos[i] for i in random.permutation(len(photos))]
    return take_in_turn(sorted(shuffled, key=lambda photo: photo.label), count)


def _calibration_pixels(photos: Sequence[Photo], spec: InputSpec) -> Pixels:
    if not photos:
        raise BadData("no training photos to calibrate on")
    return span_byte_range(np.concatenate([pixels(photo, spec) for photo in photos]))
