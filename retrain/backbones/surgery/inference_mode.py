"""Switch a graph that was saved in training mode to inference.

Keras' `export` calls a model without `training=False`. A layer such as RandomFlip or Resizing then
takes training as its default, for itself and for all layers after it: photos change at random, and
batch normalization uses the statistics of the batch.
"""

import re
from typing import Any

from retrain import tf_graph

RANDOM_OPERATIONS = re.compile(
    "Stateless(Random|Truncated)|Random|TruncatedNormal|Stateful.*(Uniform|Normal)"
)
"""Match the beginning of the type of an operation that draws random numbers."""
_NAMES = """
    BiasAdd Conv2D DepthwiseConv2dNative FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 MatMul
"""
_WITH_WEIGHTS = frozenset(_NAMES.split())
"""Operations with weights: a layer that holds one does more than change photos."""

_MAX_RANDOM_OPERATIONS = 100
"""Each one costs a search through the graph."""


def to_inference_mode(graph: Any, images: Any) -> Any:
    """Return the GraphDef of the tf.Graph `graph`, which takes the tensor `images`, at inference.

    A layer of Keras that draws random numbers is bypassed. Such a layer is the innermost name scope
    around the random operation that one photo enters and one of the same shape leaves, and that
    keeps a seed and no weights. Other random operations stay. A batch statistic whose running
    average is kept in a variable becomes that average.
    """
    photo_tensors = tensors_after(graph, images)
    graph_def = tf_graph.definition(graph)
    bypassed: dict[str, str] = {}
    random = [op.name for op in graph.get_operations() if RANDOM_OPERATIONS.match(op.type)]
    for name in random[:_MAX_RANDOM_OPERATIONS]:
        bypassed |= _layer_around(graph, photo_tensors, name)
    for operation in graph.get_operations():
        if operation.type == "AssignVariableOp":
            bypassed |= _running_average(operation, photo_tensors)
    for node in graph_def.node:
        node.input[:] = [_source(name, bypassed) for name in node.input]
    return graph_def


def tensors_after(graph: Any, images: Any) -> set[str]:
    """Return the names of `images` and of all tensors that are computed from it."""
    names = {images.name}
    for operation in graph.get_operations():
        if any(tensor.name in names for tensor in operation.inputs):
            names.update(tensor.name for tensor in operation.outputs)
    return names


def _layer_around(graph: Any, photo_tensors: set[str], random: str) -> dict[str, str]:
    """Return the output of the layer around the operation `random`, and its input; or nothing."""
    scope = random
    while "/" in scope:
        scope = scope.rpartition("/")[0]
        inside = [
            operation
            for operation in graph.get_operations()
            if operation.name == scope or operation.name.startswith(f"{scope}/")
        ]
        names = {operation.name for operation in inside}
        enter = {
            tensor
            for operation in inside
            for tensor in operation.inputs
            if tensor.name in photo_tensors and tensor.op.name not in names
        }
        leave = {
            tensor
            for operation in inside
            for tensor in operation.outputs
            if any(user.name not in names for user in tensor.consumers())
        }
        if len(enter) == len(leave) == 1:
            ((before,), (after,)) = enter, leave
            if after.name in photo_tensors and _is_same_photo(before, after):
                seeded = any(operation.type == "AssignVariableOp" for operation in inside)
                weighted = any(
                    operation.type in _WITH_WEIGHTS
                    and any(tensor.name in photo_tensors for tensor in operation.inputs)
                    for operation in inside
                )
                return {after.name: before.name} if seeded and not weighted else {}
    return {}


def _running_average(assignment: Any, photo_tensors: set[str]) -> dict[str, str]:
    """Return the batch statistic, and the average that replaces it at inference; or nothing.

    The assigned value is average * momentum + statistic * (1 - momentum).
    """
    addition = assignment.inputs[1].op
    products = [tensor.op for tensor in addition.inputs]
    if addition.type not in ("Add", "AddV2") or {product.type for product in products} != {"Mul"}:
        return {}
    factors = [tensor for product in products for tensor in product.inputs]
    statistics = [tensor for tensor in factors if tensor.name in photo_tensors]
    averages = [tensor for tensor in factors if tensor.op.type == "Const" and tensor.shape.rank]
    if len(statistics) != 1 or len(averages) != 1 or statistics[0].shape != averages[0].shape:
        return {}
    return {statistics[0].name: averages[0].name}


def _is_same_photo(before: Any, after: Any) -> bool:
    if not before.shape.rank == after.shape.rank == 4 or before.dtype != after.dtype:
        return False
    compatible: bool = before.shape.is_compatible_with(after.shape)
    return compatible and bool(before.shape[-1] == after.shape[-1])


def _source(tensor: str, bypassed: dict[str, str]) -> str:
    """Return the tensor that replaces `tensor` as a node's input, once layers are bypassed."""
    if tensor.startswith("^"):
        return tensor
    name = tensor if ":" in tensor else f"{tensor}:0"
    if name not in bypassed:
        return tensor
    for _ in bypassed:
        name = bypassed.get(name, name)
    return name
