"""A traced TensorFlow function as a frozen network, cut before its last dense layer."""

import math
from typing import Any, NamedTuple

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.custom.input_spec import Sides
from retrain.backbones.custom.size_limits import MAX_CONSTANT_NUMBERS
from retrain.backbones.surgery.cut import before_dense
from retrain.backbones.surgery.inference_mode import at_inference

_DENSE = frozenset(("MatMul", "Conv2D"))
_SCORES = """
    Add AddV2 BiasAdd Cast Identity LogSoftmax Reshape Sigmoid Softmax Squeeze
"""
_AFTER_DENSE = frozenset(_SCORES.split())


class OwnNetwork(NamedTuple):
    """A frozen GraphDef, and what its file tells of it: ends, height and width, mean and std."""

    graph_def: Any
    input_tensor: str | None = None
    bottleneck_tensor: str | None = None
    size: int | Sides | None = None
    mean: float | None = None
    std: float | None = None


def freeze(run: Any) -> OwnNetwork:
    """Return the concrete function `run` to where it is cut, if it has one output.

    Its variables must be alive. Raises BadData unless it has one input.
    """
    inputs = run.inputs[: len(run.inputs) - len(run.captured_inputs)]
    if len(inputs) != 1:
        named = ", ".join(f"{each.name} {each.shape}" for each in inputs) or "none"
        raise BadData(
            f"{len(inputs)} inputs ({named}) instead of one that takes photos. Remedy: save the "
            "network with one input"
        )
    sides = [side for side in inputs[0].shape if side] if inputs[0].shape.rank else []
    if math.prod(sides) > MAX_CONSTANT_NUMBERS:  # TensorFlow allocates it, and crashes
        raise BadData(f"its input {inputs[0].name} is {inputs[0].shape}, too large for photos")
    tf = tf_graph.tensorflow()
    graph_def = _with_constants(run)
    with tf.Graph().as_default() as whole:
        tf.import_graph_def(graph_def, name="")
    images = whole.get_tensor_by_name(inputs[0].name)
    output = whole.get_tensor_by_name(run.outputs[0].name)
    bottleneck = None if len(run.outputs) > 1 else row_before_dense(whole, images, output)
    return OwnNetwork(at_inference(whole, images), images.name, bottleneck)


def _with_constants(run: Any) -> Any:
    """Return the GraphDef of `run` without function calls, with a constant for each variable read.

    TensorFlow's convert_variables_to_constants_v2 is not used: it fails where a variable is also
    assigned, as the seeds of Keras' layers that change photos at random are.
    """
    tf = tf_graph.tensorflow()
    from tensorflow.python.framework import convert_to_constants

    inlined = convert_to_constants._run_inline_graph_optimization(run, True, False)
    captured = {inner.op.name: outer for outer, inner in run.graph.captures}
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


def row_before_dense(whole: Any, images: Any, output: Any) -> str:
    """Return the name of what feeds the last dense layer if only scores come after it."""
    moving = {images.name}
    for operation in whole.get_operations():
        if any(each.name in moving for each in operation.inputs):
            moving.update(each.name for each in operation.outputs)

    def only_input(end: str, kinds: frozenset[str]) -> Any:
        """Return what `end` is made of, if by an operation of these kinds and constants."""
        operation = whole.get_tensor_by_name(end).op
        hanging = [each for each in operation.inputs if each.name in moving]
        # A new shape may be computed from the old one's.
        data = hanging[:1] if operation.type == "Reshape" else hanging
        return data[0] if operation.type in kinds and len(data) == 1 else None

    def dense(end: str) -> str | None:
        fed = only_input(end, _DENSE)
        if fed is None:
            return None
        operation = whole.get_tensor_by_name(end).op
        if operation.type == "Conv2D":
            kernel = operation.inputs[1].shape[:2].as_list()
            places = (each.shape[1:3].as_list() for each in (fed, *operation.outputs))
            if any(each != [1, 1] for each in (kernel, *places)):
                return None
        return str(fed.name)

    def scores(end: str) -> str | None:
        fed = only_input(end, _AFTER_DENSE)
        return None if fed is None else str(fed.name)

    return before_dense(str(output.name), dense, scores)
