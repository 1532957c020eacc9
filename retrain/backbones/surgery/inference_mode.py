"""A function that serves, but was saved as if it trained, on the side of inference.

Keras' `export` calls a model without saying that it does not train. A layer such as RandomFlip or
Resizing then takes training as its default, for itself and for all layers after it: photos change
at random, and batch normalization uses the statistics of the batch.
"""

import re
from typing import Any

DRAWS = re.compile("Stateless(Random|Truncated)|Random|TruncatedNormal|Stateful.*(Uniform|Normal)")
"""Operations that draw random numbers, by the beginning of their type."""
_NAMES = """
    BiasAdd Conv2D DepthwiseConv2dNative FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 MatMul
"""
_LEARNS = frozenset(_NAMES.split())
"""Operations with weights: a layer that holds one does not only change photos."""

_MAX_DRAWS = 100
"""Each is a search through the graph."""


def at_inference(whole: Any, images: Any) -> Any:
    """Return the GraphDef of `whole`, which takes the tensor `images`, as it is at inference.

    Keras' layers that draw random numbers pass on what they take. Such a layer is a name scope, the
    innermost one around the draw, that one photo enters and one of the same shape leaves, and that
    keeps a seed and no weights. Other draws are left. A batch statistic of which a variable keeps
    the running average becomes that average.
    """
    moving = _after(whole, images)
    graph_def = whole.as_graph_def()
    bypassed: dict[str, str] = {}
    draws = [each.name for each in whole.get_operations() if DRAWS.match(each.type)]
    for name in draws[:_MAX_DRAWS]:
        bypassed |= _around_draw(whole, moving, name)
    for operation in whole.get_operations():
        if operation.type == "AssignVariableOp":
            bypassed |= _running_average(operation, moving)
    for node in graph_def.node:
        node.input[:] = [_source(each, bypassed) for each in node.input]
    return graph_def


def _after(whole: Any, images: Any) -> set[str]:
    """Return the names of all tensors that hang on `images`."""
    moving = {images.name}
    for operation in whole.get_operations():
        if any(each.name in moving for each in operation.inputs):
            moving.update(each.name for each in operation.outputs)
    return moving


def _around_draw(whole: Any, moving: set[str], draw: str) -> dict[str, str]:
    """Return what leaves the layer around the operation `draw`, and what enters it; or nothing."""
    scope = draw
    while "/" in scope:
        scope = scope.rpartition("/")[0]
        inside = [
            each
            for each in whole.get_operations()
            if each.name == scope or each.name.startswith(f"{scope}/")
        ]
        names = {each.name for each in inside}
        enter = {
            tensor
            for operation in inside
            for tensor in operation.inputs
            if tensor.name in moving and tensor.op.name not in names
        }
        leave = {
            tensor
            for operation in inside
            for tensor in operation.outputs
            if any(user.name not in names for user in tensor.consumers())
        }
        if len(enter) == len(leave) == 1:
            ((before,), (after,)) = enter, leave
            if after.name in moving and _is_same_photo(before, after):
                seeded = any(operation.type == "AssignVariableOp" for operation in inside)
                weighs = any(
                    operation.type in _LEARNS
                    and any(tensor.name in moving for tensor in operation.inputs)
                    for operation in inside
                )
                return {after.name: before.name} if seeded and not weighs else {}
    return {}


def _running_average(assignment: Any, moving: set[str]) -> dict[str, str]:
    """Return the batch statistic, and the average that stands for it at inference; or nothing.

    What is assigned is average * momentum + statistic * (1 - momentum).
    """
    addition = assignment.inputs[1].op
    products = [each.op for each in addition.inputs]
    if addition.type not in ("Add", "AddV2") or {each.type for each in products} != {"Mul"}:
        return {}
    factors = [tensor for product in products for tensor in product.inputs]
    statistics = [each for each in factors if each.name in moving]
    averages = [each for each in factors if each.op.type == "Const" and each.shape.rank]
    if len(statistics) != 1 or len(averages) != 1 or statistics[0].shape != averages[0].shape:
        return {}
    return {statistics[0].name: averages[0].name}


def _is_same_photo(before: Any, after: Any) -> bool:
    if not before.shape.rank == after.shape.rank == 4 or before.dtype != after.dtype:
        return False
    compatible: bool = before.shape.is_compatible_with(after.shape)
    return compatible and bool(before.shape[-1] == after.shape[-1])


def _source(tensor: str, bypassed: dict[str, str]) -> str:
    """Return what stands for `tensor` of a node's input, once layers are bypassed."""
    if tensor.startswith("^"):
        return tensor
    name = tensor if ":" in tensor else f"{tensor}:0"
    if name not in bypassed:
        return tensor
    for _ in bypassed:
        name = bypassed.get(name, name)
    return name
