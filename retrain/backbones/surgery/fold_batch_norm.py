"""Simplify a network: any number of photos in a batch, batch normalization folded into kernels.

TensorFlow's own fold_batch_norms (python/tools) is not used: it loops over each weight in Python
(22 million in Inception v3), changes a convolution whose output is used twice, and does not
recognise a normalization that is written as multiplication and addition.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_INT32

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.surgery.scope import name_in_file
from retrain.backbones.surgery.size_limits import require_small
from retrain.tensor_proto import to_proto


class _Norm(NamedTuple):
    """The index of each input, and the attribute with the variance's epsilon, 1e-4 if left out."""

    scale: int
    offset: int
    mean: int
    variance: int
    epsilon: str


NORMS = {
    "BatchNormWithGlobalNormalization": _Norm(4, 3, 1, 2, "variance_epsilon"),
    "FusedBatchNorm": _Norm(1, 2, 3, 4, "epsilon"),
    "FusedBatchNormV2": _Norm(1, 2, 3, 4, "epsilon"),
    "FusedBatchNormV3": _Norm(1, 2, 3, 4, "epsilon"),
}
_OUTPUT_AXIS = {"Conv2D": 3, "DepthwiseConv2dNative": 2}
"""The first axis of a kernel that belongs to its outputs."""
_ADDITIONS = ("Add", "AddV2", "BiasAdd", "BiasAddV1", "Sub")

_GREY = "rgb_to_grey"
GREY_SHARES = np.array([19595, 38470, 7471]) / 65536
"""The share of red, green and blue in grey, as in Pillow's conversion to mode L (ITU-R 601-2)."""

Array = npt.NDArray[Any]


def simplify(subgraph: Any, shape: tuple[int, int, int, int]) -> Any:
    """Return the GraphDef `subgraph`, from `input:0` to END, for any batch, folded.

    Its nodes are in the order of running and name each input's output (`conv:0`); `shape` is that
    of its input: batch, height, width, channels. With 1 channel the result takes RGB and begins
    with the conversion to grey. Raises BadData where TensorFlow does not take it.
    """
    network = _Network(*_free_batch(subgraph, shape))
    for node in list(network.nodes.values()):
        if node.op in NORMS:
            network.expand_norm(node)
    for node in list(network.nodes.values()):
        if node.op == "Mul":
            network.fold(node)
    for node in network.nodes.values():
        if node.op in ("Add", "AddV2"):
            network.to_bias(node)
    if shape[-1] == 1:
        network.take_rgb()
    return network.graph_def()


def _free_batch(
    subgraph: Any, input_shape: tuple[int, int, int, int]
) -> tuple[list[Any], dict[str, Array]]:
    """Return the nodes that compute with photos, and the values of constant tensors by name.

    A fixed batch size is written in the shape of a Reshape: it becomes -1 there.
    """
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, input_shape)
        try:
            tf_graph.import_graph(subgraph, {f"{tf_graph.INPUT}:0": images})
        except ValueError as error:
            reason = str(error).partition(" for '")[0]
            raise BadData(
                f"TensorFlow does not take this graph with photos of {input_shape[1]}x"
                f"{input_shape[2]} pixels ({reason}). Remedy: set `input_size` as the network was "
                "trained, or another `input_tensor`"
            ) from error
    names, nodes, values = {tf_graph.INPUT}, [], {}
    for node in subgraph.node:
        if names.isdisjoint(map(_node_of, node.input)):
            continue
        names.add(node.name)
        nodes.append(node)
        if node.op == "Reshape":
            shape = graph.get_tensor_by_name(f"{node.name}:0").shape
            if shape.rank and shape.is_fully_defined() and shape[0] == input_shape[0]:
                node.input[1] = f"free_batch/{node.name}:0"
                node.attr["Tshape"].type = DT_INT32
                values[node.input[1]] = np.array([-1, *shape[1:]], np.int32)
    require_small(graph, names, input_shape[0])
    computed = names.union(map(_node_of, values))
    constant = {name for node in nodes for name in node.input if _node_of(name) not in computed}
    with tf.compat.v1.Session(graph=graph) as session:
        try:
            values |= session.run({name: name for name in constant})
        except tf.errors.OpError as error:
            raise BadData(f"TensorFlow does not run this graph: {error.message}") from error
    return nodes, values


def _node_of(tensor: str) -> str:
    """Return the name of the node whose output `tensor` is: `conv` for `conv:0`."""
    return tensor.rpartition(":")[0]


class _Network:
    """Nodes by name, and the values of constant tensors by name."""

    def __init__(self, nodes: list[Any], values: dict[str, Array]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._values = values

    def graph_def(self) -> Any:
        """Return the network as a GraphDef of today's version."""
        tf = tf_graph.tensorflow()
        result = GraphDef(node=self.nodes.values())
        result.versions.producer = tf.version.GRAPH_DEF_VERSION
        used = {name for node in result.node for name in node.input}
        names = {tensor: f"constant_{i}" for i, tensor in enumerate(sorted(used & {*self._values}))}
        for node in result.node:
            node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
        for tensor, name in names.items():
            value = to_proto(self._values[tensor])
            node = result.node.add(name=name, op="Const")
            node.attr["value"].tensor.CopyFrom(value)
            node.attr["dtype"].type = value.dtype
        return result

    def expand_norm(self, norm: Any) -> None:
        """Write a batch normalization as a multiplication and an addition."""
        at = NORMS[norm.op]
        inputs = [self._values.get(tensor) for tensor in norm.input]
        if any(value is None for value in inputs[1:]):
            name = name_in_file(norm.name)
            raise BadData(f"node {name} ({norm.op}) has no constant statistics: freeze it")
        mean, variance, offset, scale = (
            np.asarray(inputs[i], np.float64) for i in (at.mean, at.variance, at.offset, at.scale)
        )
        if (
            "scale_after_normalization" in norm.attr
            and not norm.attr["scale_after_normalization"].b
        ):
            scale = np.ones_like(scale)
        epsilon = norm.attr[at.epsilon].f if at.epsilon in norm.attr else 1e-4
        scale = scale / np.sqrt(variance + epsilon)
        product = f"scaled/{norm.name}"
        self._put(product, "Mul", norm.input[0], scale)
        self._put(norm.name, "BiasAdd", f"{product}:0", offset - mean * scale)

    def _put(self, name: str, op: str, tensor: str, value: Array) -> None:
        constant = f"constant/{name}:0"
        node = NodeDef(name=name, op=op, input=[tensor, constant])
        node.attr["T"].type = DT_FLOAT
        self.nodes[name] = node
        self._values[constant] = np.asarray(value, np.float32)

    def fold(self, product: Any) -> None:
        """Move a multiplication by constants into the kernel before it, where there is one.

        A bias between the two is multiplied too. A tensor that is used twice is left alone.
        """
        scaled, scale = self._operands(product)
        if scale.size and (scale == 1).all() and scale.ndim <= 1:
            self._drop(product, scaled)
            return
        convolution, bias, offset = self._only_use(scaled), None, np.zeros(1)
        if convolution is not None and convolution.op in _ADDITIONS:
            bias = convolution
            tensor, offset = self._operands(bias)
            convolution = self._only_use(tensor)
        if convolution is None or convolution.op not in _OUTPUT_AXIS:
            return
        kernel = self._values.get(convolution.input[1])
        if kernel is None:
            return
        outputs = kernel.shape[_OUTPUT_AXIS[convolution.op] :]
        if not all(_per_channel(value, int(np.prod(outputs))) for value in (scale, offset)):
            return
        scale = np.broadcast_to(scale.ravel(), int(np.prod(outputs)))
        self._replace(convolution, 1, kernel * scale.reshape(outputs))
        if bias is not None:
            self._replace(bias, 1 - [*bias.input].index(tensor), offset.ravel() * scale)
        self._drop(product, scaled)

    def to_bias(self, addition: Any) -> None:
        """Write the addition of a constant for each channel as BiasAdd, which TensorFlow fuses."""
        tensor, value = self._operands(addition)
        node = self.nodes.get(_node_of(tensor))
        if node is None or node.op not in _OUTPUT_AXIS or not _per_channel(value, value.size):
            return
        kernel = self._values.get(node.input[1])
        if kernel is None or value.size != np.prod(kernel.shape[_OUTPUT_AXIS[node.op] :]):
            return
        addition.op = "BiasAdd"
        addition.input[:] = [tensor, ""]
        self._replace(addition, 1, value.ravel())

    def take_rgb(self) -> None:
        """Let a network of grey photos take RGB.

        The conversion is linear: where only convolutions use the photo, it is folded into their
        kernels; else a 1x1 convolution goes before the network.
        """
        photos = f"{tf_graph.INPUT}:0"
        users = [node for node in self.nodes.values() if photos in node.input]
        if all(node.op == "Conv2D" and node.input[1] in self._values for node in users):
            for node in users:
                kernel = self._values[node.input[1]]
                self._replace(node, 1, kernel * GREY_SHARES[:, np.newaxis])
            return
        grey = NodeDef(name=_GREY, op="Conv2D", input=[photos, f"{_GREY}/kernel:0"])
        grey.attr["T"].type = DT_FLOAT
        grey.attr["strides"].list.i[:] = [1, 1, 1, 1]
        grey.attr["padding"].s = b"VALID"
        for node in users:
            node.input[:] = [f"{_GREY}:0" if name == photos else name for name in node.input]
        self.nodes[_GREY] = grey
        self._values[f"{_GREY}/kernel:0"] = GREY_SHARES.reshape(1, 1, 3, 1).astype(np.float32)

    def _drop(self, node: Any, source: str) -> None:
        """Take out `node`, whose output is the tensor `source`."""
        del self.nodes[node.name]
        for user in self.nodes.values():
            user.input[:] = [source if name == f"{node.name}:0" else name for name in user.input]

    def _operands(self, node: Any) -> tuple[str, Array]:
        """Return the input of `node` that is not constant, and the other's value; or nothing."""
        first, second = node.input
        if second in self._values:
            return first, self._values[second]
        if first in self._values and node.op != "Sub":
            return second, self._values[first]
        return "", np.zeros(0)

    def _only_use(self, tensor: str) -> Any:
        """Return the node whose output is `tensor`, if that is used once."""
        uses = sum([*node.input].count(tensor) for node in self.nodes.values())
        return self.nodes.get(_node_of(tensor)) if uses == 1 else None

    def _replace(self, node: Any, index: int, value: Array) -> None:
        node.input[index] = f"folded/{node.name}:0"
        self._values[node.input[index]] = np.asarray(value, np.float32)


def _per_channel(value: Array, channels: int) -> bool:
    return value.size in (1, channels) and value.size == (value.shape or (1,))[-1]
