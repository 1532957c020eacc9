"""Limit the size of a foreign network's tensors before anything is computed."""

import math
from typing import Any

from deploy.errors import BadData
from retrain.backbones.surgery.scope import name_in_file

MAX_NUMBERS_PER_PHOTO = 1 << 26
"""256 MiB: the first layer of a network of 4096x4096 pixels and 16 channels."""
MAX_CONSTANT_NUMBERS = 1 << 28
"""1 GiB; the largest layer of VGG16 has 2 ** 27 numbers."""


def require_small(graph: Any, photo_operations: set[str], batch: int) -> None:
    """Raise BadData if a tensor of the tf.Graph `graph` is too large for a laptop's memory.

    The operations named in `photo_operations` compute for `batch` photos, all others are constant.
    """
    for operation in graph.get_operations():
        limit = MAX_CONSTANT_NUMBERS
        if operation.name in photo_operations:
            limit = batch * MAX_NUMBERS_PER_PHOTO
        for output in operation.outputs:
            if output.shape.is_fully_defined() and output.shape.num_elements() > limit:
                raise BadData(
                    f"node {name_in_file(operation.name)} ({operation.type}) computes "
                    f"{output.shape}, more than {limit:,} numbers. Remedy: a smaller "
                    "network, or a smaller `input_size`"
                )


def require_small_constant(node: Any) -> None:
    """Raise BadData for a Const node of too many numbers: a short file may stand for them."""
    shape = [dimension.size for dimension in node.attr["value"].tensor.tensor_shape.dim]
    if math.prod(shape) > MAX_CONSTANT_NUMBERS:
        raise BadData(
            f"node {node.name} is a constant of {shape}, more than {MAX_CONSTANT_NUMBERS:,} numbers"
        )
