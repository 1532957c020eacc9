"""Read from a network's input tensor which photos it takes; refuse what takes no photos."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from deploy.errors import BadData, WrongUse
from retrain import tf_graph

Sides = tuple[int, int]
"""Height and width in pixels."""
_MAX_SIDE_PIXELS = 4096
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

    def sides(self, input_size: Sides | None) -> Sides | None:
        """Return height and width, the network's or `input_size`; None if neither is known.

        Raises WrongUse if `input_size` contradicts the network.
        """
        if input_size is None:
            return None if self.height is None or self.width is None else (self.height, self.width)
        own = (self.height, self.width)
        if any(side not in (None, size) for side, size in zip(own, input_size, strict=True)):
            raise WrongUse(
                f"`input_size` {size_text(input_size)} (height x width): the network takes "
                f"{size_text(own)} only: leave `input_size` out"
            )
        return input_size


def size_text(sides: Sequence[int | None]) -> str:
    """Return height and width as the setting `input_size` takes them: `224`, or `96x128`."""
    height, width = ("any" if side is None else str(side) for side in sides)
    return height if height == width else f"{height}x{width}"


def as_sides(size: int | Sides | None) -> Sides | None:
    """Return height and width of `size`, which is one number for a square."""
    return (size, size) if isinstance(size, int) else size


def input_of_tensor(name: str, shape: Sequence[int | None] | None, dtype: str) -> PhotoInput:
    """Return which photos a tensor takes; `shape` is None if not even its rank is known.

    Raises BadData for what is no batch of photos with channels last.
    """
    if dtype not in _TYPES:
        content = "the bytes of a file or text" if dtype == "string" else dtype
        raise BadData(
            f"its input {name} takes {content}: photos are fed as float32 or uint8. Remedy: name "
            "the tensor behind decoding and casting as `input_tensor`, or save the network for "
            "those"
        )
    takes_bytes = dtype == "uint8"
    if shape is None:
        return PhotoInput(takes_bytes=takes_bytes)
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    subject = f"its input {name} is ({sizes})"
    right = "photos are (N, height, width, channels), with 3 channels (RGB) or 1 (grey)"
    if len(shape) != 4:
        raise BadData(f"{subject}: {right}. Remedy: save the network for those")
    batch, height, width, channels = shape
    if channels not in (*_CHANNELS, None):
        if height in _CHANNELS:
            raise BadData(f"{subject}, channels first: {right}. Remedy: save it with channels last")
        raise BadData(f"{subject}: {channels} channels; {right}. Remedy: take another network")
    if any(side is not None and not 1 <= side <= _MAX_SIDE_PIXELS for side in (height, width)):
        raise BadData(f"{subject}: photos have 1 to {_MAX_SIDE_PIXELS} pixels a side")
    return PhotoInput(batch or 1, height, width, channels, takes_bytes)


def input_of_graph(graph_def: Any, input_tensor: str) -> PhotoInput:
    """Return which photos a tensor of a GraphDef takes; raise BadData for what is no photo."""
    tf = tf_graph.tensorflow()
    name = input_tensor.partition(":")[0]
    if name not in {node.name for node in graph_def.node}:
        raise BadData(f"the graph has no tensor {input_tensor}")
    with tf.Graph().as_default() as graph:
        try:
            tf_graph.import_graph(tf_graph.subgraph(graph_def, name))
        except (BadData, ValueError):
            return PhotoInput()  # nodes before the input are left out, and need not be readable
        try:
            tensor = graph.get_tensor_by_name(input_tensor)
        except (KeyError, ValueError) as error:
            raise BadData(f"the graph has no tensor {input_tensor}") from error
    shape = None if tensor.shape.rank is None else tensor.shape.as_list()
    return input_of_tensor(input_tensor, shape, tensor.dtype.name)
