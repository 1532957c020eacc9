"""Recognise a graph that TensorFlow's retrain.py wrote, and find where photos enter any graph.

The names, sizes, means and deviations are those of that script, in TensorFlow 1.0 to 1.15
(tensorflow/examples/image_retraining) and in TensorFlow Hub (examples/image_retraining). Photos
enter a graph that decodes a file after its decoder, with the scale that the decoder gives.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from retrain import tf_graph
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.surgery.inference_subgraph import FAKE_QUANT, node_name, tensor_name

Nodes = dict[str, Any]
"""Nodes of a GraphDef by name."""

_PLACEHOLDER = "BottleneckInputPlaceholder"
_HEADS = ("final_training_ops", "final_retrain_ops")
_FINAL = "final_result"
_INCEPTION = "pool_3/_reshape"
"""The bottleneck of the Inception of 2015, with a new head or without one."""

_DECODERS = frozenset(("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage"))
_RESIZES = frozenset(("ResizeBilinear", "ResizeBicubic", "ResizeArea", "ResizeNearestNeighbor"))
_RESHAPES = frozenset(("Cast", "ExpandDims", "Identity", "Squeeze", *_RESIZES))
_FLOATS, _UINT8 = frozenset((1, 2, 14, 19)), 4
"""DT_FLOAT, DT_DOUBLE, DT_BFLOAT16, DT_HALF; DT_UINT8: tensorflow/core/framework/types.proto."""
_MAX_CONSTANT_DEPTH, _MAX_CONSTANT_SIZE = 4, 4
"""A scale is one number, a size is two, cast or packed of others: more is no part of a decoder."""


class GraphInput(NamedTuple):
    """The tensor that takes photos, (pixel - mean) / std; None is not written in the graph.

    `fixed` says that height and width are written in the graph, and no others can be right.
    """

    tensor: str
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None
    fixed: bool = False


def find_ends(graph_def: Any, input_tensor: str | None) -> Ends | None:
    """Return the ends of a graph that the script wrote or began with; None for another graph.

    `input_tensor` is the one that the user names: if it is not the script's, sides, mean and std
    are not known.
    """
    bottleneck = find_script_bottleneck(graph_def)
    if bottleneck is None:
        return None
    photos = find_input(graph_def, bottleneck, input_tensor)
    if photos is None:
        return Ends(input_tensor, bottleneck)
    sides = None
    if photos.height is not None and photos.width is not None:
        sides = (photos.height, photos.width)
    return Ends(photos.tensor, bottleneck, sides, photos.mean, photos.std)


def find_script_bottleneck(graph_def: Any) -> str | None:
    """Return the tensor before the head that the script trained, None if there is no such head."""
    names = {node.name for node in graph_def.node}
    heads = tuple(f"{head}/" for head in _HEADS)
    by_placeholder, by_head = [], []
    for node in graph_def.node:
        if not node.input:
            continue
        if _last_part(node.name) == _PLACEHOLDER and node.op == "PlaceholderWithDefault":
            by_placeholder.append(tensor_name(node.input[0]))
        if node.op == "MatMul" and node.name.startswith(heads):
            by_head.append(tensor_name(node.input[0]))
    # optimize_for_inference takes the placeholder out.
    for bottleneck in (*by_placeholder, *by_head):
        return bottleneck
    return tensor_name(_INCEPTION) if _INCEPTION in names else None


def find_scores(graph_def: Any) -> list[str]:
    """Return the operations that give final scores: each softmax that no other depends on."""
    nodes = {node.name: node for node in graph_def.node}
    ends = [node.name for node in graph_def.node if node.op == "Softmax"]
    if _FINAL in ends:
        return [_FINAL]
    inner = _ancestors(nodes, *(node_name(tensor) for end in ends for tensor in nodes[end].input))
    return [end for end in ends if end not in inner]


def find_input(graph_def: Any, output: str, input_tensor: str | None = None) -> GraphInput | None:
    """Return where photos enter that `output` is computed from, None if the graph does not say.

    A graph that decodes a file takes photos after the decoder's last step, where pixels have their
    final scale. `input_tensor` is the one that the user names: a part of the decoder stands for
    the decoder, a later step takes photos there, and of any other tensor only the name is known.
    Mean and std of a placeholder are known by its name, in a graph of that script only.
    """
    nodes = {node.name: node for node in graph_def.node}
    needed = _ancestors(nodes, node_name(output))
    inside = {name: node for name, node in nodes.items() if name in needed}
    classic = find_script_bottleneck(graph_def) is not None
    possible: list[GraphInput] = []
    for node in inside.values():
        if node.op in _DECODERS or (node.op == "Placeholder" and _type_of(node) == _UINT8):
            steps, early = _decoder_steps(nodes, inside, node)
            possible += steps
            if input_tensor and steps:
                decoder = early | _ancestors(nodes, node.name)
                if node_name(input_tensor) in decoder:
                    return steps[-1]
        elif (
            node.op == "Placeholder"
            and _type_of(node) in _FLOATS
            and len(_dimensions_of(node)) in (0, 4)
        ):
            possible.append(_placeholder(node, nodes if classic else {}))
    if input_tensor:
        name = tensor_name(input_tensor)
        same = (photos for photos in possible if tensor_name(photos.tensor) == name)
        return next(same, GraphInput(name))
    possible.sort(key=lambda photos: photos.mean is not None)
    certain = len(possible) == 1 or (possible and possible[-1].mean is not None)
    return possible[-1] if certain else None


def is_fake_quantized(graph_def: Any) -> bool:
    """Return whether the graph rounds numbers as an int8 model would, as Hub's `quantops` do."""
    return any(node.op in FAKE_QUANT for node in graph_def.node)


def _placeholder(node: Any, nodes: Nodes) -> GraphInput:
    """Return a placeholder with its sides, and mean and std by its name among the script's `nodes`.

    A mean of 127.5 is 128 here as for the other networks: int8 needs a whole number.
    """
    height, width = _sides_of(node)
    side, mean, std = None, None, None
    hub = any("hub_input" in name or name.startswith(("module", _HEADS[1])) for name in nodes)
    if nodes and node.name.endswith("hub_input/Mul"):  # by optimize_for_inference: 0..2, then - 1
        mean, std = 0.0, 127.5
    elif nodes and node.name.endswith("hub_input/Sub"):
        mean, std = 128.0, 127.5
    elif nodes and node.name == "Mul":
        side, mean, std = 299, 128.0, 128.0
    elif nodes and node.name == "input":
        mean, std = 128.0, 127.5
    elif hub and _last_part(node.name).startswith("Placeholder"):
        mean, std = 0.0, 255.0
    fixed = height is not None and width is not None
    return GraphInput(tensor_name(node.name), height or side, width or side, mean, std, fixed)


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]


def _decoder_steps(nodes: Nodes, inside: Nodes, start: Any) -> tuple[list[GraphInput], set[str]]:
    """Return the tensors after `start` up to which only sizes, types and one scale change.

    Also returns the nodes before there is a batch, which no photo can enter.
    """
    steps: list[GraphInput] = []
    early: set[str] = set()
    name, (height, width) = start.name, _sides_of(start)
    scale, offset = 1.0, 0.0
    for node in _single_readers(inside, name):
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
            early = {step.tensor.rpartition(":")[0] for step in steps}
            steps.clear()
        steps.append(GraphInput(tensor_name(name), None, None, float(mean), 1 / scale))
    fixed = height is not None and width is not None
    return [step._replace(height=height, width=width, fixed=fixed) for step in steps], early


def _single_readers(inside: Nodes, name: str) -> Iterator[Any]:
    """Yield the nodes after `name` as long as there is one that reads the last."""
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
    nodes: Nodes, node: Any, pixels: str, scale: float, offset: float
) -> tuple[float, float] | None:
    """Return scale and offset after `node`, None if it does more than scale the node `pixels`."""
    if len(node.input) != 2:
        return None
    first = node_name(node.input[0]) == pixels
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
    """Return the numbers of a constant, which may be cast or packed of other constants."""
    node = nodes.get(node_name(tensor))
    if node is None or depth > _MAX_CONSTANT_DEPTH:
        return None
    if node.op == "Const":
        values = tf_graph.tensorflow().make_ndarray(node.attr["value"].tensor)
        small = values.dtype.kind in "fiu" and values.size <= _MAX_CONSTANT_SIZE
        return [float(number) for number in values.ravel()] if small else None
    if node.op not in ("Identity", "Cast", "Pack"):
        return None
    numbers: list[float] = []
    for source in node.input[:_MAX_CONSTANT_SIZE]:
        source_numbers = _constant(nodes, source, depth + 1)
        if source_numbers is None:
            return None
        numbers += source_numbers
    return numbers


def _type_of(node: Any) -> int:
    """Return the type of a placeholder, as types.proto numbers it; 0 if it has none."""
    return int(node.attr["dtype"].type) if "dtype" in node.attr else 0


def _dimensions_of(node: Any) -> list[int | None]:
    """Return the shape of a placeholder, None where it is open; empty if nothing is known."""
    if "shape" not in node.attr:
        return []
    return [dim.size if dim.size > 0 else None for dim in node.attr["shape"].shape.dim]


def _sides_of(node: Any) -> tuple[int | None, int | None]:
    """Return height and width of a placeholder of photos, None where its shape is open."""
    dimensions = _dimensions_of(node)
    return (dimensions[1], dimensions[2]) if len(dimensions) == 4 else (None, None)


def _ancestors(nodes: Nodes, *ends: str) -> set[str]:
    """Return the names of `ends` and of all nodes that they are computed from."""
    reached: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in reached:
            reached.add(name)
            waiting += map(node_name, nodes[name].input)
    return reached
