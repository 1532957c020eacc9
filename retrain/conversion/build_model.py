"""Build the model file of one recipe: make the model, check it for targets, add contents, score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploy import model_file
from deploy.classifier import Classifier
from deploy.contract import Contract
from deploy.goldens import Golden
from deploy.model_file import ModelFile
from deploy.system.counts import with_noun
from retrain import tf_graph
from retrain.conversion import make_goldens, targets
from retrain.conversion.compose import compose
from retrain.conversion.graph_classifier import GraphClassifier
from retrain.conversion.inputs import ConversionInputs
from retrain.conversion.parity import (
    Parity,
    Scores,
    accuracy_of,
    compare,
    graph_scores,
    require_accuracy,
)
from retrain.conversion.targets import TARGETS, Target
from retrain.conversion.unknown import Rejection, find_threshold
from retrain.progress import Progress
from retrain.quantization import quantize
from retrain.settings.conversion import About, ConvertSettings, Quantization
from retrain.tflite import metadata as model_metadata


@dataclass(frozen=True)
class ConvertedModel:
    """A flatbuffer that every target runs.

    `per_channel_dense` is the flatbuffer that was made first, if a target did not run that.
    """

    quantization: Quantization
    flatbuffer: bytes
    per_channel_dense: bytes | None = None


@dataclass(frozen=True)
class Reference:
    """The frozen graph as a classifier, and its scores of the test photos (N, classes)."""

    classifier: GraphClassifier
    scores: Scores


@dataclass(frozen=True)
class ScoredModel:
    """The bytes of a model file, its scores (N, classes), and how they differ from the graph's.

    `scores` are of the test photos. `per_channel_dense` is the parity of the flatbuffer that a
    target did not run, if there was one.
    """

    quantization: Quantization
    content: bytes
    parity: Parity
    scores: Scores
    rejection: Rejection | None = None
    per_channel_dense: Parity | None = None


def convert_graph(
    inputs: ConversionInputs,
    quantization: Quantization,
    settings: ConvertSettings,
    progress: Progress,
) -> ConvertedModel:
    """Put the model together from the run's int8 trunk, or convert the graph by one recipe.

    A conversion has a process of its own. If one scale for each dense layer makes a target run the
    model, the graph is converted again with that. Raises BadData if TFLite cannot convert the
    graph, and if a target cannot run the model.
    """
    record = quantization.record
    trunk = inputs.trunk_for(quantization)
    photos = f", calibrated on {with_noun(len(inputs.calibration), 'training photo')}"
    progress.info(
        f"putting together: the {record.name} trunk that analysed the photos, and the final layer"
        if trunk
        else f"converting: {record.name}{photos if record.needs_calibration else ''}"
    )

    def convert(quantization: Quantization) -> bytes:
        with progress.stage("convert"):
            if trunk:
                return compose(trunk, inputs, quantization.output)
            return quantize.quantize(inputs.graph, quantization, inputs.calibration)

    flatbuffer, per_channel_dense = convert(quantization), None
    required_targets = _targets(settings, quantization)
    needing_per_tensor = [
        target.name
        for target in required_targets
        if target.per_tensor_dense and targets.check(flatbuffer, target)
    ]
    if needing_per_tensor:
        progress.info(
            f"converting again: one scale for each dense layer, for {needing_per_tensor[0]}"
        )
        per_channel_dense = flatbuffer
        flatbuffer = convert(replace(quantization, per_tensor_dense=True))
    for target in required_targets:
        targets.require(flatbuffer, target)
    Classifier(ModelFile(flatbuffer, inputs.contract))  # raises BadData if it does not load
    return ConvertedModel(quantization, flatbuffer, per_channel_dense)


def _targets(settings: ConvertSettings, quantization: Quantization) -> list[Target]:
    """Return the target of the settings, and those that the recipe is for."""
    by_user = () if settings.target is None else (settings.target,)
    return [TARGETS[name] for name in dict.fromkeys((*by_user, *quantization.record.targets))]


def load_reference(inputs: ConversionInputs, progress: Progress) -> Reference:
    """Load the graph, and score the test photos with it.

    To be called after the conversions: until then only the converter's process holds TensorFlow,
    so that the memory of the two does not add up. Raises BadData if the accuracy is not that of
    training, which scored the graph's bottlenecks if the run has no int8 trunk.
    """
    with progress.stage("goldens"):
        classifier = GraphClassifier(tf_graph.parse(inputs.graph.graph_def), inputs.contract)
    with progress.stage("score"):
        scores = graph_scores(classifier, inputs.test_photos, progress)
    if inputs.training_accuracy and not inputs.trunk:
        accuracy = accuracy_of(scores, inputs.test_photos, inputs.contract.labels)
        require_accuracy("graph", accuracy, inputs.training_accuracy)
    return Reference(classifier, scores)


def score_model(
    inputs: ConversionInputs,
    converted: ConvertedModel,
    reference: Reference,
    settings: ConvertSettings,
    progress: Progress,
) -> ScoredModel:
    """Pack the model with all that its file carries, and score that file on the test photos.

    Raises BadData if the model is of the trunk that training used, and its accuracy another.
    """
    content, rejection = _pack(inputs, converted, reference, settings, progress)

    def check(file: ModelFile) -> tuple[Parity, Scores]:
        labels, photos = inputs.contract.labels, inputs.test_photos
        with progress.stage("score"):
            return compare(reference.scores, file, labels, photos, progress)

    parity, scores = check(model_file.unpack(content))
    rejection = rejection and rejection.with_test(scores)
    scored = ScoredModel(converted.quantization, content, parity, scores, rejection)
    if inputs.training_accuracy and inputs.trunk_for(converted.quantization):
        require_accuracy("model", scored.parity.model, inputs.training_accuracy)
    if not converted.per_channel_dense:
        return scored
    per_channel_dense, _ = check(ModelFile(converted.per_channel_dense, inputs.contract))
    progress.info(
        f"test accuracy {scored.parity.model}, "
        f"with a scale for each channel {per_channel_dense.model}"
    )
    return replace(scored, per_channel_dense=per_channel_dense)


def pack_model(
    flatbuffer: bytes,
    contract: Contract,
    about: About,
    goldens: Sequence[Golden],
    tolerance: float,
) -> bytes:
    """Return the bytes of a model file: the flatbuffer, and all that describes it.

    That is metadata, which replace any other, labels, contract and goldens. So a model whose final
    layer is replaced gets those of its new classes.
    """
    metadata = model_metadata.describe(contract, about, len(goldens))
    described = model_metadata.attach(flatbuffer, metadata)
    content = model_file.pack(described, contract, goldens, tolerance)
    model_metadata.require(model_file.unpack(content).flatbuffer, metadata)
    return content


def _pack(
    inputs: ConversionInputs,
    converted: ConvertedModel,
    reference: Reference,
    settings: ConvertSettings,
    progress: Progress,
) -> tuple[bytes, Rejection | None]:
    """Return the bytes of the model file, and how its threshold was found."""
    record = converted.quantization.record
    contract = replace(inputs.contract, recipe=record.name)
    rejection = None
    if settings.reject_rate:
        with progress.stage("reject"):
            file = ModelFile(converted.flatbuffer, contract)
            rejection = find_threshold(
                file, inputs.validation_photos, settings.reject_rate, progress
            )
            contract = replace(contract, reject_threshold=rejection.threshold)
    with progress.stage("goldens"):
        file = ModelFile(converted.flatbuffer, contract)
        goldens = make_goldens.make(
            reference.classifier, file, inputs.golden_photos, settings.goldens
        )
    tolerance = record.golden_tolerance
    return pack_model(converted.flatbuffer, contract, settings.about, goldens, tolerance), rejection
