"""Extract from a foreign GraphDef the operations from one tensor to another, at inference.

Nothing of the graph is run here. Operations come from an allow-list: pure arithmetic that neither
reads nor writes anything. Operations that only training needs are taken out.
"""

import re
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.types_pb2 import DT_BOOL, DT_FLOAT

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.surgery.fold_batch_norm import NORMS
from retrain.backbones.surgery.inference_mode import RANDOM_OPERATIONS
from retrain.backbones.surgery.scope import END, SCOPE, name_in_file
from retrain.backbones.surgery.size_limits import require_small_constant

_NAMES = """
    Abs Add AddN AddV2 AvgPool BiasAdd BiasAddV1 Cast ClipByValue Concat ConcatV2 Const Conv2D
    DepthwiseConv2dNative Div Elu Exp ExpandDims LRN LeakyRelu Log MatMul Max MaxPool Maximum Mean
    Min Minimum MirrorPad Mul Neg Pack Pad PadV2 Pow Prod RealDiv Reciprocal Relu Relu6 Reshape
    ResizeBilinear ResizeNearestNeighbor Rsqrt Selu Shape Sigmoid Slice Softmax Softplus Softsign
    Split SplitV Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Tanh Transpose
"""
FAKE_QUANT = frozenset(
    (
        "FakeQuantWithMinMaxArgs",
        "FakeQuantWithMinMaxVars",
        "FakeQuantWithMinMaxVarsPerChannel",
    )
)
"""Operations that round as an int8 model does: kept for weights, left out for photos."""
ALLOWED = frozenset((*_NAMES.split(), *NORMS, *FAKE_QUANT))
"""Operations that are taken from a file."""
_PASSES = frozenset(
    ("Identity", "CheckNumerics", "EnsureShape", "StopGradient", "PreventGradient", "Snapshot")
)
_TRAINING = re.compile("train|learning_phase", re.IGNORECASE)
"""Match the name of a placeholder that switches a graph to training."""
IMPORT_PREFIX = "import/"
"""The prefix that label_image.py put before the name of each node."""


def tensor_name(name: str) -> str:
    """Return a tensor's name with its output's number: `Mul:0` for `Mul`."""
    return name if ":" in name else f"{name}:0"


def node_name(tensor: str) -> str:
    """Return the name of the node of an input: `conv` for `conv`, `conv:0` and `^conv`."""
    return tensor.removeprefix("^").rpartition(":")[0] or tensor.removeprefix("^")


def strip_import_prefix(graph_def: Any, name: str) -> str:
    """Return the tensor `name` as the graph names it.

    `import/input`, as label_image.py had it, is `input`, unless the graph has both.
    """
    names = {node.name for node in graph_def.node}
    bare = name.removeprefix(IMPORT_PREFIX)
    if node_name(tensor_name(name)) not in names and node_name(tensor_name(bare)) in names:
        return bare
    return name


def inference_subgraph(graph_def: Any, start: str, end: str) -> Any:
    """Return the GraphDef of all operations from the tensor `start` to the tensor `end`.

    Nodes are in the order of running, and named with SCOPE before their own name; `start` is
    named `input:0`, and has no node; `end` is named END. Raises BadData for operations that are not
    allowed, and for conditions whose value is not known.
    """
    nodes: dict[str, Any] = {}
    for node in graph_def.node:
        if node.name in nodes:
            raise BadData(f"the graph has two nodes named {node.name}")
        nodes[node.name] = node
    order = _running_order(nodes, start, end)
    sources = _Sources(start)
    for name in order:
        sources.add(nodes[name])
    source = sources.of(tensor_name(end))
    last = NodeDef(name=END, op="Identity", input=[source])
    last.attr["T"].type = DT_FLOAT
    copies, needed = [last], {node_name(source)}
    for name in reversed(order):
        if SCOPE + name in needed and name != node_name(start):
            copies.append(_copy(nodes[name], sources))
            needed.update(map(node_name, copies[-1].input))
    return GraphDef(node=reversed(copies), versions=graph_def.versions)


def _copy(node: Any, sources: "_Sources") -> Any:
    _require_allowed(node)
    copy = NodeDef(name=SCOPE + node.name, op=node.op, input=map(sources.of, _data_inputs(node)))
    for name in node.attr:
        if not name.startswith("_"):
            copy.attr[name].CopyFrom(node.attr[name])
    return copy


def _data_inputs(node: Any) -> list[str]:
    return [tensor_name(name) for name in node.input if not name.startswith("^")]


def _running_order(nodes: dict[str, Any], start: str, end: str) -> list[str]:
    """Return the names of the nodes that `end` depends on, back to `start`, in running order.

    Control inputs count: they say on which side of a condition a constant is.
    """
    for name in (start, end):
        if node_name(name) not in nodes or not tensor_name(name).rpartition(":")[2].isdecimal():
            raise BadData(f"the graph has no tensor {name}")
    first = node_name(start)
    inputs: dict[str, set[str]] = {}
    waiting = [node_name(end)]
    while waiting:
        name = waiting.pop()
        if name in inputs:
            continue
        if name not in nodes:
            raise BadData(f"the graph is damaged: it has no node {name}")
        inputs[name] = set() if name == first else set(map(node_name, nodes[name].input))
        waiting += inputs[name]
    used = any(tensor_name(start) in _data_inputs(nodes[name]) for name in inputs)
    if first not in inputs or not (used or tensor_name(start) == tensor_name(end)):
        raise BadData(f"{end} is not computed from {start}: name the tensor that takes the photos")
    try:
        return list(TopologicalSorter(inputs).static_order())
    except CycleError as error:
        raise BadData(f"the graph has a loop, at node {error.args[1][0]}") from error


class _Sources:
    """The source of each tensor, once operations that only pass it on are taken out.

    Sources are named as in the subgraph, and so are nodes here.
    """

    def __init__(self, start: str) -> None:
        self._start = node_name(start)
        self._sources: dict[str, str] = {tensor_name(SCOPE + start): f"{tf_graph.INPUT}:0"}
        self._dead: set[str] = set()
        """Nodes, and single outputs of a Switch, that inference does not run."""
        self._flags: dict[str, bool] = {}
        self._photo_nodes = {tf_graph.INPUT}
        """Nodes that are computed from a photo."""

    def of(self, tensor: str) -> str:
        """Return the source of the file's `tensor`: itself if no operation is taken out."""
        return self._sources.get(SCOPE + tensor, SCOPE + tensor)

    def add(self, node: Any) -> None:
        """Add the outputs of `node`, all of whose inputs have been added."""
        if node.name == self._start:
            return
        name, inputs = SCOPE + node.name, [self.of(data) for data in _data_inputs(node)]
        control = [SCOPE + source[1:] for source in node.input if source.startswith("^")]
        output = tensor_name(name)
        if not self._photo_nodes.isdisjoint(map(node_name, inputs)):
            self._photo_nodes.add(name)
        if node.op == "Merge":
            self._merge(node, [tensor for tensor in inputs if not self._is_dead(tensor)])
        elif any(map(self._is_dead, inputs)) or not self._dead.isdisjoint(control):
            self._dead.add(name)
        elif node.op == "Switch":
            self._switch(node, *inputs)
        elif node.op in ("Placeholder", "PlaceholderWithDefault") and _TRAINING.search(node.name):
            self._flags[output] = False
        elif (
            node.op in _PASSES
            or node.op == "PlaceholderWithDefault"
            or (node.op in FAKE_QUANT and name in self._photo_nodes)
        ):
            self._sources[output] = inputs[0]
        elif node.op == "IdentityN":
            self._sources |= {f"{name}:{i}": tensor for i, tensor in enumerate(inputs)}
        elif node.op == "LogicalNot" and inputs[0] in self._flags:
            self._flags[output] = not self._flags[inputs[0]]
        elif node.op == "Const" and node.attr["dtype"].type == DT_BOOL:
            require_small_constant(node)
            value = tf_graph.tensorflow().make_ndarray(node.attr["value"].tensor)
            self._flags[output] = bool(value.all())

    def _is_dead(self, tensor: str) -> bool:
        return tensor in self._dead or node_name(tensor) in self._dead

    def _merge(self, node: Any, live: list[str]) -> None:
        if len(live) > 1:
            raise BadData(f"node {node.name} (Merge) joins sides that are both used")
        if live:
            self._sources[tensor_name(SCOPE + node.name)] = live[0]
        else:
            self._dead.add(SCOPE + node.name)

    def _switch(self, node: Any, data: str, condition: str) -> None:
        name = SCOPE + node.name
        if condition not in self._flags:
            raise BadData(
                f"node {node.name} (Switch) depends on {name_in_file(condition)}, whose value is "
                "not known: freeze the network for inference"
            )
        side = int(self._flags[condition])
        self._sources[f"{name}:{side}"] = data
        self._dead.add(f"{name}:{1 - side}")
        if data in self._flags:
            self._flags[f"{name}:{side}"] = self._flags[data]


def _require_allowed(node: Any) -> None:
    """Raise BadData for a node that is not taken from a file."""
    if node.op in ("Placeholder", "PlaceholderWithDefault"):
        raise BadData(f"the graph also waits for {node.name}: freeze it with that as a constant")
    if RANDOM_OPERATIONS.match(node.op):
        raise BadData(
            f"node {node.name} ({node.op}) draws random numbers: save the network for inference "
            "(training=False), or pass its .keras file"
        )
    if node.op not in ALLOWED:
        raise BadData(
            f"node {node.name} is an operation that is not taken from a file: {node.op}. Remedy: "
            "take a network of convolutions, pools and arithmetic"
        )
    if node.op == "Const":
        if node.attr["dtype"].type != node.attr["value"].tensor.dtype:  # TensorFlow would abort
            raise BadData(f"the graph is damaged: constant {node.name} has two types")
        require_small_constant(node)
    if "data_format" in node.attr and node.attr["data_format"].s not in (b"", b"NHWC"):
        raise BadData(f"node {node.name} ({node.op}) has channels first: save it as NHWC")
    at_inference = "is_training" in node.attr and not node.attr["is_training"].b
    if node.op.startswith("Fused") and not at_inference:
        raise BadData(f"node {node.name} ({node.op}) is in training: freeze it for inference")
