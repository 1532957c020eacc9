"""Find where a classifier is cut, and bring what lies below the cut into a backbone's form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.surgery.fold_batch_norm import GREY_SHARES, simplify
from retrain.backbones.surgery.inference_subgraph import inference_subgraph
from retrain.backbones.surgery.photo_input import PhotoInput, Sides, input_of_graph
from retrain.backbones.surgery.scope import END
from retrain.backbones.surgery.to_float32 import to_float32

Tensor = TypeVar("Tensor", int, str)
"""A tensor's index in a .tflite file, or its name in a graph."""
_MAX_BATCH_EFFECT = 1e-3
"""Share of a bottleneck by which the other photo of a batch may change it."""


@dataclass(frozen=True)
class Cut:
    """The part of a graph that becomes a backbone: from photos of `sides` to the bottleneck.

    Tensors are named with their output's number: `Mul:0`.
    """

    input_tensor: str
    bottleneck_tensor: str
    sides: Sides


def find_cut(
    output: Tensor,
    dense_input: Callable[[Tensor], Tensor | None],
    scores_input: Callable[[Tensor], Tensor | None],
) -> Tensor:
    """Return the input of the dense layer that `output` is the scores of, else `output` itself.

    `dense_input` returns the input of a dense layer's output, `scores_input` the input of an
    operation that makes scores of it, or only changes its form; both return None for any other
    tensor. A dense layer inside the network, such as a gate's, is no cut, nor is one of several
    heads.
    """
    tensor, passed = output, {output}
    while (bottleneck := dense_input(tensor)) is None:
        before = scores_input(tensor)
        if before is None or before in passed:  # a damaged file may have a loop
            return output
        passed.add(tensor := before)
    return bottleneck


def extract_backbone(graph_def: Any, cut: Cut) -> Any:
    """Return the GraphDef from `input`, float32 (N, height, width, 3), to `bottleneck` (N, D).

    A network of grey photos takes RGB here: it begins with Pillow's conversion to grey. Raises
    BadData for what is no network of photos.
    """
    tf = tf_graph.tensorflow()
    subgraph, photos = float32_subgraph(graph_def, cut.input_tensor, cut.bottleneck_tensor)
    network = simplify(subgraph, (photos.batch, *cut.sides, photos.channels or 3))

    def features(images: Any) -> Any:
        ends = {f"{tf_graph.INPUT}:0": images}, [f"{END}:0"]
        try:
            (row,) = tf_graph.import_graph(network, *ends)
        except ValueError as error:
            raise BadData(f"TensorFlow does not take this graph: {error}") from error
        if not is_row(row.shape) or row.shape[0] is not None:
            raise BadData(
                f"{cut.bottleneck_tensor} is {row.shape}, not a row of numbers for each photo"
            )
        return tf.reshape(row, [-1, row.shape[-1]])

    backbone = tf_graph.trace(features, (*cut.sides, 3), tf_graph.BOTTLENECK)
    backbone = tf_graph.subgraph(backbone, tf_graph.BOTTLENECK)
    _require_independent_photos(backbone, cut.sides)
    return backbone


def float32_subgraph(graph_def: Any, input_tensor: str, output: str) -> tuple[Any, PhotoInput]:
    """Return the GraphDef from a tensor to another, in float32, and the photos that it takes.

    Their channels are known. Raises BadData for what takes no photos.
    """
    photos = input_of_graph(graph_def, input_tensor)
    subgraph = inference_subgraph(graph_def, input_tensor, output)
    subgraph = to_float32(subgraph, photos.takes_bytes)
    return subgraph, photos._replace(channels=photos.channels or _kernel_depth(subgraph))


def match_channels(images: Any, photos: PhotoInput) -> Any:
    """Return RGB images with the network's channels: their grey where it has one."""
    if photos.channels != 1:
        return images
    grey = images * GREY_SHARES.astype(np.float32)
    return tf_graph.tensorflow().reduce_sum(grey, -1, keepdims=True)


def _kernel_depth(subgraph: Any) -> int:
    """Return the channels that the first convolution takes, if its kernel is 1 deep; else 3.

    TensorFlow runs such a kernel on RGB photos in three groups, without an error.
    """
    nodes = {node.name: node for node in subgraph.node}
    for node in subgraph.node:
        if node.op in ("Conv2D", "DepthwiseConv2dNative"):
            kernel = nodes.get(node.input[1].rpartition(":")[0])
            if kernel is not None and kernel.op == "Const":
                shape = kernel.attr["value"].tensor.tensor_shape.dim
                return 1 if len(shape) == 4 and shape[2].size == 1 else 3
            break
    return 3


def _require_independent_photos(backbone: Any, sides: Sides) -> None:
    """Raise BadData for a network in which the photos of a batch change each other's bottleneck."""
    run = tf_graph.session(backbone, tf_graph.BOTTLENECK)
    photos = np.random.default_rng(0).uniform(-1, 1, (2, *sides, 3)).astype(np.float32)
    try:
        pair, single = run(photos), run(photos[:1])
    except tf_graph.tensorflow().errors.OpError as error:
        raise BadData(f"TensorFlow does not run this graph: {error.message}") from error
    if not np.isfinite(pair).all():
        raise BadData("its bottlenecks are not finite numbers")
    limit = _MAX_BATCH_EFFECT * np.abs(single).max()
    if len(pair) != 2 or np.abs(pair[:1] - single).max() > limit:
        raise BadData(
            "a photo's bottleneck depends on the others of its batch: save the network for "
            "inference (training=False)"
        )


def is_row(shape: Any) -> bool:
    """Return whether `shape` is (N, D) or (N, 1, 1, D) with D known, N perhaps not."""
    sizes = shape.as_list() if shape.rank in (2, 4) else [None]
    return sizes[-1] is not None and sizes[1:-1] in ([], [1, 1])
