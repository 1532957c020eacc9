"""The user's own network as a backbone: the ends are named, what lies between is made plain."""

import hashlib
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from deploy.contract import InputSpec
from deploy.errors import BadData, WrongUse
from deploy.runtime import Model
from deploy.system.terminal import printable
from retrain import tf_graph
from retrain.backbones import Backbone, prepare
from retrain.backbones.custom import classic_graph, read_file
from retrain.backbones.custom.freeze_function import OwnNetwork
from retrain.backbones.custom.input_spec import Sides, as_sides, of_graph, size_text
from retrain.backbones.surgery.extract_backbone import between, is_row
from retrain.backbones.surgery.inference_subgraph import in_graph, key


def load_own(
    path: Path,
    input_tensor: str | None,
    bottleneck_tensor: str | None,
    size: int | Sides | None,
    mean: float | None,
    std: float | None,
    cache_dir: Path,
) -> Backbone:
    """Return the network at `path` from one tensor to another, prepared under `cache_dir`.

    `size` is height and width of its photos in pixels, one number for a square; whole frames are
    squashed. `mean` and `std` are of 0..255. What is None is known for what TensorFlow's retrain.py
    wrote or began with and for a file that takes bytes, and partly for others. Raises WrongUse that
    says what to type where it is not, or where it contradicts the network; BadData for what is not
    a network that can be taken.
    """
    if mean is not None and mean % 1:
        raise WrongUse(
            f"--input-mean {mean}: int8 needs a whole number. Remedy: round it, to 128 for 127.5"
        )
    asked_sides = as_sides(size)
    network = read_file.read(path, bottleneck_tensor, asked_sides)
    with tf_graph.reading(path):
        input_tensor, bottleneck_tensor = (
            end and in_graph(network.graph_def, end) for end in (input_tensor, bottleneck_tensor)
        )
        classic = classic_graph.backbone_ends(network.graph_def, input_tensor)
    known: tuple[Any, ...] = classic or network[1:]
    asked = (input_tensor, bottleneck_tensor, asked_sides, mean, std)
    settings: tuple[Any, ...] = tuple(
        default if given is None else given for given, default in zip(asked, known, strict=True)
    )
    settings = (*settings[:2], as_sides(settings[2]), *settings[3:])
    if settings[0] is not None:
        settings = _with_input(path, network, settings, asked)
    if None in settings:
        raise WrongUse(*_what_to_type(path, network, settings))
    fed, bottleneck, sides, mean, std = settings
    height, width = sides
    spec = InputSpec(height=height, width=width, crop=None, mean=float(mean), std=float(std))
    sha256 = _digest(path, key(fed), key(bottleneck), sides)

    trace = partial(_trace, path, key(fed), key(bottleneck), sides)
    graph_path, flatbuffer = prepare("own", sha256, trace, sides, cache_dir)
    width = Model(flatbuffer).output_width
    return Backbone(printable(path.name), spec, width, sha256, graph_path, flatbuffer)


def _with_input(
    path: Path, network: OwnNetwork, settings: tuple[Any, ...], asked: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Return `settings` with what the input tensor's shape and type say.

    Raises WrongUse where what is `asked` for contradicts them, BadData if it takes no photos.
    """
    fed, bottleneck, sides, mean, std = settings
    with tf_graph.reading(path):
        photos = of_graph(network.graph_def, key(fed))
        sides = photos.sides(asked[2]) or sides
        if photos.takes_bytes:
            if (asked[3] or 0, asked[4] or 1) != (0, 1):
                raise WrongUse(
                    f"--input-mean and --input-std: {fed} takes bytes (uint8), pixels of 0..255 "
                    "as they are: leave the two options out"
                )
            mean, std = 0.0, 1.0
    return fed, bottleneck, sides, mean, std


def _trace(path: Path, fed: str, bottleneck: str, sides: Sides) -> Any:
    network = read_file.read(path, bottleneck, sides)
    with tf_graph.reading(path):
        return between(network.graph_def, fed, bottleneck, *sides)


def _digest(path: Path, *settings: str | Sides) -> str:
    """Return the SHA-256 of what decides the prepared graph: files, ends, height and width."""
    total = hashlib.sha256(repr(settings).encode())
    for each in read_file.files_of(path):
        total.update(str(each.relative_to(path)).encode())
        with each.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _what_to_type(path: Path, network: OwnNetwork, settings: tuple[Any, ...]) -> list[str]:
    """Return lines on what is missing: likely ends with their shapes, and a line to type."""
    inputs, bottlenecks = _candidates(network.graph_def)
    ends = [each[0].split()[0] if each else "NAME" for each in (inputs, bottlenecks)]
    sides, scale = _example_input(network.graph_def, settings[0] or ends[0])
    examples = (*ends, sides, *scale)
    names = ("input-tensor", "bottleneck-tensor", "input-size", "input-mean", "input-std")
    options = [f"--{each}" for each in names]
    missing = [each for each, given in zip(options, settings, strict=True) if given is None]
    values: list[Any] = [
        example if given is None else given
        for given, example in zip(settings, examples, strict=True)
    ]
    values[2] = size_text(values[2])
    line = " ".join(f"{option} {value}" for option, value in zip(options, values, strict=True))
    return [
        f"{path}: {', '.join(missing)} must be given, as the network was trained "
        "(mean and std 128 and 128: about -1..1; 0 and 255: 0..1; 0 and 1: pixels as they are)",
        "likely inputs:",
        *(f"  {each}" for each in inputs),
        "likely bottlenecks:",
        *(f"  {each}" for each in bottlenecks),
        f"for example: --graph {shlex.quote(str(path))} {line}",
    ]


def _example_input(graph_def: Any, fed: str) -> tuple[Sides, tuple[int, int]]:
    """Return height and width, and mean and std, to show as an example for the tensor `fed`."""
    try:
        photos = of_graph(graph_def, key(fed))
    except BadData:  # it is only likely to take photos
        return (224, 224), (128, 128)
    sides = (photos.height or 224, photos.width or 224)
    return sides, (0, 1) if photos.takes_bytes else (128, 128)


def _candidates(graph_def: Any) -> tuple[list[str], list[str]]:
    """Return likely inputs and likely bottlenecks, best first, each as `name shape`."""
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as imported:
        try:
            tf.import_graph_def(graph_def, name="")
        except ValueError as error:
            raise BadData(f"TensorFlow does not take this graph: {error}") from error
    inputs, dense, pooled, after = [], [], [], set()
    for operation in imported.get_operations():
        if operation.type == "Placeholder" and operation.outputs[0].dtype != tf.resource:
            inputs += operation.outputs
        if operation.type == "MatMul":
            dense.append(operation.inputs[0])
        if operation.type in ("AvgPool", "Mean", "Reshape", "Squeeze"):
            pooled += [each for each in operation.outputs if is_row(each.shape)]
        if any(each.op in after for each in operation.inputs):
            after.add(operation)
        elif operation.type in ("Conv2D", "DepthwiseConv2dNative"):
            inputs.insert(0, _before_padding(operation.inputs[0]))
            after.add(operation)
    rows = [each for each in (*reversed(dense), *reversed(pooled)) if each.op in after]
    first, last = (
        list(dict.fromkeys(f"{each.name} {each.shape}" for each in some)) for some in (inputs, rows)
    )
    return first, last


def _before_padding(tensor: Any) -> Any:
    """Return what is padded to `tensor`: its size is that of the photos."""
    while tensor.op.type in ("MirrorPad", "Pad", "PadV2"):
        tensor = tensor.op.inputs[0]
    return tensor
