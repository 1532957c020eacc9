"""What a network costs to run: counted in its graph, not copied from a paper."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy import files
from deploy.errors import BadData
from deploy.untrusted_files import damaged, read_json
from retrain import tf_graph
from retrain.backbones.network import Network

_COUNTED = 1
"""Raised when the counting below changes."""


@dataclass(frozen=True)
class Cost:
    """Numbers of the graph from image to bottleneck, batch normalization folded.

    `parameters` are its floating-point constants, `multiply_adds` those of its convolutions and
    matrix products on one image.
    """

    parameters: int
    multiply_adds: int


def cost(network: Network, cache_dir: Path, tell: Callable[[str], None]) -> Cost:
    """Return what `network` costs, counted with random weights, once for each `cache_dir`.

    `tell` is given a line before it is counted. Raises ModuleNotFoundError without TensorFlow.
    """
    path = cache_dir / "backbones" / f"{network.name}-cost-{_COUNTED}.json"
    try:
        with damaged(f"{path}: cannot be read"):
            counted = Cost(**read_json(path))
            if any(type(number) is not int or number < 1 for number in asdict(counted).values()):
                raise ValueError(f"{counted} are no counts")
            return counted
    except BadData:
        tf_graph.tensorflow()
        tell(f"{network.name}: counting parameters and multiply-adds, once")
        found = count(network.graph_def(None))
        files.write_json(path, asdict(found))
        return found


def count(graph_def: Any) -> Cost:
    """Return the cost of a frozen GraphDef whose shapes are known, except for the batch."""
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph_def, name="")
    parameters = multiply_adds = 0
    for operation in imported.get_operations():
        if operation.type == "Const" and operation.outputs[0].dtype == tf.float32:
            parameters += math.prod(operation.outputs[0].shape)
        elif operation.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            kernel = operation.inputs[1].shape
            # Each output sums over the kernel's inputs: over all its axes but the outputs'.
            summed = kernel[:2] if operation.type == "DepthwiseConv2dNative" else kernel[:-1]
            multiply_adds += math.prod(operation.outputs[0].shape[1:]) * math.prod(summed)
    return Cost(parameters, multiply_adds)
