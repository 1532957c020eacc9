"""Let a network compute in float32, whatever number type its file has: half precision, or bytes.

Photos reach every backbone as float32. Where a file has float16, bfloat16 or float64, the same
operations run in float32. An input of bytes is the same numbers in float32 up to the Cast that
makes real numbers of them.
"""

from typing import Any

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.types_pb2 import (
    DT_BFLOAT16,
    DT_DOUBLE,
    DT_FLOAT,
    DT_HALF,
    DT_UINT8,
)

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.surgery.scope import name_in_file
from retrain.tensor_proto import to_proto

_NAMES = """
    Cast Concat ConcatV2 Const ExpandDims MirrorPad Pack Pad PadV2 Reshape ResizeBilinear
    ResizeNearestNeighbor Shape Slice Split SplitV Squeeze StridedSlice Transpose
"""
_EXACT_ON_BYTES = frozenset(_NAMES.split())
"""Operations that give the same for a pixel's byte and for the same number in float32."""


def to_float32(subgraph: Any, takes_bytes: bool) -> Any:
    """Return the GraphDef `subgraph`, its nodes in the order of running, with float32 only.

    With `takes_bytes` its input is uint8. Raises BadData for arithmetic on bytes, which overflows
    where float32 does not.
    """
    tf = tf_graph.tensorflow()
    replaced = {DT_HALF, DT_BFLOAT16, DT_DOUBLE} | ({DT_UINT8} if takes_bytes else set())
    result = GraphDef(versions=subgraph.versions)
    sources: dict[str, str] = {}
    """The input of each Cast that has become an identity, by the Cast's output."""
    for original in subgraph.node:
        types = {attr.type for attr in original.attr.values()}
        if takes_bytes and DT_UINT8 in types:
            _require_exact(original)
        node = result.node.add()
        node.CopyFrom(original)
        node.input[:] = [sources.get(name, name) for name in node.input]
        if replaced.isdisjoint(types):
            continue
        for attr in node.attr.values():
            if attr.type in replaced:
                attr.type = DT_FLOAT
        if node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            node.attr["value"].tensor.CopyFrom(to_proto(value.astype("float32")))
        if node.op == "Cast" and node.attr["SrcT"].type == node.attr["DstT"].type:
            sources[f"{node.name}:0"] = node.input[0]
            del result.node[-1]
    return result


def _require_exact(node: Any) -> None:
    """Raise BadData unless `node` only moves bytes, or makes other numbers of them."""
    rounds = node.op == "Cast" and node.attr["DstT"].type == DT_UINT8
    if node.op not in _EXACT_ON_BYTES or rounds:
        raise BadData(
            f"node {name_in_file(node.name)} ({node.op}) computes with bytes, which float32 "
            "does not repeat. Remedy: name the tensor behind it as `input_tensor`, or cast to "
            "float32 first"
        )
