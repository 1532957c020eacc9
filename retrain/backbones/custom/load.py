"""Load a network of the user's own as a backbone."""

import hashlib
import shlex
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from deploy.contract import InputSpec
from deploy.errors import BadData, WrongUse
from deploy.runtime import Model
from deploy.system.terminal import printable
from retrain import tf_graph
from retrain.backbones.backbone import Backbone, prepare
from retrain.backbones.custom import classic_graph
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.read_file import files_of, read_network
from retrain.backbones.surgery.extract_backbone import Cut, extract_backbone, is_row
from retrain.backbones.surgery.inference_subgraph import tensor_name
from retrain.backbones.surgery.photo_input import input_of_graph, size_text

_VERSION = 2
"""Raised when the extraction of a backbone changes what it computes."""


def load_custom(path: Path, ends: Ends, cache_dir: Path) -> Backbone:
    """Return the network at `path` from one tensor to another, prepared under `cache_dir`.

    Whole frames are squashed to the network's input. What is None in `ends` is known for graphs
    that TensorFlow's retrain.py wrote or began with and for a file that takes bytes, and partly for
    others. Raises WrongUse with the settings to set where it is not known, or where `ends`
    contradict the network; BadData for what is not a network that can be taken.
    """
    if ends.input_mean is not None and ends.input_mean % 1:
        raise WrongUse(
            f"`input_mean` {ends.input_mean}: int8 needs a whole number. Remedy: round it, to 128 "
            "for 127.5"
        )
    network = read_network(path, ends.bottleneck_tensor, ends.sides)
    with tf_graph.reading(path):
        ends = ends.named_in(network.graph_def)
        classic = classic_graph.find_ends(network.graph_def, ends.input_tensor)
    complete = ends.or_else(classic or network.ends)
    if complete.input_tensor is not None:
        with tf_graph.reading(path):
            complete = _with_input(network.graph_def, complete, ends)
    input_tensor, bottleneck, sides = (
        complete.input_tensor,
        complete.bottleneck_tensor,
        complete.sides,
    )
    mean, std = complete.input_mean, complete.input_std
    if input_tensor is None or bottleneck is None or sides is None or mean is None or std is None:
        raise WrongUse(*_what_to_set(path, network.graph_def, complete))
    height, width = sides
    spec = InputSpec(height=height, width=width, crop=None, mean=float(mean), std=float(std))
    cut = Cut(tensor_name(input_tensor), tensor_name(bottleneck), sides)
    sha256 = _digest(path, cut)
    graph_path, flatbuffer = prepare("own", sha256, partial(_trace, path, cut), sides, cache_dir)
    width = Model(flatbuffer).output_width
    return Backbone(printable(path.name), spec, width, sha256, graph_path, flatbuffer)


def _with_input(graph_def: Any, complete: Ends, settings: Ends) -> Ends:
    """Return `complete` with what the shape and type of its input tensor say.

    Raises WrongUse where the user's `settings` contradict them, BadData if it takes no photos.
    """
    photos = input_of_graph(graph_def, tensor_name(str(complete.input_tensor)))
    complete = replace(complete, input_size=photos.sides(settings.sides) or complete.sides)
    if not photos.takes_bytes:
        return complete
    if (settings.input_mean or 0, settings.input_std or 1) != (0, 1):
        raise WrongUse(
            f"`input_mean` and `input_std`: {complete.input_tensor} takes bytes (uint8), pixels of "
            "0..255 as they are: leave both out"
        )
    return replace(complete, input_mean=0.0, input_std=1.0)


def _trace(path: Path, cut: Cut) -> Any:
    network = read_network(path, cut.bottleneck_tensor, cut.sides)
    with tf_graph.reading(path):
        return extract_backbone(network.graph_def, cut)


def _digest(path: Path, cut: Cut) -> str:
    """Return the SHA-256 of what decides the prepared graph: files, ends, height and width."""
    settings = (_VERSION, cut.input_tensor, cut.bottleneck_tensor, cut.sides)
    digest = hashlib.sha256(repr(settings).encode())
    for file in files_of(path):
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _what_to_set(path: Path, graph_def: Any, ends: Ends) -> list[str]:
    """Return lines on what is missing: likely ends with their shapes, and an example."""
    inputs, bottlenecks = _candidates(graph_def)
    first_input, first_bottleneck = (
        lines[0].split()[0] if lines else "NAME" for lines in (inputs, bottlenecks)
    )
    missing = [f"`{name}`" for name, value in asdict(ends).items() if value is None]
    example = ends.or_else(_example(graph_def, ends.input_tensor or first_input, first_bottleneck))
    values = asdict(example) | {"input_size": size_text(example.sides or ())}
    line = " ".join(f"`{name}` {value}" for name, value in values.items())
    return [
        f"{path}: {', '.join(missing)} must be given, as the network was trained "
        "(mean and std 128 and 128: about -1..1; 0 and 255: 0..1; 0 and 1: pixels as they are)",
        "likely inputs:",
        *(f"  {tensor}" for tensor in inputs),
        "likely bottlenecks:",
        *(f"  {tensor}" for tensor in bottlenecks),
        f"for example: `graph` {shlex.quote(str(path))} {line}",
    ]


def _example(graph_def: Any, input_tensor: str, bottleneck: str) -> Ends:
    """Return ends to show as an example."""
    try:
        photos = input_of_graph(graph_def, tensor_name(input_tensor))
    except BadData:  # it is only likely to take photos
        return Ends(input_tensor, bottleneck, (224, 224), 128, 128)
    mean, std = (0, 1) if photos.takes_bytes else (128, 128)
    return Ends(input_tensor, bottleneck, (photos.height or 224, photos.width or 224), mean, std)


def _candidates(graph_def: Any) -> tuple[list[str], list[str]]:
    """Return likely inputs and likely bottlenecks, best first, each as `name shape`."""
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as graph:
        try:
            tf_graph.import_graph(graph_def)
        except ValueError as error:
            raise BadData(f"TensorFlow does not take this graph: {error}") from error
    inputs, dense, pooled, after_convolution = [], [], [], set()
    for operation in graph.get_operations():
        if operation.type == "Placeholder" and operation.outputs[0].dtype != tf.resource:
            inputs += operation.outputs
        if operation.type == "MatMul":
            dense.append(operation.inputs[0])
        if operation.type in ("AvgPool", "Mean", "Reshape", "Squeeze"):
            pooled += [tensor for tensor in operation.outputs if is_row(tensor.shape)]
        if any(tensor.op in after_convolution for tensor in operation.inputs):
            after_convolution.add(operation)
        elif operation.type in ("Conv2D", "DepthwiseConv2dNative"):
            inputs.insert(0, _before_padding(operation.inputs[0]))
            after_convolution.add(operation)
    rows = [row for row in (*reversed(dense), *reversed(pooled)) if row.op in after_convolution]
    return _distinct(inputs), _distinct(rows)


def _distinct(tensors: list[Any]) -> list[str]:
    return list(dict.fromkeys(f"{tensor.name} {tensor.shape}" for tensor in tensors))


def _before_padding(tensor: Any) -> Any:
    """Return the tensor that is padded to `tensor`: its size is that of the photos."""
    while tensor.op.type in ("MirrorPad", "Pad", "PadV2"):
        tensor = tensor.op.inputs[0]
    return tensor
