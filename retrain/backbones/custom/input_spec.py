"""What a network's input takes, read from its tensor; what is no photo is refused in words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from deploy.errors import BadData, WrongUse
from retrain import tf_graph

Sides = tuple[int, int]
"""Height and width in pixels."""
MAX_SIDE = 4096
_TYPES = frozenset(("float32", "float16", "bfloat16", "float64", "uint8"))
_CHANNELS = (1, 3)


class PhotoInput(NamedTuple):
    """The photos that a network takes; None is any number of pixels, or a count not in the file.

    `channels` are 3 for RGB and 1 for grey. `takes_bytes` is for an input of type uint8: pixels of
    0..255 as they are.
    """

    batch: int = 1
    height: int | None = None
    width: int | None = None
    channels: int | None = None
    takes_bytes: bool = False

    def sides(self, asked: Sides | None) -> Sides | None:
        """Return height and width, from the network or `asked` for; None if neither has them.

        Raises WrongUse if `asked` contradicts the network.
        """
        own = (self.height, self.width)
        if asked is None:
            return None if self.height is None or self.width is None else (self.height, self.width)
        if any(side not in (None, other) for side, other in zip(own, asked, strict=True)):
            raise WrongUse(
                f"--input-size {size_text(asked)} (height x width): the network takes "
                f"{size_text(own)} only: leave the option out"
            )
        return asked


def size_text(sides: Sequence[int | None]) -> str:
    """Return height and width as --input-size takes them: `224`, or `96x128`."""
    height, width = ("any" if side is None else str(side) for side in sides)
    return height if height == width else f"{height}x{width}"


def as_sides(size: int | Sides | None) -> Sides | None:
    """Return height and width of `size`, which is one number for a square."""
    return (size, size) if isinstance(size, int) else size


def of_tensor(name: str, shape: Sequence[int | None] | None, dtype: str) -> PhotoInput:
    """Return what a tensor takes; `shape` is None if even its rank is not known.

    Raises BadData for what is no batch of photos with channels last.
    """
    if dtype not in _TYPES:
        other = "the bytes of a file or text" if dtype == "string" else dtype
        raise BadData(
            f"its input {name} takes {other}: photos are fed as float32 or uint8. Remedy: name the "
            "tensor behind decoding and casting with --input-tensor, or save the network for those"
        )
    takes_bytes = dtype == "uint8"
    if shape is None:
        return PhotoInput(takes_bytes=takes_bytes)
    shown = f"its input {name} is ({', '.join('any' if s is None else str(s) for s in shape)})"
    right = "photos are (N, height, width, channels), with 3 channels (RGB) or 1 (grey)"
    if len(shape) != 4:
        raise BadData(f"{shown}: {right}. Remedy: save the network for those")
    batch, height, width, channels = shape
    if channels not in (*_CHANNELS, None):
        if height in _CHANNELS:
            raise BadData(f"{shown}, channels first: {right}. Remedy: save it with channels last")
        raise BadData(f"{shown}: {channels} channels; {right}. Remedy: take another network")
    if any(side is not None and not 1 <= side <= MAX_SIDE for side in (height, width)):
        raise BadData(f"{shown}: photos have 1 to {MAX_SIDE} pixels a side")
    return PhotoInput(batch or 1, height, width, channels, takes_bytes)


def of_graph(graph_def: Any, fed: str) -> PhotoInput:
    """Return what the tensor `fed` of a GraphDef takes; raise BadData for what is no photo."""
    tf = tf_graph.tensorflow()
    name = fed.partition(":")[0]
    if name not in {node.name for node in graph_def.node}:
        raise BadData(f"the graph has no tensor {fed}")
    with tf.Graph().as_default() as before:
        try:
            leading = tf.compat.v1.graph_util.extract_sub_graph(graph_def, [name])
            tf.import_graph_def(leading, name="")
        except (AssertionError, KeyError, ValueError):
            return PhotoInput()  # what is before `fed` is left out, and need not be readable
        try:
            tensor = before.get_tensor_by_name(fed)
        except (KeyError, ValueError) as error:
            raise BadData(f"the graph has no tensor {fed}") from error
    shape = None if tensor.shape.rank is None else tensor.shape.as_list()
    return of_tensor(fed, shape, tensor.dtype.name)
