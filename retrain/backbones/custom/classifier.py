"""Read a frozen classifier that another program wrote: its ends, its labels, and its network.

Ends are those that the user sets, else those that the graph says, else label_image.py's.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from deploy.contract import InputSpec, read_labels, read_labels_file
from deploy.errors import BadData, WrongUse
from retrain import tf_graph
from retrain.backbones.custom import classic_graph
from retrain.backbones.custom.classic_graph import GraphInput
from retrain.backbones.surgery.extract_backbone import float32_subgraph, match_channels
from retrain.backbones.surgery.inference_subgraph import (
    IMPORT_PREFIX,
    node_name,
    strip_import_prefix,
    tensor_name,
)
from retrain.backbones.surgery.scope import END
from retrain.frozen_graph import FrozenGraph
from retrain.settings.label_image import LabelImageSettings

OUTPUT = "final_result"
"""The operation that gives the scores of the graph that `extract_classifier` returns."""

_IMAGE_SETTINGS = ("input_height", "input_width", "input_mean", "input_std")
_SIDES = ("input_height", "input_width")
_SCORES = ("final_result", "InceptionV3/Predictions/Reshape_1")
_NUMBERED = re.compile(r"([0-9]{1,6})(?: *[:,;\t] *| +)(\S.*)")
_SCALE_TOLERANCE = 1.5
"""Grey levels by which two equal scales may differ: 127.5 and 128 are the same for int8."""


class ClassifierEnds(NamedTuple):
    """The tensors that take photos and give scores, and how photos are fed.

    `defaults` are the settings, each as text, that neither the user nor the graph gives.
    """

    input_tensor: str
    scores: str
    spec: InputSpec
    defaults: tuple[str, ...]


def find_ends(
    graph_def: Any, settings: LabelImageSettings, defaults: LabelImageSettings
) -> ClassifierEnds:
    """Return the ends of a frozen classifier; raise WrongUse, which names the settings to set.

    `defaults` are used for settings that neither the user nor the graph gives.
    """
    input_layer, output_layer = (
        layer and strip_import_prefix(graph_def, layer)
        for layer in (settings.input_layer, settings.output_layer)
    )
    scores = _find_scores(graph_def, output_layer)
    photos = _find_input(graph_def, scores, input_layer)
    if node_name(photos.tensor) == node_name(scores):
        raise WrongUse(f"{scores} cannot both take the photos and give the scores")
    values: dict[str, Any] = {}
    used_defaults, missing = [], []
    for name in _IMAGE_SETTINGS:
        of_graph, value = getattr(photos, name.removeprefix("input_")), getattr(settings, name)
        if photos.fixed and name in _SIDES and value not in (None, of_graph):
            raise WrongUse(
                f"`{name}` {value}: {photos.tensor} takes photos of "
                f"{photos.height}x{photos.width} pixels (height x width): leave `{name}` out"
            )
        if value is None:
            value = of_graph
        if value is None and getattr(defaults, name) is not None:
            value = getattr(defaults, name)
            used_defaults.append(f"`{name}` {value:g}")
        if value is None:
            missing.append(f"`{name}`")
        values[name] = value
    if missing:
        raise WrongUse(
            f"the graph does not say how {photos.tensor} takes a photo: set "
            f"{', '.join(missing)}, as the network was trained (mean and std 128 and 128: about "
            "-1..1; 0 and 255: 0..1; 0 and 1: pixels as they are)"
        )
    height, width, mean, std = values.values()
    spec = InputSpec(height=height, width=width, crop=None, mean=float(mean), std=float(std))
    return ClassifierEnds(photos.tensor, scores, spec, tuple(used_defaults))


def require_same(settings: LabelImageSettings, spec: InputSpec, source: Path) -> None:
    """Raise WrongUse where a setting contradicts the contract `source` with `spec`."""
    mean = spec.mean if settings.input_mean is None else settings.input_mean
    std = spec.std if settings.input_std is None else settings.input_std
    same_scale = all(
        abs((pixel - mean) / std - (pixel - spec.mean) / spec.std) * spec.std < _SCALE_TOLERANCE
        for pixel in (0, 255)
    )
    layer = node_name(tensor_name(settings.input_layer or tf_graph.INPUT))
    layer = layer.removeprefix(IMPORT_PREFIX)
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
                f"{value}: leave `{name}` out"
            )


def _find_scores(graph_def: Any, output_layer: str | None) -> str:
    """Return the tensor of the scores."""
    names = [node.name for node in graph_def.node]
    if output_layer:
        if node_name(tensor_name(output_layer)) not in names:
            likely = classic_graph.find_scores(graph_def) or _unread(graph_def)
            raise BadData(
                f"the graph has no operation named {output_layer}; it has {_list(likely)}"
            )
        return tensor_name(output_layer)
    ends = classic_graph.find_scores(graph_def)
    if len(ends) != 1:
        ends = [name for name in _SCORES if name in names] or ends
    if not ends:
        raise WrongUse(
            "the graph has no softmax: name the operation that gives its scores as "
            f"`output_layer`; at its ends are {_list(_unread(graph_def))}"
        )
    if len(ends) > 1:
        raise WrongUse(
            f"the graph has {len(ends)} ends with scores: name one as `output_layer`: {_list(ends)}"
        )
    return tensor_name(ends[0])


def _find_input(graph_def: Any, scores: str, input_layer: str | None) -> GraphInput:
    """Return where photos enter; `input_layer` is the tensor that the user names."""
    names = {node.name for node in graph_def.node}
    missing = input_layer and node_name(tensor_name(input_layer)) not in names
    photos = classic_graph.find_input(graph_def, scores, None if missing else input_layer)
    placeholders = [node.name for node in graph_def.node if node.op == "Placeholder"]
    if missing:
        likely = [photos.tensor] if photos else placeholders
        raise BadData(f"the graph has no operation named {input_layer}; it has {_list(likely)}")
    if photos is None:
        raise WrongUse(
            "the graph does not say which placeholder takes the photos that give "
            f"{scores}: name it as `input_layer`: {_list(placeholders)}"
        )
    return photos


def _unread(graph_def: Any) -> list[str]:
    """Return the operations whose output no other operation reads."""
    read = {node_name(tensor) for node in graph_def.node for tensor in node.input}
    return [node.name for node in graph_def.node if node.name not in read and node.op != "Const"]


def _list(names: list[str]) -> str:
    text = ", ".join(names[:5]) or "none"
    return f"{text} and {len(names) - 5} more" if len(names) > 5 else text


def extract_classifier(graph_def: Any, ends: ClassifierEnds) -> FrozenGraph:
    """Return the graph from `input`, (1, height, width, 3), to OUTPUT, (1, classes).

    It holds allowed operations only, nothing of training, and no rounding of activations. Raises
    BadData where there is anything else in between.
    """
    tf = tf_graph.tensorflow()
    network, photos = float32_subgraph(
        graph_def, tensor_name(ends.input_tensor), tensor_name(ends.scores)
    )
    with tf.Graph().as_default() as classifier:
        shape = [1, ends.spec.height, ends.spec.width, 3]
        images = tf.compat.v1.placeholder(tf.float32, shape, name=tf_graph.INPUT)
        outputs = [f"{END}:0"]
        try:
            inputs = {f"{tf_graph.INPUT}:0": match_channels(images, photos)}
            (scores,) = tf_graph.import_graph(network, inputs, outputs)
        except ValueError as error:
            raise wrong_size(ends, error) from error
        tf.reshape(scores, [1, -1], name=OUTPUT)
    serialized = tf_graph.definition(classifier).SerializeToString(deterministic=True)
    return FrozenGraph(serialized, ends.spec, OUTPUT)


def wrong_size(ends: ClassifierEnds, error: Exception) -> BadData:
    """Return the error that photos of this size cannot enter, with TensorFlow's reason."""
    reason = str(error).partition(" for '")[0]
    return BadData(
        f"{ends.input_tensor} does not take photos of {ends.spec.height}x{ends.spec.width} pixels "
        f"({reason}): set `input_height` and `input_width` of the network, or another "
        "`input_layer`"
    )


def read_classic_labels(path: Path) -> tuple[str, ...]:
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
    numbered = [_NUMBERED.fullmatch(label) for label in labels]
    if len(labels) > 1 and all(match and int(match[1]) == i for i, match in enumerate(numbered)):
        labels = tuple(match[2] for match in numbered if match)
    return labels
