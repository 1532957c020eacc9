"""How large the tensors of a foreign network may be; checked before anything is computed."""

import math
from typing import Any

from deploy.errors import BadData

MAX_NUMBERS_PER_PHOTO = 1 << 26
"""Of one tensor: 256 MiB, the first layer of a network of 4096x4096 pixels and 16 channels."""
MAX_CONSTANT_NUMBERS = 1 << 28
"""Of one tensor: 1 GiB; the largest layer of VGG16 has 2 ** 27."""


def require_small(whole: Any, moving: set[str], batch: int) -> None:
    """Raise BadData if a tensor of the Graph `whole` is too large for the memory of a laptop.

    The operations named in `moving` compute for `batch` photos, all others are constant.
    """
    for operation in whole.get_operations():
        most = MAX_CONSTANT_NUMBERS
        if operation.name in moving:
            most = batch * MAX_NUMBERS_PER_PHOTO
        for output in operation.outputs:
            if output.shape.is_fully_defined() and output.shape.num_elements() > most:
                raise BadData(
                    f"node {operation.name} ({operation.type}) computes {output.shape}, more than "
                    f"{most:,} numbers. Remedy: a smaller network, or a smaller --input-size"
                )


def require_small_constant(node: Any) -> None:
    """Raise BadData for a Const node that unpacks to too much: one number may stand for all."""
    sides = [each.size for each in node.attr["value"].tensor.tensor_shape.dim]
    if math.prod(sides) > MAX_CONSTANT_NUMBERS:
        raise BadData(
            f"node {node.name} is a constant of {sides}, more than {MAX_CONSTANT_NUMBERS:,} numbers"
        )
