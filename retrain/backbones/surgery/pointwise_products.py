"""Write convolutions of 1x1 kernels as matrix products, whose gradients TensorFlow computes faster.

Measured above the cut of EfficientNet-Lite0 in four pairs: the gradient of a batch takes 0.8 to 1.0
of the time. The product of a convolution is the same sum in another order.
"""

from typing import Any

import numpy as np
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_INT32

from retrain import tf_graph
from retrain.tensor_proto import to_proto


def pointwise_products(graph_def: Any) -> Any:
    """Return a copy of a frozen GraphDef in which 1x1 convolutions are matrix products.

    A convolution whose stride or groups are not 1, or whose sizes are not known, stays. Operations
    keep their names.
    """
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(graph_def)
    changed = GraphDef(library=graph_def.library, versions=graph_def.versions)
    for node in graph_def.node:
        operation = graph.get_operation_by_name(node.name)
        if not _is_pointwise(operation):
            changed.node.append(node)
            continue
        height, width, outputs = operation.outputs[0].shape[1:]
        source, kernel = node.input[:2]
        inputs = operation.inputs[1].shape[2]
        rows = _reshape(changed, f"rows/{node.name}", source, [-1, inputs])
        matrix = _reshape(changed, f"matrix/{node.name}", kernel, [inputs, outputs])
        product = changed.node.add(name=f"product/{node.name}", op="MatMul", input=[rows, matrix])
        product.attr["T"].type = DT_FLOAT
        _reshape(changed, node.name, product.name, [-1, height, width, outputs])
    return changed


def _is_pointwise(operation: Any) -> bool:
    if operation.type != "Conv2D" or operation.get_attr("data_format") != b"NHWC":
        return False
    source, kernel = (tensor.shape for tensor in operation.inputs)
    output = operation.outputs[0].shape
    return bool(
        kernel[:2] == [1, 1]
        and operation.get_attr("strides") == [1, 1, 1, 1]
        and source[1:3] == output[1:3]
        and source[3] == kernel[2]
        and output[1:].is_fully_defined()
    )


def _reshape(graph_def: Any, name: str, source: str, sizes: list[int]) -> str:
    """Add the operation `name`, which gives `source` other sizes; return the name."""
    shape = graph_def.node.add(name=f"sizes/{name}", op="Const")
    shape.attr["dtype"].type = DT_INT32
    shape.attr["value"].tensor.CopyFrom(to_proto(np.array(sizes, np.int32)))
    node = graph_def.node.add(name=name, op="Reshape", input=[source, shape.name])
    node.attr["T"].type = DT_FLOAT
    node.attr["Tshape"].type = DT_INT32
    return name
