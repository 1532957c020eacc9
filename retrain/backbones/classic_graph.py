"""What TensorFlow's retrain.py wrote, known by its nodes: where photos enter, where it was cut.

The names, sizes, means and deviations are those of that script, in TensorFlow 1.0 to 1.15
(tensorflow/examples/image_retraining) and in TensorFlow Hub (examples/image_retraining).
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from retrain import graph
from retrain.backbones.inference_part import FAKE_QUANT, key, node_name

_PLACEHOLDER = "BottleneckInputPlaceholder"
_HEADS = ("final_training_ops", "final_retrain_ops")
_FINAL = "final_result"
_INCEPTION = "pool_3/_reshape"
"""The bottleneck of the Inception of 2015, with a new head or without one."""

_DECODERS = frozenset(("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage"))
_RESIZES = frozenset(("ResizeBilinear", "ResizeBicubic", "ResizeArea", "ResizeNearestNeighbor"))
_RESHAPES = frozenset(("Cast", "ExpandDims", "Identity", "Squeeze", *_RESIZES))
_FLOAT, _UINT8 = 1, 4
"""DT_FLOAT and DT_UINT8 of tensorflow/core/framework/types.proto."""


class Entrance(NamedTuple):
    """The tensor that takes photos, (pixel - mean) / std; None is what the graph does not say.

    `fixed` tells that height and width are written in the graph, and no others can be right.
    """

    tensor: str
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None
    fixed: bool = False


Nodes = dict[str, Any]


def backbone_ends(graph_def: Any, typed: str | None) -> tuple[Any, ...] | None:
    """Return input tensor, bottleneck tensor, side, mean and std; None if it is not that script's.

    `typed` is the input tensor that the user names: of another one than the script's, side, mean
    and std are not known.
    """
    bottleneck = bottleneck_of(graph_def)
    if bottleneck is None:
        return None
    found = entrance(graph_def, bottleneck, typed)
    if found is None:
        return typed, bottleneck, None, None, None
    side = found.height if found.height == found.width else None
    return found.tensor, bottleneck, side, found.mean, found.std


def bottleneck_of(graph_def: Any) -> str | None:
    """Return the tensor before the head that the script trained, None if there is no such head."""
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        if _last(node.name) == _PLACEHOLDER and node.op == "PlaceholderWithDefault":
            return key(node.input[0])
    # optimize_for_inference takes the placeholder out.
    for node in graph_def.node:
        if node.op == "MatMul" and node.name.startswith(tuple(f"{head}/" for head in _HEADS)):
            return key(node.input[0])
    return key(_INCEPTION) if _INCEPTION in nodes else None


def scores_of(graph_def: Any) -> list[str]:
    """Return the operations that give final scores: each softmax on which no other hangs."""
    nodes = {node.name: node for node in graph_def.node}
    ends = [node.name for node in graph_def.node if node.op == "Softmax"]
    if _FINAL in ends:
        return [_FINAL]
    inner = {each for end in ends for each in _ancestors(nodes, end) if each != end}
    return [end for end in ends if end not in inner]


def entrance(graph_def: Any, end: str, typed: str | None = None) -> Entrance | None:
    """Return where photos enter that `end` is made of, None if the graph does not say.

    Of a chain that decodes a file that is after its last step, where pixels have their final
    scale. `typed` is the tensor that the user names: a part of the decoder stands for the chain,
    a later step enters there, and of any other tensor only its name is known. Mean and std of a
    placeholder are known by its name, in a graph of that script only.
    """
    nodes = {node.name: node for node in graph_def.node}
    among = _ancestors(nodes, node_name(end))
    inside = {name: node for name, node in nodes.items() if name in among}
    classic = bottleneck_of(graph_def) is not None
    found: list[Entrance] = []
    for node in inside.values():
        if node.op in _DECODERS or (node.op == "Placeholder" and node.attr["dtype"].type == _UINT8):
            chain, early = _chain(nodes, inside, node)
            found += chain
            if typed and chain and node_name(typed) in early | _ancestors(nodes, node.name):
                return chain[-1]
        elif node.op == "Placeholder" and node.attr["dtype"].type == _FLOAT:
            shape = node.attr["shape"].shape
            if shape.unknown_rank or len(shape.dim) in (0, 4):
                found.append(_placeholder(node, nodes if classic else {}))
    if typed:
        same = (each for each in found if key(each.tensor) == key(typed))
        return next(same, Entrance(key(typed)))
    found.sort(key=lambda each: each.mean is not None)
    return found[-1] if found and (found[-1].mean is not None or len(found) == 1) else None


def fake_quantized(graph_def: Any) -> bool:
    """Return whether the graph rounds numbers as an int8 model would, as Hub's `quantops` do."""
    return any(node.op in FAKE_QUANT for node in graph_def.node)


def _placeholder(node: Any, nodes: Nodes) -> Entrance:
    """Return a placeholder with its sides, and mean and std as `nodes` of that script tell.

    A mean of 127.5 is 128 here as for the other networks: int8 needs a whole number.
    """
    height, width = _sides(node)
    side, mean, std = None, None, None
    hub = any("hub_input" in each or each.startswith(("module", _HEADS[1])) for each in nodes)
    if nodes and node.name.endswith("hub_input/Mul"):  # by optimize_for_inference: 0..2, then - 1
        mean, std = 0.0, 127.5
    elif nodes and node.name.endswith("hub_input/Sub"):
        mean, std = 128.0, 127.5
    elif nodes and node.name == "Mul":
        side, mean, std = 299, 128.0, 128.0
    elif nodes and node.name == "input":
        mean, std = 128.0, 127.5
    elif hub and _last(node.name).startswith("Placeholder"):
        mean, std = 0.0, 255.0
    fixed = height is not None and width is not None
    return Entrance(key(node.name), height or side, width or side, mean, std, fixed)


def _chain(nodes: Nodes, inside: Nodes, start: Any) -> tuple[list[Entrance], set[str]]:
    """Return the tensors after `start` as far as only sizes, types and one scale change.

    Also returns the nodes before there is a batch, which no photo can enter.
    """
    found: list[Entrance] = []
    early: set[str] = set()
    name, (height, width) = start.name, _sides(start)
    scale, offset = 1.0, 0.0
    for node in _following(inside, name):
        if node.op in _RESIZES:
            sides = _constant(nodes, node.input[1])
            if sides and len(sides) == 2:
                height, width = map(int, sides)
        elif node.op not in _RESHAPES:
            changed = _scaled(nodes, node, name, scale, offset)
            if changed is None:
                break
            scale, offset = changed
        name = node.name
        if node.op == "ExpandDims":
            early = {each.tensor.rpartition(":")[0] for each in found}
            found.clear()
        mean = float(math.floor(-offset / scale + 0.501))  # 127.5, computed, may be 127.49999
        found.append(Entrance(key(name), None, None, mean, 1 / scale))
    fixed = height is not None and width is not None
    return [each._replace(height=height, width=width, fixed=fixed) for each in found], early


def _following(inside: Nodes, name: str) -> Iterator[Any]:
    """Yield the nodes after `name` as long as each has one reader."""
    while True:
        readers = [
            node for node in inside.values() if name in {node_name(each) for each in node.input}
        ]
        if len(readers) != 1:
            return
        yield readers[0]
        name = readers[0].name


def _scaled(
    nodes: Nodes, node: Any, moving: str, scale: float, offset: float
) -> tuple[float, float] | None:
    """Return scale and offset after `node`, None if it does more than scale pixels."""
    if len(node.input) != 2:
        return None
    first = node_name(node.input[0]) == moving
    values = _constant(nodes, node.input[1 if first else 0])
    if values is None or len(values) != 1:
        return None
    value = values[0]
    if node.op in ("Add", "AddV2"):
        return scale, offset + value
    if node.op == "Mul" and value > 0:
        return scale * value, offset * value
    if node.op == "Sub" and first:
        return scale, offset - value
    if node.op in ("Div", "RealDiv") and first and value > 0:
        return scale / value, offset / value
    return None


def _constant(nodes: Nodes, tensor: str) -> list[float] | None:
    """Return the numbers of a constant, also one that is cast or packed of others."""
    node = nodes.get(node_name(tensor))
    if node is None:
        return None
    if node.op == "Const":
        values = graph.tensorflow().make_ndarray(node.attr["value"].tensor)
        return [float(each) for each in values.ravel()] if values.dtype.kind in "fiu" else None
    if node.op in ("Identity", "Cast"):
        return _constant(nodes, node.input[0])
    if node.op == "Pack":
        parts = [_constant(nodes, each) for each in node.input]
        return None if None in parts else [value for part in parts for value in part or ()]
    return None


def _sides(node: Any) -> tuple[int | None, int | None]:
    """Return height and width of a placeholder of photos, None where its shape is open."""
    sides = [dim.size if dim.size > 0 else None for dim in node.attr["shape"].shape.dim]
    return (sides[1], sides[2]) if len(sides) == 4 else (None, None)


def _ancestors(nodes: Nodes, end: str) -> set[str]:
    """Return the nodes that `end` is made of, with itself."""
    found: set[str] = set()
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found:
            found.add(name)
            waiting += map(node_name, nodes[name].input)
    return found


def _last(name: str) -> str:
    return name.rpartition("/")[2]
