"""Prepare the trunk of a backbone: what lies below a cut deeper than the bottleneck."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from retrain import tf_graph
from retrain.backbones.backbone import Backbone, prepare
from retrain.backbones.cut_points import CutPoint


def load_trunk(backbone: Backbone, point: CutPoint, cache_dir: Path) -> Backbone:
    """Return the part of `backbone` up to `point`, prepared under `cache_dir`, as a Backbone.

    Its bottlenecks are the feature maps at `point`, flattened to (N, point.width). Raises OSError
    if the graph of `backbone` is gone, BadData if TFLite does not take the part.
    """
    cause = hashlib.sha256(backbone.graph_path.read_bytes() + point.name.encode())
    trace = partial(_trunk_graph, backbone.graph_path, point)
    sides = (backbone.spec.height, backbone.spec.width)
    graph_path, flatbuffer = prepare("trunk", cause.hexdigest(), trace, sides, cache_dir)
    return replace(
        backbone,
        width=point.width,
        graph_path=graph_path,
        flatbuffer=flatbuffer,
        cut=point.name,
        precision="float32",
    )


def _trunk_graph(path: Path, point: CutPoint) -> Any:
    """Return the GraphDef from INPUT to the flattened tensor of `point`, as BOTTLENECK."""
    tf = tf_graph.tensorflow()
    below = tf_graph.subgraph(tf_graph.read(path), point.name)
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(below)
        feature_map = graph.get_tensor_by_name(f"{point.name}:0")
        tf.reshape(feature_map, [-1, point.width], name=tf_graph.BOTTLENECK)
    return tf_graph.definition(graph)
