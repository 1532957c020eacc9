"""Where photos enter a foreign graph: after its decoder, with the scale that the decoder gives."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from retrain import tf_graph
from retrain.backbones.surgery.inference_subgraph import key, node_name

Nodes = dict[str, Any]
"""Nodes of a GraphDef by name."""

DECODERS = frozenset(("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage"))
_RESIZES = frozenset(("ResizeBilinear", "ResizeBicubic", "ResizeArea", "ResizeNearestNeighbor"))
_RESHAPES = frozenset(("Cast", "ExpandDims", "Identity", "Squeeze", *_RESIZES))
FLOATS, UINT8 = frozenset((1, 2, 14, 19)), 4
"""DT_FLOAT, DT_DOUBLE, DT_BFLOAT16, DT_HALF; DT_UINT8: tensorflow/core/framework/types.proto."""


_MAX_DEPTH, _MAX_NUMBERS = 4, 4
"""A scale is one number, a size is two, cast or packed of others: more is no part of a chain."""


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


def decoder_chain(nodes: Nodes, inside: Nodes, start: Any) -> tuple[list[Entrance], set[str]]:
    """Return the tensors after `start` as far as only sizes, types and one scale change.

    Also returns the nodes before there is a batch, which no photo can enter.
    """
    chain: list[Entrance] = []
    early: set[str] = set()
    name, (height, width) = start.name, sides_of(start)
    scale, offset = 1.0, 0.0
    for node in _following(inside, name):
        if node.op in _RESIZES:
            sides = _constant(nodes, node.input[-1])
            if sides and len(sides) == 2:
                height, width = map(int, sides)
        elif node.op not in _RESHAPES:
            changed = _scaled(nodes, node, name, scale, offset)
            if changed is None:
                break
            scale, offset = changed
        # 127.5 that was computed may be 127.49999.
        mean = math.floor(-offset / scale + 0.501)
        if not 0 <= mean <= 255:
            break
        name = node.name
        if node.op == "ExpandDims":
            early = {entrance.tensor.rpartition(":")[0] for entrance in chain}
            chain.clear()
        chain.append(Entrance(key(name), None, None, float(mean), 1 / scale))
    fixed = height is not None and width is not None
    return [entry._replace(height=height, width=width, fixed=fixed) for entry in chain], early


def _following(inside: Nodes, name: str) -> Iterator[Any]:
    """Yield the nodes after `name` as long as each has one reader."""
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in inside.values():
        for source in {node_name(tensor) for tensor in node.input}:
            readers[source].append(node)
    passed = {name}
    while len(readers[name]) == 1 and readers[name][0].name not in passed:
        (node,) = readers[name]
        yield node
        name = node.name
        passed.add(name)


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


def _constant(nodes: Nodes, tensor: str, depth: int = 0) -> list[float] | None:
    """Return the numbers of a constant, also one that is cast or packed of other constants."""
    node = nodes.get(node_name(tensor))
    if node is None or depth > _MAX_DEPTH:
        return None
    if node.op == "Const":
        values = tf_graph.tensorflow().make_ndarray(node.attr["value"].tensor)
        small = values.dtype.kind in "fiu" and values.size <= _MAX_NUMBERS
        return [float(number) for number in values.ravel()] if small else None
    if node.op not in ("Identity", "Cast", "Pack"):
        return None
    numbers: list[float] = []
    for source in node.input[:_MAX_NUMBERS]:
        values_of_source = _constant(nodes, source, depth + 1)
        if values_of_source is None:
            return None
        numbers += values_of_source
    return numbers


def type_of(node: Any) -> int:
    """Return the type of a placeholder, as types.proto numbers it; 0 if it has none."""
    return int(node.attr["dtype"].type) if "dtype" in node.attr else 0


def dimensions_of(node: Any) -> list[int | None]:
    """Return the shape of a placeholder, None where it is open; empty if nothing is known."""
    if "shape" not in node.attr:
        return []
    return [dim.size if dim.size > 0 else None for dim in node.attr["shape"].shape.dim]


def sides_of(node: Any) -> tuple[int | None, int | None]:
    """Return height and width of a placeholder of photos, None where its shape is open."""
    dimensions = dimensions_of(node)
    return (dimensions[1], dimensions[2]) if len(dimensions) == 4 else (None, None)


def ancestors(nodes: Nodes, *ends: str) -> set[str]:
    """Return the nodes that `ends` are made of, with themselves."""
    reached: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in reached:
            reached.add(name)
            waiting += map(node_name, nodes[name].input)
    return reached
