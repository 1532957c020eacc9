"""Find the tensors at which a backbone can be cut, and choose the cut for fine-tuning by cost."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from deploy.errors import BadData, WrongUse
from retrain import tf_graph
from retrain.backbones.cost import multiply_adds

_MAX_VIEW_KILOBYTES = 210.0
"""11 views of 1,000 photos are 2.3 GB then. ResNet50's last maps, 7x7x2048, take 201."""
_MAX_SHARE_ABOVE = 0.6
"""The trained share of Lite0 above its block 7, the best of those measured, is 0.59."""
_MIN_SHARE_ABOVE = 0.05
"""Below it there is nothing to train but the last layer's neighbours."""
_BATCH = 1009
"""A number of photos that no network has as another size."""


@dataclass(frozen=True)
class CutPoint:
    """A tensor through which all paths from INPUT to BOTTLENECK go.

    It is output 0 of the operation `name` in the backbone's graph; `shape` is that of one photo,
    such as (14, 14, 80). `multiply_adds_above` are those that training above it repeats for each
    photo, and `share_above` their share of the network's, 0..1.
    """

    name: str
    shape: tuple[int, ...]
    share_above: float
    multiply_adds_above: int

    @property
    def width(self) -> int:
        """The number of values of one photo."""
        return math.prod(self.shape)

    @property
    def kilobytes(self) -> float:
        """The size of one view in the cache, in float16; a kilobyte is 1000 bytes."""
        return self.width * 2 / 1000


def find_cut_points(graph_def: Any) -> tuple[CutPoint, ...]:
    """Return the cut points of a backbone's GraphDef, in order from the photo to the bottleneck.

    They are float32 with a row for each photo and known sizes. An operation that only reads the
    shape of a tensor, for a later Reshape, is a path too. Of points with the same multiply-adds
    above, the last one of the smallest size stands for all. Points with none above, such as the
    bottleneck, or all above, such as the photo, are left out.
    """
    operations = _operations_on_paths(graph_def)
    counts = [multiply_adds(operation) for operation in operations]
    total = above = sum(counts)
    last_reader = {
        source: number
        for number, operation in enumerate(operations)
        for source in _sources(operation)
    }
    smallest: dict[int, CutPoint] = {}
    open_until = 0
    """The last operation that reads a tensor of those before the current one."""
    for number, (operation, count) in enumerate(zip(operations, counts, strict=True)):
        above -= count
        passes_all = open_until <= number
        open_until = max(open_until, last_reader.get(operation, 0))
        shape = _photo_shape(operation)
        if not passes_all or shape is None or above in (0, total):
            continue
        point = CutPoint(operation.name, shape, above / total, above)
        rival = smallest.get(above)
        if rival is None or point.width <= rival.width:
            smallest[above] = point
    return tuple(smallest.values())


def _operations_on_paths(graph_def: Any) -> list[Any]:
    """Return the operations on paths from INPUT to BOTTLENECK, in an order of running."""
    tf = tf_graph.tensorflow()
    sized = copy.deepcopy(graph_def)
    for node in sized.node:
        if node.name == tf_graph.INPUT:
            node.attr["shape"].shape.dim[0].size = _BATCH
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(sized)
    from_photo = {graph.get_operation_by_name(tf_graph.INPUT)}
    for operation in graph.get_operations():  # an import creates them in an order of running
        if not from_photo.isdisjoint(_sources(operation)):
            from_photo.add(operation)
    to_bottleneck = {graph.get_operation_by_name(tf_graph.BOTTLENECK)}
    for operation in reversed(graph.get_operations()):
        if operation in to_bottleneck:
            to_bottleneck.update(_sources(operation))
    on_paths = from_photo & to_bottleneck
    return [operation for operation in graph.get_operations() if operation in on_paths]


def _sources(operation: Any) -> list[Any]:
    return [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]


def _photo_shape(operation: Any) -> tuple[int, ...] | None:
    """Return the shape of one photo's output of `operation`; None if it has no such output."""
    if len(operation.outputs) != 1 or operation.outputs[0].dtype.name != "float32":
        return None
    shape = operation.outputs[0].shape
    if not shape.rank or not shape.is_fully_defined() or shape[0] != _BATCH:
        return None
    return tuple(shape[1:])


def choose_cut_point(points: Sequence[CutPoint], name: str | None) -> CutPoint:
    """Return the point called `name`, or without a name the one to fine-tune from, by its cost.

    That is the deepest training that is affordable: the most multiply-adds above, up to a share of
    the network's, among maps that a cache can hold for many views. Where the network has no such
    point, it is the one with the fewest multiply-adds above that are worth training. Raises
    WrongUse, with the nearest names, for a name that is none; BadData where there is no point.
    """
    if not points:
        raise BadData(
            "the network has no tensor below its bottleneck through which all paths go: only its "
            "final layer can be trained"
        )
    if name is not None:
        return _named(points, name)
    worth_training = [point for point in points if point.share_above >= _MIN_SHARE_ABOVE]
    for point in worth_training:  # the most multiply-adds above come first
        if point.share_above <= _MAX_SHARE_ABOVE and point.kilobytes <= _MAX_VIEW_KILOBYTES:
            return point
    return worth_training[-1] if worth_training else points[0]


def _named(points: Sequence[CutPoint], name: str) -> CutPoint:
    by_name = {point.name: point for point in points}
    point = by_name.get(name.removesuffix(":0"))
    if point is None:
        near = ", ".join(get_close_matches(name, by_name, n=5, cutoff=0))
        raise WrongUse(f"`cut` {name}: the network cannot be cut there. Near names: {near}")
    return point
