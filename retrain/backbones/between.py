"""From a frozen graph of any make to the backbone's form: one input, one row of numbers a photo."""

from typing import Any

import numpy as np

from deploy.errors import BadData
from retrain import graph
from retrain.backbones.folding import plain
from retrain.backbones.inference_part import inference_part


def between(graph_def: Any, fed: str, bottleneck: str, side: int) -> Any:
    """Return the GraphDef from `input`, float32 (N, side, side, 3), to `bottleneck` (N, D)."""
    tf = graph.tensorflow()
    network = plain(inference_part(graph_def, fed, bottleneck), side)

    def features(images: Any) -> Any:
        ends = [f"{graph.BOTTLENECK}:0"]
        try:
            (end,) = tf.import_graph_def(network, {f"{graph.INPUT}:0": images}, ends, "network")
        except ValueError as error:
            raise BadData(f"TensorFlow does not take this graph: {error}") from error
        if not is_row(end.shape) or end.shape[0] is not None:
            raise BadData(f"{bottleneck} is {end.shape}, not a row of numbers for each photo")
        return tf.reshape(end, [-1, end.shape[-1]])

    traced = graph.trace(features, (side, side, 3), graph.BOTTLENECK)
    traced = tf.compat.v1.graph_util.extract_sub_graph(traced, [graph.BOTTLENECK])
    _require_apart(traced, side)
    return traced


def _require_apart(traced: Any, side: int) -> None:
    """Raise BadData for a network in which the photos of a batch change each other's bottleneck."""
    run = graph.session(traced, graph.BOTTLENECK)
    photos = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    try:
        together, first = run(photos), run(photos[:1])
    except graph.tensorflow().errors.OpError as error:
        raise BadData(f"TensorFlow does not run this graph: {error.message}") from error
    if not np.isfinite(together).all():
        raise BadData("its bottlenecks are not finite numbers")
    if len(together) != 2 or np.abs(together[:1] - first).max() > 1e-3 * np.abs(first).max():
        raise BadData("a photo's bottleneck depends on the others of its batch")


def is_row(shape: Any) -> bool:
    """Return whether `shape` is (N, D) or (N, 1, 1, D) with D known, N perhaps not."""
    sides = shape.as_list() if shape.rank in (2, 4) else [None]
    return sides[-1] is not None and sides[1:-1] in ([], [1, 1])
