"""A recipe's model: converted for its targets, packed with all that it carries, and scored."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from deploy import model_file
from deploy.classifier import Classifier
from deploy.model_file import ModelFile
from retrain.conversion import make_goldens, recipes, rejection, targets
from retrain.conversion.inputs import Material
from retrain.conversion.parity import Parity, compare
from retrain.conversion.rejection import Rejection
from retrain.settings.conversion import RECIPES, Quantization
from retrain.tflite import metadata as model_metadata


class Converted(NamedTuple):
    """What the recipe `how` made of the graph: a flatbuffer that each target runs.

    `otherwise` is the one that was made first, where a target does not run that.
    """

    how: Quantization
    flatbuffer: bytes
    otherwise: bytes | None = None


@dataclass(frozen=True)
class Candidate:
    """A model file's bytes, and how it compares with the graph.

    `otherwise` is how a model compares that a target cannot run, where one was made first.
    """

    packed: bytes
    parity: Parity
    rejection: Rejection | None = None
    otherwise: Parity | None = None


def converted(material: Material, how: Quantization) -> Converted:
    """Convert the graph; raise BadData where TFLite does not, or where a target does not run it.

    If dense layers with one scale each help a target, they get that.
    """
    photos = f", calibrated on {len(material.calibration)} training photos"
    progress = material.progress
    progress.info(f"converting: {how.recipe}{photos if how.kind.calibrated else ''}")
    flatbuffer, otherwise = _flatbuffer(material, how), None
    helped = [
        target.name
        for target in material.targets
        if target.per_tensor_dense and targets.check(flatbuffer, target)
    ]
    if helped:
        progress.info(f"converting again: one scale for each dense layer, for {helped[0]}")
        otherwise = flatbuffer
        flatbuffer = _flatbuffer(material, replace(how, per_tensor_dense=True))
    for target in material.targets:
        targets.require(flatbuffer, target)
    Classifier(ModelFile(flatbuffer, material.contract))  # what does not load is no model either
    return Converted(how, flatbuffer, otherwise)


def scored(material: Material, made: Converted) -> Candidate:
    """Pack the model with all that a file carries, and score that file on the test photos."""
    candidate = _packed(material, made)
    if not made.otherwise:
        return candidate
    otherwise = _compared(material, ModelFile(made.otherwise, material.contract))
    material.progress.info(
        f"test accuracy {candidate.parity.model}, with a scale for each channel {otherwise.model}"
    )
    return replace(candidate, otherwise=otherwise)


def _flatbuffer(material: Material, how: Quantization) -> bytes:
    spec, output = material.contract.input, material.contract.output
    with material.progress.stage("convert"):
        return recipes.quantize(material.graph, how, material.calibration, spec, output)


def _compared(material: Material, file: ModelFile) -> Parity:
    labels, progress = material.contract.labels, material.progress
    with progress.stage("score"):
        return compare(material.expected, file, labels, material.testing, progress)


def _packed(material: Material, made: Converted) -> Candidate:
    config, progress = material.config, material.progress
    recipe, flatbuffer = made.how.recipe, made.flatbuffer
    contract = replace(material.contract, recipe=recipe)
    found = None
    if config.reject_rate:
        with progress.stage("reject"):
            bare = ModelFile(flatbuffer, contract)
            found = rejection.calibrate(bare, material.known, config.reject_rate, progress)
            contract = replace(contract, reject_threshold=found.threshold)
    with progress.stage("goldens"):
        bare = ModelFile(flatbuffer, contract)
        kept = make_goldens.make(material.reference, bare, material.likely, config.goldens)
    told = model_metadata.describe(contract, config.about, len(kept))
    flatbuffer = model_metadata.attach(flatbuffer, told)
    packed = model_file.pack(flatbuffer, contract, kept, RECIPES[recipe].golden_tolerance)
    file = model_file.unpack(packed)
    model_metadata.require(file.flatbuffer, told)
    return Candidate(packed, _compared(material, file), found)
