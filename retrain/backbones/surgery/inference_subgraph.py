"""What of a foreign GraphDef leads from the tensor that is fed to the bottleneck, and no more.

Nothing of the graph is run here. Operations come from an allow-list: pure arithmetic that neither
reads nor writes anything. What only training needs is taken out, on the side of inference.
"""

import re
from graphlib import CycleError, TopologicalSorter
from typing import Any

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.custom.size_limits import require_small_constant
from retrain.backbones.surgery.fold_batch_norm import NORMS
from retrain.backbones.surgery.inference_mode import DRAWS

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
"""What rounds as an int8 model does: done to weights, left out of what hangs on a photo."""
ALLOWED = frozenset((*_NAMES.split(), *NORMS, *FAKE_QUANT))
"""The operations that are taken from a file."""
_PASSES = frozenset(
    ("Identity", "CheckNumerics", "EnsureShape", "StopGradient", "PreventGradient", "Snapshot")
)
_TRAINING = re.compile("train|learning_phase", re.IGNORECASE)
"""Names of the placeholders that tell a graph whether it is being trained: it is not."""
_BOOL = 10
"""DT_BOOL of tensorflow/core/framework/types.proto."""
IMPORTED = "import/"
"""What label_image.py put before the name of each node."""


def key(name: str) -> str:
    """Return a tensor's name with its output's number: `Mul:0` for `Mul`."""
    return name if ":" in name else f"{name}:0"


def node_name(tensor: str) -> str:
    """Return the node that an input names: `conv` for `conv`, `conv:0` and `^conv`."""
    return tensor.removeprefix("^").rpartition(":")[0] or tensor.removeprefix("^")


def in_graph(graph_def: Any, typed: str) -> str:
    """Return the tensor `typed` as the graph names it.

    `import/input`, as label_image.py had it, is `input`, unless the graph has both.
    """
    names = {node.name for node in graph_def.node}
    bare = typed.removeprefix(IMPORTED)
    return bare if node_name(key(typed)) not in names and node_name(key(bare)) in names else typed


def inference_part(graph_def: Any, fed: str, bottleneck: str) -> Any:
    """Return the GraphDef of what leads from tensor `fed` to tensor `bottleneck`.

    Nodes are in the order of running; `fed` itself is `input:0` in it, and has no node. Raises
    BadData for operations that are not allowed, and for conditions that nothing decides.
    """
    nodes: dict[str, Any] = {}
    for node in graph_def.node:
        if node.name in nodes:
            raise BadData(f"the graph has two nodes named {node.name}")
        nodes[node.name] = node
    order = _ancestors(nodes, fed, bottleneck)
    tensors = _Tensors(fed)
    for name in order:
        tensors.pass_by(nodes[name])
    tf = tf_graph.tensorflow()
    end = tensors.source(key(bottleneck))
    last = tf.compat.v1.NodeDef(name=tf_graph.BOTTLENECK, op="Identity", input=[end])
    last.attr["T"].type = tf.float32.as_datatype_enum
    kept, wanted = [last], {node_name(end)}
    for name in reversed(order):
        if name in wanted and name != node_name(fed):
            kept.append(_copy(nodes[name], tensors))
            wanted.update(map(node_name, kept[-1].input))
    return tf.compat.v1.GraphDef(node=reversed(kept), versions=graph_def.versions)


def _copy(node: Any, tensors: "_Tensors") -> Any:
    _check(node)
    copy = type(node)(name=node.name, op=node.op, input=map(tensors.source, _data(node)))
    for name in node.attr:
        if not name.startswith("_"):
            copy.attr[name].CopyFrom(node.attr[name])
    return copy


def _data(node: Any) -> list[str]:
    return [key(each) for each in node.input if not each.startswith("^")]


def _ancestors(nodes: dict[str, Any], fed: str, bottleneck: str) -> list[str]:
    """Return the names of all that `bottleneck` hangs on, as far back as `fed`, first things first.

    Control inputs count: they say which side of a condition a constant is on.
    """
    for name in (fed, bottleneck):
        if node_name(name) not in nodes or not key(name).rpartition(":")[2].isdecimal():
            raise BadData(f"the graph has no tensor {name}")
    before: dict[str, set[str]] = {}
    todo = [node_name(bottleneck)]
    while todo:
        name = todo.pop()
        if name in before:
            continue
        if name not in nodes:
            raise BadData(f"the graph is damaged: it has no node {name}")
        before[name] = set() if name == node_name(fed) else set(map(node_name, nodes[name].input))
        todo += before[name]
    passed_on = any(key(fed) in _data(nodes[name]) for name in before)
    if node_name(fed) not in before or not (passed_on or key(fed) == key(bottleneck)):
        raise BadData(f"{bottleneck} does not hang on {fed}: name the tensor that is fed")
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise BadData(f"the graph has a loop, at node {error.args[1][0]}") from error


class _Tensors:
    """Where each tensor comes from, once what only passes it on is taken out."""

    def __init__(self, fed: str) -> None:
        self._fed = node_name(fed)
        self._sources: dict[str, str] = {key(fed): f"{tf_graph.INPUT}:0"}
        self._dead: set[str] = set()
        """Nodes, and single outputs of a Switch, that inference does not come by."""
        self._flags: dict[str, bool] = {}
        self._moving = {tf_graph.INPUT}
        """Nodes that hang on a photo."""

    def source(self, tensor: str) -> str:
        """Return the tensor that `tensor` is."""
        return self._sources.get(tensor, tensor)

    def pass_by(self, node: Any) -> None:
        """Take in `node`, all of whose inputs have been taken in."""
        if node.name == self._fed:
            return
        name, inputs = key(node.name), [self.source(each) for each in _data(node)]
        control = [each[1:] for each in node.input if each.startswith("^")]
        if not self._moving.isdisjoint(map(node_name, inputs)):
            self._moving.add(node.name)
        if node.op == "Merge":
            self._merge(node, [each for each in inputs if not self._is_dead(each)])
        elif any(map(self._is_dead, inputs)) or not self._dead.isdisjoint(control):
            self._dead.add(node.name)
        elif node.op == "Switch":
            self._switch(node, *inputs)
        elif node.op in ("Placeholder", "PlaceholderWithDefault") and _TRAINING.search(node.name):
            self._flags[name] = False
        elif (
            node.op in _PASSES
            or node.op == "PlaceholderWithDefault"
            or (node.op in FAKE_QUANT and node.name in self._moving)
        ):
            self._sources[name] = inputs[0]
        elif node.op == "IdentityN":
            self._sources |= {f"{node.name}:{i}": each for i, each in enumerate(inputs)}
        elif node.op == "LogicalNot" and inputs[0] in self._flags:
            self._flags[name] = not self._flags[inputs[0]]
        elif node.op == "Const" and node.attr["dtype"].type == _BOOL:
            require_small_constant(node)
            value = tf_graph.tensorflow().make_ndarray(node.attr["value"].tensor)
            self._flags[name] = bool(value.all())

    def _is_dead(self, tensor: str) -> bool:
        return tensor in self._dead or node_name(tensor) in self._dead

    def _merge(self, node: Any, live: list[str]) -> None:
        if len(live) > 1:
            raise BadData(f"node {node.name} (Merge) joins sides that are both used")
        if live:
            self._sources[key(node.name)] = live[0]
        else:
            self._dead.add(node.name)

    def _switch(self, node: Any, data: str, condition: str) -> None:
        if condition not in self._flags:
            raise BadData(
                f"node {node.name} (Switch) depends on {condition}, which nothing decides: freeze "
                "the network for inference"
            )
        taken = int(self._flags[condition])
        self._sources[f"{node.name}:{taken}"] = data
        self._dead.add(f"{node.name}:{1 - taken}")
        if data in self._flags:
            self._flags[f"{node.name}:{taken}"] = self._flags[data]


def _check(node: Any) -> None:
    if node.op in ("Placeholder", "PlaceholderWithDefault"):
        raise BadData(f"the graph also waits for {node.name}: freeze it with that as a constant")
    if DRAWS.match(node.op):
        raise BadData(
            f"node {node.name} ({node.op}) draws random numbers: save the network for inference "
            "(training=False), or pass its .keras file"
        )
    if node.op not in ALLOWED:
        raise BadData(
            f"node {node.name} is an operation that is not taken from a file: {node.op}; a network "
            "of convolutions, pools and arithmetic is"
        )
    if node.op == "Const":
        if node.attr["dtype"].type != node.attr["value"].tensor.dtype:  # TensorFlow would abort
            raise BadData(f"the graph is damaged: constant {node.name} has two types")
        require_small_constant(node)
    if "data_format" in node.attr and node.attr["data_format"].s not in (b"", b"NHWC"):
        raise BadData(f"node {node.name} ({node.op}) has channels first: save it as NHWC")
    stays = "is_training" in node.attr and not node.attr["is_training"].b
    if node.op.startswith("Fused") and not stays:
        raise BadData(f"node {node.name} ({node.op}) is in training: freeze it for inference")
