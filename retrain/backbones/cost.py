"""Count a network's multiply-adds and parameters in its graph."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy import files
from deploy.errors import BadData
from deploy.untrusted_files import damaged, read_json
from retrain import tf_graph
from retrain.backbones.network import Network

_COUNT_VERSION = 1
"""Raised when the counting below changes."""


@dataclass(frozen=True)
class Cost:
    """The cost of the graph from image to bottleneck, batch normalization folded.

    `parameters` is the number of its floating-point constants, `multiply_adds` that of its
    convolutions and matrix products for one image.
    """

    parameters: int
    multiply_adds: int


def cost(network: Network, cache_dir: Path, report: Callable[[str], None]) -> Cost:
    """Return the cost of `network`, counted with random weights once and kept in `cache_dir`.

    `report` is called with a line before counting. Raises ModuleNotFoundError without TensorFlow.
    """
    path = cache_dir / "backbones" / f"{network.name}-cost-{_COUNT_VERSION}.json"
    try:
        with damaged(f"{path}: cannot be read"):
            cached = Cost(**read_json(path))
            if any(type(number) is not int or number < 1 for number in asdict(cached).values()):
                raise ValueError(f"{cached} are no counts")
            return cached
    except BadData:
        tf_graph.tensorflow()
        report(f"{network.name}: counting parameters and multiply-adds, once")
        counted = count(network.graph_def(None))
        with suppress(OSError):  # where the cache cannot be written, it is counted each time
            files.write_json(path, asdict(counted))
        return counted


def count(graph_def: Any) -> Cost:
    """Return the cost of a frozen GraphDef whose shapes are known except for the batch."""
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(graph_def)
    parameters = 0
    for operation in graph.get_operations():
        if operation.type == "Const" and operation.outputs[0].dtype == tf.float32:
            parameters += math.prod(operation.outputs[0].shape)
    return Cost(parameters, sum(map(multiply_adds, graph.get_operations())))


def multiply_adds(operation: Any) -> int:
    """Return the multiply-adds of a tf.Operation for one photo: 0 if it has no kernel."""
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
        return 0
    kernel = operation.inputs[1].shape
    # Each output sums over all axes of the kernel but the output's.
    summed = kernel[:2] if operation.type == "DepthwiseConv2dNative" else kernel[:-1]
    number: int = math.prod(operation.outputs[0].shape[1:]) * math.prod(summed)
    return number
