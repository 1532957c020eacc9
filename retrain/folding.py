"""Fold batch normalization into convolutions, in any frozen graph.

TensorFlow's constant folding does most of it. What it leaves, factors behind depthwise
convolutions and biases, is done here: TensorFlow's own fold_batch_norms (in
optimize_for_inference_lib) does not know the AddV2 that Keras 3 writes.
"""

from collections import Counter
from typing import Any

import numpy as np

from retrain.graph import BOTTLENECK, tensorflow

_ADDITIONS = ("BiasAdd", "AddV2", "Add")
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


def fold(graph: Any) -> Any:
    """Return the GraphDef `graph`, cut at BOTTLENECK, with constants folded into kernels.

    Its outputs stay the same but for rounding: within 1e-4 of the largest.
    """
    tf = tensorflow()
    cut = tf.compat.v1.graph_util.extract_sub_graph(graph, [BOTTLENECK])
    cut = tf.compat.v1.graph_util.remove_training_nodes(cut, [BOTTLENECK])
    folded = _fold_constants(cut)
    nodes = {node.name: node for node in folded.node}
    uses = Counter(name for node in folded.node for name in node.input)
    for node in folded.node:
        if node.op == "Mul" and len(node.input) == 2:
            _fold_factor(node, nodes, uses)
    return tf.compat.v1.graph_util.remove_training_nodes(folded, [BOTTLENECK])


def _fold_constants(graph: Any) -> Any:
    """Return what Grappler's constant folding makes of `graph`: factors move into kernels."""
    tf = tensorflow()
    from tensorflow.core.protobuf import rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer

    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph, graph=imported)
    meta.collection_def["train_op"].node_list.value.append(BOTTLENECK)
    config = tf.compat.v1.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    rewrite.optimizers.append("constfold")
    rewrite.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    return tf_optimizer.OptimizeGraph(config, meta)


def _fold_factor(factor: Any, nodes: dict[str, Any], uses: Counter[str]) -> None:
    """Make the Mul `factor` an Identity if its constant can go into the convolution before it."""
    data, scale = (nodes.get(name) for name in factor.input)
    if data is None or scale is None or scale.op != "Const":
        return
    bias, conv = None, data
    if data.op in _ADDITIONS and len(data.input) == 2:
        conv, bias = (nodes.get(name) for name in data.input)
    if conv is None or conv.op not in _CONVOLUTIONS or (bias is not None and bias.op != "Const"):
        return
    kernel = nodes.get(conv.input[1])
    changed = [part for part in (data, conv, kernel, bias) if part is not None]
    if kernel is None or kernel.op != "Const" or any(uses[part.name] != 1 for part in changed):
        return
    tf = tensorflow()
    values = tf.make_ndarray(scale.attr["value"].tensor).reshape(-1)
    weights = tf.make_ndarray(kernel.attr["value"].tensor)
    channels = weights.shape[3] if conv.op == "Conv2D" else weights.shape[2] * weights.shape[3]
    if values.size != channels:
        return
    depthwise = conv.op == "DepthwiseConv2dNative"
    _set(kernel, weights * (values.reshape(weights.shape[2:]) if depthwise else values))
    if bias is not None:
        _set(bias, tf.make_ndarray(bias.attr["value"].tensor).reshape(-1) * values)
    kind = factor.attr["T"].type
    del factor.input[1:]
    factor.op = "Identity"
    factor.attr.clear()
    factor.attr["T"].type = kind


def _set(constant: Any, values: Any) -> None:
    proto = tensorflow().make_tensor_proto(np.asarray(values, np.float32))
    constant.attr["value"].tensor.CopyFrom(proto)
