"""Freeze a traced TensorFlow function, and find where it is cut."""

import math
from typing import Any

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.custom.custom_network import CustomNetwork, Ends
from retrain.backbones.surgery.extract_backbone import find_cut
from retrain.backbones.surgery.inference_mode import tensors_after, to_inference_mode
from retrain.backbones.surgery.size_limits import MAX_CONSTANT_NUMBERS

_DENSE = frozenset(("MatMul", "Conv2D"))
_NAMES = """
    Add AddV2 BiasAdd Cast Identity LogSoftmax Reshape Sigmoid Softmax Squeeze
"""
_AFTER_DENSE = frozenset(_NAMES.split())
"""Operations that make scores of a dense layer's output, or only change its form."""


def freeze(function: Any) -> CustomNetwork:
    """Return the network of a concrete function, cut before its last dense layer.

    It has no cut if it has several outputs. Its variables must be alive. Raises BadData unless it
    has one input.
    """
    inputs = function.inputs[: len(function.inputs) - len(function.captured_inputs)]
    require_one_input(inputs)
    (photos,) = inputs
    sides = [side for side in photos.shape if side] if photos.shape.rank else []
    if math.prod(sides) > MAX_CONSTANT_NUMBERS:  # TensorFlow allocates it, and crashes
        raise BadData(f"its input {photos.name} is {photos.shape}, too large for photos")
    tf = tf_graph.tensorflow()
    graph_def = _with_constants(function)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    images = graph.get_tensor_by_name(photos.name)
    output = graph.get_tensor_by_name(function.outputs[0].name)
    bottleneck = None if len(function.outputs) > 1 else find_bottleneck(graph, images, output)
    return CustomNetwork(to_inference_mode(graph, images), Ends(images.name, bottleneck))


def require_one_input(inputs: list[Any]) -> None:
    """Raise BadData, which names the tensors `inputs`, unless there is one."""
    if len(inputs) != 1:
        names = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in inputs) or "none"
        raise BadData(
            f"{len(inputs)} inputs ({names}) instead of one that takes photos. Remedy: save the "
            "network with one input"
        )


def _with_constants(function: Any) -> Any:
    """Return the GraphDef without function calls, with a constant for each variable read.

    TensorFlow's convert_variables_to_constants_v2 is not used: it fails where a variable is also
    assigned, as the seeds of Keras' layers that change photos at random are.
    """
    tf = tf_graph.tensorflow()
    from tensorflow.python.framework import convert_to_constants

    inlined = convert_to_constants._run_inline_graph_optimization(function, True, False)
    captured = {inner.op.name: outer for outer, inner in function.graph.captures}
    nodes = {node.name: node for node in inlined.node}

    def capture(name: str) -> Any:
        node = nodes.get(name.partition(":")[0])
        while node is not None and node.op == "Identity":
            node = nodes.get(node.input[0].partition(":")[0])
        return None if node is None else captured.get(node.name)

    for node in inlined.node:
        value = None
        if node.op == "ReadVariableOp" and (handle := capture(node.input[0])) is not None:
            dtype = tf.as_dtype(node.attr["dtype"].type)
            value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
        elif node.name in captured and captured[node.name].dtype != tf.resource:
            value = captured[node.name]
        if value is not None:
            constant = type(node)(name=node.name, op="Const")
            constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.numpy()))
            constant.attr["dtype"].type = value.dtype.as_datatype_enum
            node.CopyFrom(constant)
    return inlined


def find_bottleneck(graph: Any, images: Any, output: Any) -> str:
    """Return the name of the last dense layer's input if only scores come after that layer.

    Else that of the tensor `output`. `images` and `output` are tensors of the tf.Graph `graph`.
    """
    photo_tensors = tensors_after(graph, images)

    def only_input(output: str, types: frozenset[str]) -> Any:
        """Return the input of the operation that gives `output`, if it is of these types.

        None if it has several inputs that depend on the photos.
        """
        operation = graph.get_tensor_by_name(output).op
        inputs = [tensor for tensor in operation.inputs if tensor.name in photo_tensors]
        # A new shape may be computed from the old one's.
        data = inputs[:1] if operation.type == "Reshape" else inputs
        return data[0] if operation.type in types and len(data) == 1 else None

    def dense_input(output: str) -> str | None:
        tensor = only_input(output, _DENSE)
        if tensor is None:
            return None
        operation = graph.get_tensor_by_name(output).op
        if operation.type == "Conv2D":
            kernel = operation.inputs[1].shape[:2].as_list()
            places = (end.shape[1:3].as_list() for end in (tensor, *operation.outputs))
            if any(sides != [1, 1] for sides in (kernel, *places)):
                return None
        return str(tensor.name)

    def scores_input(output: str) -> str | None:
        tensor = only_input(output, _AFTER_DENSE)
        return None if tensor is None else str(tensor.name)

    return find_cut(str(output.name), dense_input, scores_input)
