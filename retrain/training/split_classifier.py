"""A frozen classifier taken apart: its ends, the tensor before its final layer, and that layer."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deploy.errors import BadData, WrongUse
from retrain import tf_graph
from retrain.backbones.custom import classic_graph
from retrain.backbones.custom.classifier import (
    ClassifierEnds,
    find_ends,
    wrong_size,
)
from retrain.backbones.custom.freeze_function import find_bottleneck
from retrain.backbones.custom.read_file import read_network
from retrain.backbones.surgery.extract_backbone import float32_subgraph, match_channels
from retrain.backbones.surgery.inference_subgraph import (
    FAKE_QUANT,
    inference_subgraph,
    node_name,
    tensor_name,
)
from retrain.settings.label_image import LabelImageSettings
from retrain.training.head import Head

_MOVES = frozenset(("Identity", "Reshape", "Squeeze", "PlaceholderWithDefault", *FAKE_QUANT))
"""What passes numbers on, in another form at most."""
_DENSE = frozenset(("MatMul", "Conv2D", "BiasAdd", "BiasAddV1", "Add", "AddV2"))


class Parts(NamedTuple):
    """Ends of a classifier, the tensor before its final layer, that layer, and what to warn of."""

    ends: ClassifierEnds
    bottleneck: str
    head: Head
    warnings: list[str]


def take_apart(path: Path, typed: LabelImageSettings, labels: Path, classes: int) -> Parts:
    """Return the parts of the classifier at `path`, of as many `classes` as the file `labels` has.

    Raises WrongUse that says what to type where the graph does not say how it takes photos,
    BadData for what is not a classifier that chooses one label.
    """
    if path.suffix == ".tflite":
        raise WrongUse(f"{path}: a TFLite model is finished: adopt takes the graph it was made of")
    graph_def = read_network(path).graph_def
    with tf_graph.reading(path):
        ends = find_ends(graph_def, typed, LabelImageSettings())
        logits, warnings = _logits(graph_def, ends.scores)
        bottleneck, shape = _before_dense(graph_def, ends, logits)
        head = _head(graph_def, bottleneck, shape, logits, labels, classes)
    if classic_graph.is_fake_quantized(graph_def):
        warnings.append(
            "its activations are not rounded as in training (fake quantization): `retrain "
            "convert` quantizes it anew"
        )
    return Parts(ends, bottleneck, head, warnings)


def _logits(graph_def: Any, scores: str) -> tuple[str, list[str]]:
    """Return the tensor that a softmax makes `scores` of; raise BadData if it would be wrong."""
    nodes = {node.name: node for node in graph_def.node}
    end = node_name(scores)
    for _ in nodes:  # as a damaged graph may have a loop
        if nodes[end].op in _MOVES and nodes[end].input and node_name(nodes[end].input[0]) in nodes:
            end = node_name(nodes[end].input[0])
    node = nodes[end]
    if node.op in ("Softmax", "LogSoftmax"):
        return tensor_name(node.input[0]), []
    if node.op in _DENSE:
        return scores, [f"{scores} are logits, no probabilities: a softmax is added"]
    reason = ", so each label has a score of its own, but here one is chosen"
    raise BadData(
        f"{scores} is made by {end}, an operation {node.op}, not by a softmax"
        f"{reason if node.op == 'Sigmoid' else ''}. Remedy: --output-layer with a softmax, or "
        "with the logits before it"
    )


def _before_dense(graph_def: Any, ends: ClassifierEnds, logits: str) -> tuple[str, list[int]]:
    """Return the tensor before the final dense layer, and its shape for one photo.

    It is the logits where no dense layer makes them.
    """
    tf = tf_graph.tensorflow()
    network, photos = float32_subgraph(
        graph_def, tensor_name(ends.input_tensor), tensor_name(logits)
    )
    with tf.Graph().as_default() as whole:
        images = tf.compat.v1.placeholder(
            tf.float32, [1, ends.spec.height, ends.spec.width, 3], name="photo"
        )
        returned = [f"{tf_graph.BOTTLENECK}:0"]
        try:
            fed = {f"{tf_graph.INPUT}:0": match_channels(images, photos)}
            (end,) = tf.import_graph_def(network, fed, returned, name="")
        except ValueError as error:
            raise wrong_size(ends, error) from error
        before = find_bottleneck(whole, images, end)
        shape = whole.get_tensor_by_name(before).shape
    if before == end.name:
        before = tensor_name(logits)
    if shape.rank is None or not shape[-1]:
        raise BadData(f"{before} is {shape}, not a row of numbers for each photo")
    return before, [1] * (shape.rank - 1) + [shape[-1]]


def _head(
    graph_def: Any, bottleneck: str, shape: list[int], logits: str, labels: Path, classes: int
) -> Head:
    """Return the dense layer from `bottleneck`, of `shape` for one photo, to `logits`.

    Its bias is what it makes of zeros, and its weights are the slopes of each logit. Raises
    BadData if there are not as many logits as `labels` has `classes`.
    """
    tf = tf_graph.tensorflow()
    layer = inference_subgraph(graph_def, bottleneck, logits)
    with tf.Graph().as_default() as whole:
        row = tf.compat.v1.placeholder(tf.float32, shape)
        returned = [f"{tf_graph.BOTTLENECK}:0"]
        (end,) = tf.import_graph_def(layer, {f"{tf_graph.INPUT}:0": row}, returned, "layer")
        flat = tf.reshape(end, [-1])
        chosen = tf.compat.v1.placeholder(tf.float32, [None])
        (slope,) = tf.gradients(flat, row, chosen)
    zeros = np.zeros(shape, np.float32)
    with tf.compat.v1.Session(graph=whole) as session:
        bias = session.run(flat, {row: zeros})
        if len(bias) != classes:
            raise BadData(
                f"{len(bias)} outputs, but {labels} has {classes} labels: take the labels file "
                "that was written with the graph"
            )
        columns = [
            session.run(slope, {row: zeros, chosen: unit}).ravel()
            for unit in np.eye(classes, dtype=np.float32)
        ]
    return Head(np.stack(columns, axis=1), bias)
