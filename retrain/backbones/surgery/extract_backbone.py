"""From a frozen graph of any make to the backbone's form: one input, one row of numbers a photo."""

from typing import Any

import numpy as np

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.custom.input_spec import PhotoInput, of_graph
from retrain.backbones.surgery.fold_batch_norm import GREY_SHARES, plain
from retrain.backbones.surgery.inference_subgraph import inference_part
from retrain.backbones.surgery.to_float32 import in_float32


def between(graph_def: Any, fed: str, bottleneck: str, height: int, width: int) -> Any:
    """Return the GraphDef from `input`, float32 (N, height, width, 3), to `bottleneck` (N, D).

    A network of grey photos takes RGB here: it begins with Pillow's conversion to grey.
    """
    tf = tf_graph.tensorflow()
    part, photos = photo_part(graph_def, fed, bottleneck)
    network = plain(part, (photos.batch, height, width, photos.channels or 3))

    def features(images: Any) -> Any:
        ends = [f"{tf_graph.BOTTLENECK}:0"]
        try:
            (end,) = tf.import_graph_def(network, {f"{tf_graph.INPUT}:0": images}, ends, "network")
        except ValueError as error:
            raise BadData(f"TensorFlow does not take this graph: {error}") from error
        if not is_row(end.shape) or end.shape[0] is not None:
            raise BadData(f"{bottleneck} is {end.shape}, not a row of numbers for each photo")
        return tf.reshape(end, [-1, end.shape[-1]])

    traced = tf_graph.trace(features, (height, width, 3), tf_graph.BOTTLENECK)
    traced = tf.compat.v1.graph_util.extract_sub_graph(traced, [tf_graph.BOTTLENECK])
    _require_apart(traced, height, width)
    return traced


def photo_part(graph_def: Any, fed: str, end: str) -> tuple[Any, PhotoInput]:
    """Return what leads from `fed` to `end`, in float32, and the photos that it takes.

    Their channels are known. Raises BadData for what takes no photos.
    """
    photos = of_graph(graph_def, fed)
    part = in_float32(inference_part(graph_def, fed, end), photos.takes_bytes)
    return part, photos._replace(channels=photos.channels or _kernel_depth(part))


def as_fed(images: Any, photos: PhotoInput) -> Any:
    """Return RGB photos as the network takes them: their grey where it has one channel."""
    if photos.channels != 1:
        return images
    grey = images * GREY_SHARES.astype(np.float32)
    return tf_graph.tensorflow().reduce_sum(grey, -1, keepdims=True)


def _kernel_depth(part: Any) -> int:
    """Return the channels that the first convolution takes, if its kernel is 1 deep; else 3.

    TensorFlow runs such a kernel on RGB photos in three groups, without a word.
    """
    nodes = {node.name: node for node in part.node}
    for node in part.node:
        if node.op in ("Conv2D", "DepthwiseConv2dNative"):
            kernel = nodes.get(node.input[1].rpartition(":")[0])
            if kernel is not None and kernel.op == "Const":
                sides = kernel.attr["value"].tensor.tensor_shape.dim
                return 1 if len(sides) == 4 and sides[2].size == 1 else 3
            break
    return 3


def _require_apart(traced: Any, height: int, width: int) -> None:
    """Raise BadData for a network in which the photos of a batch change each other's bottleneck."""
    run = tf_graph.session(traced, tf_graph.BOTTLENECK)
    photos = np.random.default_rng(0).uniform(-1, 1, (2, height, width, 3)).astype(np.float32)
    try:
        together, first = run(photos), run(photos[:1])
    except tf_graph.tensorflow().errors.OpError as error:
        raise BadData(f"TensorFlow does not run this graph: {error.message}") from error
    if not np.isfinite(together).all():
        raise BadData("its bottlenecks are not finite numbers")
    if len(together) != 2 or np.abs(together[:1] - first).max() > 1e-3 * np.abs(first).max():
        raise BadData(
            "a photo's bottleneck depends on the others of its batch: save the network for "
            "inference (training=False)"
        )


def is_row(shape: Any) -> bool:
    """Return whether `shape` is (N, D) or (N, 1, 1, D) with D known, N perhaps not."""
    sides = shape.as_list() if shape.rank in (2, 4) else [None]
    return sides[-1] is not None and sides[1:-1] in ([], [1, 1])
