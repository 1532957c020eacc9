"""Compute with the top of a network: everything above a cut, and the head."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from deploy.system.cores import cores
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.backbones.round_kernels import round_in_training
from retrain.backbones.surgery.pointwise_products import pointwise_products
from retrain.bottlenecks.feature_store import Rows
from retrain.progress import Advance
from retrain.training.head import Examples, Floats, Head, Ints

Item = TypeVar("Item")
Result = TypeVar("Result")

PARTS = 4
"""Parts of a batch that are computed at the same time, each on one core. Their sums are added in
this order, so that the bytes of a run do not depend on the number of cores."""
_PHOTOS_PER_BLOCK = 64
_PRODUCTS = ("Conv2D", "MatMul")
_ADDITIONS = ("BiasAdd", "Add", "AddV2")


class Gradient(NamedTuple):
    """The logits of a batch, and the gradient of its mean cross entropy by each parameter."""

    logits: Floats
    by_parameter: list[Floats]


class Top:
    """The part of `backbone` above the output of `trunk`, with a head of `classes` labels.

    Its parameters are float32 arrays in the order of `names`: the kernels of convolutions and
    dense layers above the cut, their biases, and last the head's weights and bias. Kernels of
    depthwise convolutions stay as they are: measured, training them changes nothing and takes a
    fifth of the time.
    """

    def __init__(self, backbone: Backbone, trunk: Backbone, shape: Sequence[int], classes: int):
        """Build the graph; `shape` is that of the cut's tensor for one photo.

        Raises BadData for a graph whose operations above the cut have no gradient.
        """
        tf = tf_graph.tensorflow()
        graph_def = tf_graph.read(backbone.graph_path)
        constants = trainable_constants(graph_def, trunk.cut)
        self.names = (*constants, "head/weights", "head/bias")
        self._initial = list(constants.values())
        self._place = f"{backbone.name}: an operation above {trunk.cut}"
        with tf.Graph().as_default() as graph:
            values = tf.compat.v1.placeholder(tf.float32, [None, trunk.width])
            replaced = {
                f"{name}:0": tf.compat.v1.placeholder(tf.float32, constant.shape)
                for name, constant in constants.items()
            }
            maps = {f"{trunk.cut}:0": tf.reshape(values, [-1, *shape])}
            (bottlenecks,) = tf_graph.import_graph(
                pointwise_products(graph_def),
                maps | replaced,
                [f"{tf_graph.BOTTLENECK}:0"],
                "backbone",
            )
            weights = tf.compat.v1.placeholder(tf.float32, [backbone.width, classes])
            bias = tf.compat.v1.placeholder(tf.float32, [classes])
            logits = tf.matmul(bottlenecks, weights) + bias
            targets = tf.compat.v1.placeholder(tf.float32, [None, classes])
            offset = tf.compat.v1.placeholder(tf.float32, [classes])
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits + offset)
            parameters = [*replaced.values(), weights, bias]
            try:
                gradients = tf.compat.v1.gradients(losses, parameters)
                for name, gradient in zip(self.names, gradients, strict=True):
                    if gradient is None:
                        raise LookupError(f"none reaches {name}")
            except (LookupError, ValueError) as error:
                raise BadData(
                    f"{self._place} has no gradient ({str(error).splitlines()[0]}): name a `cut` "
                    "above it"
                ) from error
        # One thread for each operation: the parts of a batch share the cores. Equal bytes follow.
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1,
            inter_op_parallelism_threads=-1,
            use_per_session_threads=True,
        )
        session = tf.compat.v1.Session(graph=graph, config=settings)
        self._classes = classes
        self._gradient = session.make_callable(
            [logits, *gradients], [values, targets, offset, *parameters]
        )
        self._logits = session.make_callable(logits, [values, *parameters])
        self._bottlenecks = session.make_callable(bottlenecks, [values, *parameters[:-2]])
        self._session = session
        self._pool = ThreadPoolExecutor(min(cores(), PARTS))

    def close(self) -> None:
        """Free the threads and the memory of the computation."""
        self._pool.shutdown()
        self._session.close()

    def initial(self, head: Head) -> list[Floats]:
        """Return the parameters of the backbone as it was published, and of `head`."""
        return [*self._initial, head.weights, head.bias]

    def rounded(self, parameters: Sequence[Floats]) -> list[Floats]:
        """Return the parameters that the network computes with: kernels are on the int8 grid."""
        return self.run_all(round_in_training, parameters)

    def split(self, parameters: Sequence[Floats]) -> tuple[dict[str, Floats], Head]:
        """Return the constants of the backbone's graph, by name, and the head."""
        *constants, weights, bias = parameters
        return dict(zip(self.names, constants, strict=False)), Head(weights, bias)

    def gradient(
        self,
        store: Rows,
        rows: Ints,
        targets: Floats,
        offset: Floats,
        parameters: Sequence[Floats],
    ) -> Gradient:
        """Return the gradient for the feature maps at `rows` (N,) of `store`, `targets` (N, C).

        `offset` (C,) is added to the logits before the softmax. Raises BadData where TensorFlow
        cannot compute it: without oneDNN it has none of grouped or dilated convolutions.
        """

        def compute(part: Ints) -> list[Any]:
            maps = store.take(rows[part])
            result: list[Any] = self._gradient(maps, targets[part], offset, *parameters)
            return result

        parts = np.array_split(np.arange(len(rows)), min(PARTS, len(rows)))
        try:
            logits, *by_part = zip(*self.run_all(compute, parts), strict=True)
        except tf_graph.tensorflow().errors.OpError as error:
            reason = error.message.partition("[[{{node")[0].strip().splitlines()[-1]
            raise BadData(
                f"{self._place} cannot be trained ({reason}): name a `cut` above it"
            ) from error
        scale = np.float32(1 / len(rows))
        sums = [sum(values[1:], values[0]) * scale for values in by_part]
        return Gradient(np.concatenate(logits), sums)

    def run_all(self, call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return `call` of each item, in their order, computed on all cores."""
        return list(self._pool.map(call, items))

    def logits_of(
        self, examples: Examples, parameters: Sequence[Floats], advance: Advance = lambda _: None
    ) -> Floats:
        """Return float32 (N, C) for the undistorted photos; maps are read in blocks.

        `advance` gets the number of photos of each block when it is computed.
        """
        logits = [np.empty((0, self._classes), np.float32)]

        def compute(rows: Ints) -> Floats:
            block: Floats = self._logits(examples.store.take(rows), *parameters)
            return block

        for block in self._pool.map(compute, self._blocks(examples.rows[:, 0])):
            logits.append(block)
            advance(len(block))
        return np.concatenate(logits)

    def bottlenecks_of(
        self, examples: Examples, indices: Ints, parameters: Sequence[Floats]
    ) -> Floats:
        """Return float32 (N, D): the bottlenecks of the undistorted photos at `indices` (N,)."""

        def compute(rows: Ints) -> Floats:
            values: Floats = self._bottlenecks(examples.store.take(rows), *parameters[:-2])
            return values

        return np.concatenate(self.run_all(compute, self._blocks(examples.rows[indices, 0])))

    def _blocks(self, rows: Ints) -> list[Ints]:
        return [rows[i : i + _PHOTOS_PER_BLOCK] for i in range(0, len(rows), _PHOTOS_PER_BLOCK)]


def trainable_constants(graph_def: Any, cut: str) -> dict[str, npt.NDArray[np.float32]]:
    """Return kernels and biases above the operation `cut`, by the name of their constant.

    Kernels are the constants that convolutions and matrix products take, but for depthwise ones;
    biases are those that are added to their results, a value for each channel. A constant that
    serves below the cut too is left out: another value would change the trunk.
    """
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(graph_def)
    above, below = {cut}, set[str]()
    constants: dict[str, npt.NDArray[np.float32]] = {}
    for operation in graph.get_operations():  # in the order of running
        if above.intersection(tensor.op.name for tensor in operation.inputs):
            above.add(operation.name)
            constant = _trainable(operation)
            if constant is not None:
                constants[constant.name] = tf.make_ndarray(constant.get_attr("value"))
        elif operation.type != "Identity":
            below.update(_source(tensor).name for tensor in operation.inputs)
    return {name: value for name, value in constants.items() if name not in below}


def _source(tensor: Any) -> Any:
    """Return the operation that computes `tensor`, before any Identity."""
    operation = tensor.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    return operation


def _trainable(operation: Any) -> Any:
    """Return the constant that is the kernel or the bias of `operation`, None if it has none."""
    if operation.type in _PRODUCTS:
        kernel = _source(operation.inputs[1])
        return kernel if _is_constant(kernel) else None
    if operation.type in _ADDITIONS:
        for bias, summand in (operation.inputs[::-1], operation.inputs):
            constant = _source(bias)
            if (
                _is_constant(constant)
                and summand.op.type in (*_PRODUCTS, "DepthwiseConv2dNative")
                and constant.outputs[0].shape.num_elements() == summand.shape[-1]
            ):
                return constant
    return None


def _is_constant(operation: Any) -> bool:
    return bool(operation.type == "Const" and operation.outputs[0].dtype == "float32")
