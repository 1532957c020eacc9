"""Read what a conversion needs from a run: the graph, and photos of each split."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deploy.contract import Contract, InputSpec
from deploy.errors import BadData, WrongUse
from retrain.conversion.unknown import add_familiarity, measure_familiarity
from retrain.data import split
from retrain.data.manifest import read_manifest
from retrain.data.photo import Photo
from retrain.data.photo_pixels import pixels
from retrain.data.photo_table import PhotoTable
from retrain.data.take_in_turn import in_turn
from retrain.frozen_graph import FrozenGraph
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.quantization.quantize import Pixels, span_byte_range
from retrain.run_folder import RunFolder
from retrain.settings.conversion import TRUNK_RECIPE, ConvertSettings, Quantization
from retrain.tflite.final_layer import Dense

_PHOTOS_PER_CLASS_MEAN = 20
"""Training photos per class used for the class mean, which familiarity compares with."""


@dataclass(frozen=True)
class ConversionInputs:
    """The graph to convert, and the photos to calibrate and check its models with.

    `contract` and `trained` are the run's; `trunk` is the int8 flatbuffer that computed the
    bottlenecks it was trained on, None if that was another one. `calibration` is uint8
    (N, height, width, 3); N is 0 if the model is put together and not converted. The first of
    `golden_photos` are of all classes. `familiarity` is as `measure_familiarity` returns it, None
    if no photo is unknown. `training_accuracy` is the test accuracy in metrics.json; None if the
    run has none, and if familiarity changes the scores.
    """

    contract: Contract
    trained: FrozenGraph
    trunk: bytes | None
    calibration: Pixels
    test_photos: Sequence[Photo]
    golden_photos: Sequence[Photo]
    validation_photos: Sequence[Photo]
    familiarity: Dense | None
    training_accuracy: Accuracy | None

    @cached_property
    def graph(self) -> FrozenGraph:
        """The trained graph, with familiarity if photos may be unknown."""
        if not self.familiarity:
            return self.trained
        return add_familiarity(self.trained, self.familiarity)

    def trunk_for(self, quantization: Quantization) -> bytes | None:
        """Return the trunk that such a model is put together from, None if it is converted."""
        return self.trunk if _matches_trunk(quantization) else None


def is_calibrated(quantization: Quantization, trunk: bytes | None) -> bool:
    """Return whether calibration photos set the ranges of a model of a run with this `trunk`."""
    is_composed = trunk is not None and _matches_trunk(quantization)
    return quantization.record.needs_calibration and not is_composed


def _matches_trunk(quantization: Quantization) -> bool:
    """Return whether a run's trunk, if it has one, was quantized in this way."""
    return quantization.recipe == TRUNK_RECIPE and not quantization.keep_float


def read_inputs(run: RunFolder, settings: ConvertSettings, progress: Progress) -> ConversionInputs:
    """Read the graph of `run` and the photos of its manifest.

    Raises BadData if the run is damaged or incomplete, and if a photo changed since training.
    """
    contract, graph = run.read_graph()
    training_accuracy, trunk = run.test_accuracy(contract), run.read_trunk(contract)
    manifest = read_manifest(run.manifest)
    training, validation, testing = (
        manifest.photos.take(manifest.splits.members(name))
        for name in (split.TRAINING, split.VALIDATION, split.TESTING)
    )
    if settings.choose or settings.explain or is_calibrated(settings.quantization, trunk):
        with progress.stage("calibration"):
            chosen = _balanced(training, settings.calibration_images, settings.seed)
            calibration = _calibration_pixels(chosen, contract.input)
    else:
        _refuse_calibration(settings)
        calibration = np.zeros((0, contract.input.height, contract.input.width, 3), np.uint8)
    familiarity = None
    if settings.reject_rate:
        count = _PHOTOS_PER_CLASS_MEAN * len(contract.labels)
        familiar = _balanced(training, count, settings.seed)
        with progress.stage("familiarity"):
            familiarity = measure_familiarity(graph, trunk, familiar, validation, progress)
        training_accuracy = None  # where familiarity is 0, so are all scores
    return ConversionInputs(
        contract,
        graph,
        trunk,
        calibration,
        test_photos=testing,
        golden_photos=_balanced(testing, len(testing), settings.seed),
        validation_photos=validation,
        familiarity=familiarity,
        training_accuracy=training_accuracy,
    )


def _refuse_calibration(settings: ConvertSettings) -> None:
    """Raise WrongUse if `settings` has a number of calibration photos, which nothing would use."""
    if settings.calibration_images == ConvertSettings.calibration_images:
        return
    reason = f"the recipe {settings.quantization.recipe} needs none"
    if settings.quantization.record.needs_calibration:
        reason = "the run's trunk, which the model is put together from, is calibrated already"
    raise WrongUse(f"`calibration_images`: {reason}: leave it out")


def _balanced(photos: PhotoTable, count: int, seed: int) -> PhotoTable:
    """Return at most `count` random photos, one of each class in turn; `seed` fixes which.

    The order of the classes is random too, for a `count` below their number.
    """
    shuffled = np.random.default_rng(seed).permutation(len(photos))
    return photos.take(shuffled[in_turn(photos.label_numbers[shuffled], count)])


def _calibration_pixels(photos: Sequence[Photo], spec: InputSpec) -> Pixels:
    if not photos:
        raise BadData("no training photos to calibrate on")
    return span_byte_range(np.concatenate([pixels(photo, spec) for photo in photos]))
