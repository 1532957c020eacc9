"""A frozen classifier that another program wrote: its ends, its labels, and one photo through it.

Ends are what the user types, else what the graph says, else what label_image.py assumed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from deploy.contract import InputSpec, read_labels, read_labels_file
from deploy.errors import BadData, WrongUse
from retrain import tf_graph
from retrain.backbones.custom import classic_graph
from retrain.backbones.custom.graph_input import Entrance
from retrain.backbones.surgery.extract_backbone import as_fed, photo_part
from retrain.backbones.surgery.inference_subgraph import IMPORTED, in_graph, key, node_name
from retrain.settings.training import LabelImageSettings

OUTPUT = "final_result"
"""The operation that gives the scores of the graph that `for_one_photo` makes."""

LABEL_IMAGE = {"input_height": 299, "input_width": 299, "input_mean": 0.0, "input_std": 255.0}
"""What TensorFlow's label_image.py assumed where nothing was typed."""
_SIDES = ("input_height", "input_width")
_SCORES = ("final_result", "InceptionV3/Predictions/Reshape_1")
_NUMBERED = re.compile(r"([0-9]{1,6})(?: *[:,;\t] *| +)(\S.*)")
_GREY_LEVELS = 1.5
"""How far two scales may be apart: 127.5 and 128 are the same one for int8."""


def require_agreement(settings: LabelImageSettings, spec: InputSpec, source: Path) -> None:
    """Raise WrongUse where a setting contradicts the contract `source` with `spec`."""
    mean = spec.mean if settings.input_mean is None else settings.input_mean
    std = spec.std if settings.input_std is None else settings.input_std
    same_scale = all(
        abs((pixel - mean) / std - (pixel - spec.mean) / spec.std) * spec.std < _GREY_LEVELS
        for pixel in (0, 255)
    )
    layer = node_name(key(settings.input_layer or tf_graph.INPUT)).removeprefix(IMPORTED)
    for name, value, fits in (
        ("input_layer", tf_graph.INPUT, layer == tf_graph.INPUT),
        ("input_height", spec.height, settings.input_height in (None, spec.height)),
        ("input_width", spec.width, settings.input_width in (None, spec.width)),
        ("input_mean", spec.mean, same_scale or settings.input_mean is None),
        ("input_std", spec.std, same_scale),
    ):
        if not fits:
            raise WrongUse(
                f"`{name}` {getattr(settings, name)}: {source}, which describes this graph, says "
                f"{value}: leave the option out"
            )


class Ends(NamedTuple):
    """The tensors that take photos and give scores, what a photo becomes, and what was assumed."""

    fed: str
    scores: str
    spec: InputSpec
    assumed: tuple[str, ...]


def settle(graph_def: Any, typed: LabelImageSettings, defaults: Mapping[str, Any]) -> Ends:
    """Return the ends of a frozen classifier; raise WrongUse, saying what to type, without them.

    `defaults` stand in for what is neither typed nor in the graph, and are listed as assumed.
    """
    input_layer, output_layer = (
        layer and in_graph(graph_def, layer) for layer in (typed.input_layer, typed.output_layer)
    )
    scores = _scores(graph_def, output_layer)
    entrance = _entrance(graph_def, scores, input_layer)
    if node_name(entrance.tensor) == node_name(scores):
        raise WrongUse(f"{scores} cannot both take the photos and give the scores")
    values: dict[str, Any] = {}
    assumed, missing = [], []
    for name in LABEL_IMAGE:
        of_graph, value = getattr(entrance, name.removeprefix("input_")), getattr(typed, name)
        if entrance.fixed and name in _SIDES and value not in (None, of_graph):
            raise WrongUse(
                f"--{name.replace('_', '-')} {value}: {entrance.tensor} takes photos of "
                f"{entrance.height}x{entrance.width} pixels (height x width): leave the option out"
            )
        if value is None:
            value = of_graph
        if value is None and name in defaults:
            value = defaults[name]
            assumed.append(f"--{name.replace('_', '-')} {value:g}")
        if value is None:
            missing.append(f"--{name.replace('_', '-')}")
        values[name] = value
    if missing:
        raise WrongUse(
            f"the graph does not say how {entrance.tensor} takes a photo: type "
            f"{', '.join(missing)}, as the network was trained (mean and std 128 and 128: about "
            "-1..1; 0 and 255: 0..1; 0 and 1: pixels as they are)"
        )
    height, width, mean, std = values.values()
    spec = InputSpec(height=height, width=width, crop=None, mean=float(mean), std=float(std))
    return Ends(entrance.tensor, scores, spec, tuple(assumed))


def _scores(graph_def: Any, typed: str | None) -> str:
    """Return the tensor of the scores."""
    names = [node.name for node in graph_def.node]
    if typed:
        if node_name(key(typed)) not in names:
            likely = classic_graph.scores_of(graph_def) or _unread(graph_def)
            raise BadData(f"the graph has no operation named {typed}; it has {_list(likely)}")
        return key(typed)
    ends = classic_graph.scores_of(graph_def)
    if len(ends) != 1:
        ends = [name for name in _SCORES if name in names] or ends
    if not ends:
        raise WrongUse(
            "the graph has no softmax: name the operation that gives its scores with "
            f"--output-layer; at its ends are {_list(_unread(graph_def))}"
        )
    if len(ends) > 1:
        raise WrongUse(
            f"the graph has {len(ends)} ends with scores: name one with --output-layer: "
            f"{_list(ends)}"
        )
    return key(ends[0])


def _entrance(graph_def: Any, scores: str, typed: str | None) -> Entrance:
    missing = typed and node_name(key(typed)) not in {node.name for node in graph_def.node}
    entrance = classic_graph.entrance(graph_def, scores, None if missing else typed)
    placeholders = [node.name for node in graph_def.node if node.op == "Placeholder"]
    if missing:
        likely = [entrance.tensor] if entrance else placeholders
        raise BadData(f"the graph has no operation named {typed}; it has {_list(likely)}")
    if entrance is None:
        raise WrongUse(
            f"the graph does not say which placeholder takes the photos that {scores} is made of: "
            f"name it with --input-layer: {_list(placeholders)}"
        )
    return entrance


def _unread(graph_def: Any) -> list[str]:
    read = {node_name(tensor) for node in graph_def.node for tensor in node.input}
    return [node.name for node in graph_def.node if node.name not in read and node.op != "Const"]


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "none"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def for_one_photo(graph_def: Any, ends: Ends) -> Any:
    """Return the GraphDef from `input`, (1, height, width, 3), to OUTPUT, (1, classes).

    It holds allowed operations only, nothing of training, and no rounding of activations. Raises
    BadData where there is anything else in between.
    """
    tf = tf_graph.tensorflow()
    network, photos = photo_part(graph_def, key(ends.fed), key(ends.scores))
    with tf.Graph().as_default() as single:
        shape = [1, ends.spec.height, ends.spec.width, 3]
        images = tf.compat.v1.placeholder(tf.float32, shape, name=tf_graph.INPUT)
        returned = [f"{tf_graph.BOTTLENECK}:0"]
        try:
            fed = {f"{tf_graph.INPUT}:0": as_fed(images, photos)}
            (end,) = tf.import_graph_def(network, fed, returned, "network")
        except ValueError as error:
            raise misfit(ends, error) from error
        tf.reshape(end, [1, -1], name=OUTPUT)
    return single.as_graph_def()


def misfit(ends: Ends, error: Exception) -> BadData:
    """Return the error that photos of this size cannot enter, with TensorFlow's reason."""
    reason = str(error).partition(" for '")[0]
    return BadData(
        f"{ends.fed} does not take photos of {ends.spec.height}x{ends.spec.width} pixels "
        f"({reason}): type --input-height and --input-width of the network, or another "
        "--input-layer"
    )


def labels_of(path: Path) -> tuple[str, ...]:
    """Return the labels in a file of one a line, as label_image.py read it; raise BadData.

    Spaces at the end of a line and empty lines at the end of the file do not count, and neither do
    numbers before all labels that count from 0: `0 daisy`, `1:roses`.
    """
    try:
        text = "\n".join(read_labels_file(path)).replace("\r", "\n")
    except OSError as error:
        raise BadData(f"{path}: the labels cannot be read ({error.strerror})") from error
    if not text.strip():
        raise BadData(f"{path}: no label in it: write one a line, in the order of the outputs")
    labels = tuple(label.rstrip() for label in read_labels(text.rstrip()))
    for i, label in enumerate(labels):
        if not label:
            raise BadData(f"{path}: line {i + 1} is empty: write a label into each line")
    bare = [_NUMBERED.fullmatch(label) for label in labels]
    if len(labels) > 1 and all(each and int(each[1]) == i for i, each in enumerate(bare)):
        labels = tuple(each[2] for each in bare if each)
    return labels
