"""Extract the head of a frozen classifier: its final dense layer, and the tensor before it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deploy.errors import BadData, WrongUse
from deploy.system.counts import with_noun
from retrain import tf_graph
from retrain.backbones.custom import classic_graph
from retrain.backbones.custom.classifier import ClassifierEnds, find_ends, wrong_size
from retrain.backbones.custom.freeze_function import find_bottleneck
from retrain.backbones.custom.read_file import read_network
from retrain.backbones.surgery.extract_backbone import float32_subgraph, match_channels
from retrain.backbones.surgery.inference_subgraph import (
    FAKE_QUANT,
    inference_subgraph,
    node_name,
    tensor_name,
)
from retrain.backbones.surgery.scope import END, name_in_file
from retrain.frozen_graph import INPUT
from retrain.settings.label_image import LabelImageSettings
from retrain.training.head import Head

_COPIES = frozenset(("Identity", "Reshape", "Squeeze", "PlaceholderWithDefault", *FAKE_QUANT))
"""Operations that copy values, at most into another shape."""
_DENSE = frozenset(("MatMul", "Conv2D", "BiasAdd", "BiasAddV1", "Add", "AddV2"))


class Classifier(NamedTuple):
    """A frozen classifier: its `head`, and the name of the `bottleneck` tensor before it.

    `warnings` say where the head differs from the classifier's own final layers.
    """

    ends: ClassifierEnds
    bottleneck: str
    head: Head
    warnings: list[str]


def extract_head(
    path: Path, settings: LabelImageSettings, labels: Path, classes: int
) -> Classifier:
    """Return the classifier at `path`, whose labels are the `classes` lines of the file `labels`.

    Raises WrongUse, naming the settings to set, where the graph does not say how it takes photos,
    and BadData for a graph that is not a classifier with one label per photo.
    """
    if path.suffix == ".tflite":
        raise WrongUse(f"{path}: a TFLite model is finished: adopt takes the graph it was made of")
    graph_def = read_network(path).graph_def
    with tf_graph.reading(path):
        ends = find_ends(graph_def, settings, LabelImageSettings())
        logits, warnings = _find_logits(graph_def, ends.scores)
        bottleneck, shape = _find_bottleneck(graph_def, ends, logits)
        head = _measure_head(graph_def, bottleneck, shape, logits, labels, classes)
    if classic_graph.is_fake_quantized(graph_def):
        warnings.append(
            "its activations are not rounded as in training (fake quantization): `retrain "
            "convert` quantizes it anew"
        )
    return Classifier(ends, bottleneck, head, warnings)


def _find_logits(graph_def: Any, scores: str) -> tuple[str, list[str]]:
    """Return the tensor whose softmax is `scores`, and warnings; raise BadData if there is none.

    A dense layer's output counts as logits without a softmax.
    """
    nodes = {node.name: node for node in graph_def.node}
    end = node_name(scores)
    for _ in nodes:  # bounded: a damaged graph may have a loop
        if (
            nodes[end].op in _COPIES
            and nodes[end].input
            and node_name(nodes[end].input[0]) in nodes
        ):
            end = node_name(nodes[end].input[0])
    node = nodes[end]
    if node.op in ("Softmax", "LogSoftmax"):
        return tensor_name(node.input[0]), []
    if node.op in _DENSE:
        return scores, [f"{scores} are logits, no probabilities: a softmax is added"]
    reason = ", so each label has a score of its own, but here one label is chosen per photo"
    raise BadData(
        f"{scores} is the output of {end}, an operation {node.op}, not of a softmax"
        f"{reason if node.op == 'Sigmoid' else ''}. Remedy: `output_layer` with a softmax, or "
        "with the logits before it"
    )


def _find_bottleneck(graph_def: Any, ends: ClassifierEnds, logits: str) -> tuple[str, list[int]]:
    """Return the tensor before the final dense layer, and its shape for one photo.

    It is the tensor of the logits if no dense layer computes them.
    """
    tf = tf_graph.tensorflow()
    network, photos = float32_subgraph(
        graph_def, tensor_name(ends.input_tensor), tensor_name(logits)
    )
    with tf.Graph().as_default() as whole:
        images = tf.compat.v1.placeholder(
            tf.float32, [1, ends.spec.height, ends.spec.width, 3], name="photo"
        )
        returned = [f"{END}:0"]
        try:
            fed = {f"{INPUT}:0": match_channels(images, photos)}
            (end,) = tf_graph.import_graph(network, fed, returned)
        except ValueError as error:
            raise wrong_size(ends, error) from error
        before = find_bottleneck(whole, images, end)
        shape = whole.get_tensor_by_name(before).shape
    name = tensor_name(logits) if before == end.name else name_in_file(before)
    if shape.rank is None or not shape[-1]:
        raise BadData(f"{name} is {shape}, not a row of numbers for each photo")
    return name, [1] * (shape.rank - 1) + [shape[-1]]


def _measure_head(
    graph_def: Any, bottleneck: str, shape: list[int], logits: str, labels: Path, classes: int
) -> Head:
    """Return the dense layer from `bottleneck`, of `shape` for one photo, to `logits`.

    The bias is the layer's output for zeros; the weights are the gradients of each logit. Raises
    BadData if the number of logits is not `classes`.
    """
    tf = tf_graph.tensorflow()
    layer = inference_subgraph(graph_def, bottleneck, logits)
    with tf.Graph().as_default() as whole:
        row = tf.compat.v1.placeholder(tf.float32, shape)
        returned = [f"{END}:0"]
        (end,) = tf_graph.import_graph(layer, {f"{INPUT}:0": row}, returned, "layer")
        flat = tf.reshape(end, [-1])
        weighting = tf.compat.v1.placeholder(tf.float32, [None])
        (slope,) = tf.gradients(flat, row, weighting)
    zeros = np.zeros(shape, np.float32)
    with tf.compat.v1.Session(graph=whole) as session:
        bias = session.run(flat, {row: zeros})
        if len(bias) != classes:
            raise BadData(
                f"{with_noun(len(bias), 'output')}, but {labels} has "
                f"{with_noun(classes, 'label')}: take the labels file that was written with the "
                "graph"
            )
        columns = [
            session.run(slope, {row: zeros, weighting: unit}).ravel()
            for unit in np.eye(classes, dtype=np.float32)
        ]
    return Head(np.stack(columns, axis=1), bias)
