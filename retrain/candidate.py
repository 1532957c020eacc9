"""A recipe's model: converted for its target, packed with all that it carries, and scored."""

from dataclasses import dataclass, replace

from deploy import metadata
from deploy.metadata import ModelFile
from retrain import goldens, model_metadata, recipes, rejection, targets
from retrain.material import Material
from retrain.parity import Parity, compare
from retrain.quantization import Quantization
from retrain.rejection import Rejection


@dataclass(frozen=True)
class Candidate:
    """A model file's bytes, and how it compares with the graph.

    `otherwise` is how a model compares that the target cannot run, where one was made first.
    """

    packed: bytes
    parity: Parity
    rejection: Rejection | None = None
    otherwise: Parity | None = None


def attempt(material: Material, how: Quantization) -> Candidate:
    """Convert and score; raise BadData where TFLite does not convert the graph.

    Also where the target does not run the model. If dense layers with one scale each help it,
    they get that, and the model that would be without is scored too.
    """
    photos = f", calibrated on {len(material.calibration)} training photos"
    target, progress = material.target, material.progress
    progress.info(f"converting: {how.recipe}{photos if how.kind.ranges else ''}")
    flatbuffer = _flatbuffer(material, how)
    otherwise = None
    if target and target.per_tensor_dense and targets.check(flatbuffer, target):
        otherwise = _compared(material, ModelFile(flatbuffer, material.contract))
        progress.info(f"converting again: one scale for each dense layer, for {target.name}")
        flatbuffer = _flatbuffer(material, replace(how, per_tensor_dense=True))
    if target:
        targets.require(flatbuffer, target)
    candidate = _finish(material, how, flatbuffer)
    if otherwise:
        progress.info(f"test accuracy {candidate.parity.model}, without that {otherwise.model}")
    return replace(candidate, otherwise=otherwise)


def _flatbuffer(material: Material, how: Quantization) -> bytes:
    spec, output = material.contract.input, material.contract.output
    with material.progress.stage("convert"):
        return recipes.quantize(material.graph, how, material.calibration, spec, output)


def _compared(material: Material, file: ModelFile) -> Parity:
    with material.progress.stage("score"):
        return compare(material.expected, file, material.testing, material.progress)


def _finish(material: Material, how: Quantization, flatbuffer: bytes) -> Candidate:
    config, progress = material.config, material.progress
    contract = replace(material.contract, recipe=how.recipe)
    found = None
    if config.reject_rate:
        with progress.stage("reject"):
            bare = ModelFile(flatbuffer, contract)
            found = rejection.calibrate(bare, material.known, config.reject_rate, progress)
            contract = replace(contract, reject_threshold=found.threshold)
    with progress.stage("goldens"):
        bare = ModelFile(flatbuffer, contract)
        kept = goldens.make(material.reference, bare, material.likely, config.goldens)
    told = model_metadata.describe(contract, config.about, len(kept))
    flatbuffer = model_metadata.attach(flatbuffer, told)
    packed = metadata.pack(flatbuffer, contract, kept, goldens.tolerance(how.recipe))
    return Candidate(packed, _compared(material, metadata.unpack(packed)), found)
