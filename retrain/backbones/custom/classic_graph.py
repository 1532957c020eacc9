"""What TensorFlow's retrain.py wrote, known by its nodes: where photos enter, where it was cut.

The names, sizes, means and deviations are those of that script, in TensorFlow 1.0 to 1.15
(tensorflow/examples/image_retraining) and in TensorFlow Hub (examples/image_retraining).
"""

from typing import Any

from retrain.backbones.custom.graph_input import (
    DECODERS,
    FLOATS,
    UINT8,
    Entrance,
    Nodes,
    ancestors,
    decoder_chain,
    dimensions_of,
    sides_of,
    type_of,
)
from retrain.backbones.surgery.inference_subgraph import FAKE_QUANT, key, node_name

_PLACEHOLDER = "BottleneckInputPlaceholder"
_HEADS = ("final_training_ops", "final_retrain_ops")
_FINAL = "final_result"
_INCEPTION = "pool_3/_reshape"
"""The bottleneck of the Inception of 2015, with a new head or without one."""


def backbone_ends(graph_def: Any, typed: str | None) -> tuple[Any, ...] | None:
    """Return input tensor, bottleneck tensor, sides, mean and std; None if it is not that script's.

    `typed` is the input tensor that the user names: of another one than the script's, sides, mean
    and std are not known.
    """
    bottleneck = bottleneck_of(graph_def)
    if bottleneck is None:
        return None
    entry = entrance(graph_def, bottleneck, typed)
    if entry is None:
        return typed, bottleneck, None, None, None
    sides = (entry.height, entry.width)
    return entry.tensor, bottleneck, None if None in sides else sides, entry.mean, entry.std


def bottleneck_of(graph_def: Any) -> str | None:
    """Return the tensor before the head that the script trained, None if there is no such head."""
    names = {node.name for node in graph_def.node}
    heads = tuple(f"{head}/" for head in _HEADS)
    by_placeholder, by_head = [], []
    for node in graph_def.node:
        if not node.input:
            continue
        if _last(node.name) == _PLACEHOLDER and node.op == "PlaceholderWithDefault":
            by_placeholder.append(key(node.input[0]))
        if node.op == "MatMul" and node.name.startswith(heads):
            by_head.append(key(node.input[0]))
    # optimize_for_inference takes the placeholder out.
    for bottleneck in (*by_placeholder, *by_head):
        return bottleneck
    return key(_INCEPTION) if _INCEPTION in names else None


def scores_of(graph_def: Any) -> list[str]:
    """Return the operations that give final scores: each softmax on which no other hangs."""
    nodes = {node.name: node for node in graph_def.node}
    ends = [node.name for node in graph_def.node if node.op == "Softmax"]
    if _FINAL in ends:
        return [_FINAL]
    inner = ancestors(nodes, *(node_name(tensor) for end in ends for tensor in nodes[end].input))
    return [end for end in ends if end not in inner]


def entrance(graph_def: Any, end: str, typed: str | None = None) -> Entrance | None:
    """Return where photos enter that `end` is made of, None if the graph does not say.

    Of a chain that decodes a file that is after its last step, where pixels have their final
    scale. `typed` is the tensor that the user names: a part of the decoder stands for the chain,
    a later step enters there, and of any other tensor only its name is known. Mean and std of a
    placeholder are known by its name, in a graph of that script only.
    """
    nodes = {node.name: node for node in graph_def.node}
    among = ancestors(nodes, node_name(end))
    inside = {name: node for name, node in nodes.items() if name in among}
    classic = bottleneck_of(graph_def) is not None
    possible: list[Entrance] = []
    for node in inside.values():
        if node.op in DECODERS or (node.op == "Placeholder" and type_of(node) == UINT8):
            chain, early = decoder_chain(nodes, inside, node)
            possible += chain
            if typed and chain and node_name(typed) in early | ancestors(nodes, node.name):
                return chain[-1]
        elif node.op == "Placeholder" and type_of(node) in FLOATS:
            dimensions = dimensions_of(node)
            if len(dimensions) in (0, 4):
                possible.append(_placeholder(node, nodes if classic else {}))
    if typed:
        same = (entry for entry in possible if key(entry.tensor) == key(typed))
        return next(same, Entrance(key(typed)))
    possible.sort(key=lambda entry: entry.mean is not None)
    certain = len(possible) == 1 or (possible and possible[-1].mean is not None)
    return possible[-1] if certain else None


def fake_quantized(graph_def: Any) -> bool:
    """Return whether the graph rounds numbers as an int8 model would, as Hub's `quantops` do."""
    return any(node.op in FAKE_QUANT for node in graph_def.node)


def _placeholder(node: Any, nodes: Nodes) -> Entrance:
    """Return a placeholder with its sides, and mean and std as `nodes` of that script tell.

    A mean of 127.5 is 128 here as for the other networks: int8 needs a whole number.
    """
    height, width = sides_of(node)
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
    elif hub and _last(node.name).startswith("Placeholder"):
        mean, std = 0.0, 255.0
    fixed = height is not None and width is not None
    return Entrance(key(node.name), height or side, width or side, mean, std, fixed)


def _last(name: str) -> str:
    return name.rpartition("/")[2]
