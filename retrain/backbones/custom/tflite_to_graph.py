"""Translate a TFLite model to a TensorFlow graph of float32, up to its bottleneck.

Each operator becomes the TensorFlow call that computes the same on real numbers; quantized
constants become the numbers they stand for, and quantizing itself is left out.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.errors import BadData, WrongUse
from deploy.system.counts import with_noun
from deploy.untrusted_files import naming
from retrain import tf_graph
from retrain.backbones.custom.custom_network import CustomNetwork, Ends
from retrain.backbones.custom.tflite_to_graph_ops import OPERATORS, RESHAPES, Call, translate
from retrain.backbones.surgery.extract_backbone import find_cut
from retrain.backbones.surgery.photo_input import PhotoInput, Sides, input_of_tensor
from retrain.tflite.model import UNKNOWN, Operator, Subgraph, Tensor, read_model

_MAX_NUMBERS = 1 << 28
"""Numbers in one tensor for one photo: 1 GiB."""
_AFTER_DENSE = frozenset(
    ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE")
)
"""Operators that make scores of a dense layer's output, or only change its form."""
_SOFTMAX = frozenset(("SOFTMAX", "LOG_SOFTMAX"))
_ELEMENTWISE = frozenset(
    ("ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "LOG", "RELU", "RELU6")
)
"""Operators that make other scores of scores, besides those in _AFTER_DENSE."""


def read(path: Path, bottleneck: str | None, input_size: Sides | None) -> CustomNetwork:
    """Return the network in the .tflite file at `path`, for photos of `input_size`.

    It leads to the tensor `bottleneck`, else to the last dense layer's input, else to the output,
    except where that is computed from a dense layer's scores: then its bottleneck is not known.
    Mean and std are those of an 8-bit input; None for another. Raises BadData for a damaged file,
    and for an operator that is not translated, by its name.
    """
    try:
        with naming(path):
            graph = read_subgraph(path.read_bytes())
            photos, sides = _read_input(graph.inputs[0], input_size)
            graph_def, input_tensor, cut = _translate(graph, bottleneck, photos, sides)
            scale = _normalisation(graph.inputs[0])
            return CustomNetwork(graph_def, Ends(input_tensor, cut, sides, *scale))
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error


def read_subgraph(content: bytes) -> Subgraph:
    """Return the graph of a .tflite file; raise BadData unless it is one of dense tensors."""
    model = read_model(content)
    if len(model.subgraphs) != 1:
        raise BadData(f"{len(model.subgraphs)} graphs in it instead of one")
    (graph,) = model.subgraphs
    if len(graph.input_indices) != 1 or not graph.output_indices:
        raise BadData(
            f"it has {with_noun(len(graph.input_indices), 'input')} and "
            f"{with_noun(len(graph.output_indices), 'output')} instead of one"
        )
    for tensor in graph.tensors:
        shape = tensor.default_shape
        if tensor.sparse:
            raise BadData(f"tensor {tensor.name} is sparse, which is not taken")
        if tensor.type.startswith(UNKNOWN):
            raise BadData(f"tensor {tensor.name} is of an unknown type: {tensor.type}")
        if not all(0 < scale < math.inf for scale in tensor.scales):
            raise BadData(f"tensor {tensor.name} has a scale that is no positive number")
        if min(shape, default=1) < 0 or len(tensor.shape) != len(shape):
            raise BadData(f"tensor {tensor.name} has the shape {shape}")
    if any(-1 in operator.output_indices for operator in graph.operators):
        raise BadData("damaged: an operator has an output that is not there")
    return graph


def _read_input(tensor: Tensor, input_size: Sides | None) -> tuple[PhotoInput, Sides]:
    """Return which photos the input takes, and their height and width."""
    shape = [
        default if side >= 0 else None
        for side, default in zip(tensor.shape, tensor.default_shape, strict=True)
    ]
    # An input of int8 takes a byte less 128.
    dtype = "uint8" if tensor.lowest is not None else tensor.type.lower()
    photos = input_of_tensor(_graph_name(tensor), shape, dtype)
    if photos.channels is None:
        raise BadData(
            f"its input {_graph_name(tensor)} has an open number of channels: 3 (RGB) or 1 (grey) "
            "must be in the file"
        )
    sides = photos.sides(input_size)
    if sides is None:
        raise WrongUse("`input_size` must be given: it takes photos of any size")
    return photos, sides


def _normalisation(tensor: Tensor) -> tuple[float | None, float | None]:
    """Return mean and std of an input that takes a pixel's byte, or that less 128, as it is."""
    if tensor.lowest is None:
        return None, None
    if not tensor.scales:
        return 0.0 - tensor.lowest, 1.0
    zero_point = tensor.zero_points[0] if tensor.zero_points else 0
    mean = zero_point - tensor.lowest
    if len(tensor.scales) > 1 or not 0 <= mean <= 255:
        raise BadData(f"its input has the zero point {zero_point}")
    # The scale is a float32: 1 / 127.5 comes out as 127.49999.
    return float(mean), float(f"{1 / tensor.scales[0]:.6g}")


def _translate(
    graph: Subgraph, bottleneck: str | None, photos: PhotoInput, sides: Sides
) -> tuple[Any, str, str | None]:
    """Return the GraphDef, its input tensor, and its bottleneck, None if no tensor has the name."""
    tf = tf_graph.tensorflow()
    (photo_index,) = graph.input_indices
    end = _index_of(graph, bottleneck) if bottleneck else find_bottleneck(graph)
    names = _short_names(graph)
    if bottleneck and end is not None:
        names[end] = bottleneck.removesuffix(":0")
    with tf.Graph().as_default() as translated:
        shape = [photos.batch, *sides, photos.channels]
        name = _graph_name(graph.tensors[photo_index])
        tensors = {photo_index: tf.compat.v1.placeholder(tf.float32, shape, name)}
        for operator in _needed(graph, graph.output_indices if end is None else (end,)):
            try:
                _add(operator, graph.tensors, names, tensors)
            except BadData:
                raise
            except Exception as error:  # TensorFlow's many kinds, for numbers that do not fit
                raise BadData(
                    f"damaged: its {operator.name}, tensor {_output_name(operator)}, cannot be "
                    f"computed ({error})"
                ) from error
    if end is not None and end not in tensors:
        raise BadData("damaged: nothing computes its bottleneck")
    reached = None if end is None else tensors[end].name
    return tf_graph.definition(translated), tensors[photo_index].name, reached


def _add(
    operator: Operator,
    constants: tuple[Tensor, ...],
    names: Mapping[int, str],
    tensors: dict[int, Any],
) -> None:
    """Add `operator` to the current graph, and its results to `tensors`, by index."""
    tf = tf_graph.tensorflow()
    if operator.name not in OPERATORS:
        raise BadData(
            f"operator {operator.name}, tensor {_output_name(operator)}, is not one that is "
            "translated: name a `bottleneck_tensor` before it, or pass what the file was made "
            "from: a frozen graph (.pb), a .keras file or a SavedModel folder"
        )
    with tf.compat.v1.name_scope(names[operator.output_indices[0]]) as scope:
        inputs = [_input(index, constants, tensors) for index in _data_inputs(operator)]
        result = translate(Call(operator, inputs, operator.outputs[0]))
        results = result if isinstance(result, list) else [result]
        for index, tensor in zip(operator.output_indices, results, strict=True):
            sides = tensor.shape.as_list()
            if not all(sides) or math.prod(sides) > _MAX_NUMBERS:
                raise BadData(f"damaged: tensor {constants[index].name} has the shape {sides}")
            tensors[index] = tf.identity(tensor, scope if len(results) == 1 else "part")


def _input(index: int, constants: tuple[Tensor, ...], tensors: dict[int, Any]) -> Any:
    if index < 0:
        return None
    if index in tensors:
        return tensors[index]
    return tf_graph.tensorflow().constant(constants[index].value())


def _data_inputs(operator: Operator) -> tuple[int, ...]:
    """Return the inputs that are read: a new shape is taken from the output's."""
    indices = operator.input_indices
    return indices[:1] if operator.name in RESHAPES else indices


def _needed(graph: Subgraph, ends: tuple[int, ...]) -> list[Operator]:
    """Return the operators that `ends` are computed by, in the order of running."""
    needed: set[int] = {*ends}
    operators = []
    for operator in reversed(graph.operators):
        outputs = operator.output_indices
        if not needed.isdisjoint(outputs) and graph.input_indices[0] not in outputs:
            operators.append(operator)
            needed.update(_data_inputs(operator))
    return operators[::-1]


def _index_of(graph: Subgraph, name: str) -> int | None:
    """Return the index of the tensor that is computed and has this name, whole or short."""
    short_names = _short_names(graph)
    whole_names = {index: _graph_name(graph.tensors[index]) for index in short_names}
    for names in (whole_names, short_names):
        for index, name_of_tensor in names.items():
            if name_of_tensor == name.removesuffix(":0"):
                return index
    return None


def _short_names(graph: Subgraph) -> dict[int, str]:
    """Return a name of each tensor that is computed, by index.

    A converter that makes one operator of several operations joins their names:
    `model/relu/Relu;model/norm/add_1;model/conv/Conv2D`, often of ten and more. The first stands
    for all, unless another tensor that depends on the photo has the same.
    """
    from_photo = {*graph.input_indices}
    names: dict[int, str] = {}
    for operator in graph.operators:
        names.update(
            (index, _graph_name(graph.tensors[index])) for index in operator.output_indices
        )
        if not from_photo.isdisjoint(operator.input_indices):
            from_photo.update(operator.output_indices)
    firsts = {index: _allowed(graph.tensors[index].name.partition(";")[0]) for index in from_photo}
    counts = Counter(firsts.values())
    return names | {index: first for index, first in firsts.items() if counts[first] == 1}


def find_bottleneck(graph: Subgraph) -> int | None:
    """Return the index of the last dense layer's input if only scores come after that layer.

    Else that of the output, None if there are several outputs, or if the output is computed from a
    dense layer's scores: they are no features of a photo.
    """
    if len(graph.output_indices) > 1:
        return None
    by_output = {
        index: operator
        for operator in graph.operators
        for index in operator.output_indices
        if operator.input_indices
    }

    def dense_input(output: int) -> int | None:
        operator = by_output.get(output)
        return operator.input_indices[0] if operator and _is_dense(operator, graph) else None

    def scores_input(output: int) -> int | None:
        operator = by_output.get(output)
        return operator.input_indices[0] if operator and operator.name in _AFTER_DENSE else None

    def has_scores_before(output: int) -> bool:
        """Return whether `output` is computed, element by element, from a dense layer's scores.

        A sigmoid whose output meets another computed tensor on the way is a gate, not a score.
        """
        pending, passed = [(output, True)], {output}
        while pending:
            index, is_only_input = pending.pop()
            operator = by_output.get(index)
            if operator is None or operator.name not in _ELEMENTWISE | _AFTER_DENSE:
                continue
            is_score = operator.name in _SOFTMAX or (operator.name == "LOGISTIC" and is_only_input)
            if is_score and find_cut(index, dense_input, scores_input) != index:
                return True
            inputs = by_output.keys() & _data_inputs(operator)
            is_only_input = is_only_input and len(inputs) == 1
            pending += [(i, is_only_input) for i in sorted(inputs - passed)]
            passed |= inputs
        return False

    cut = find_cut(graph.output_indices[0], dense_input, scores_input)
    if cut == graph.output_indices[0] and has_scores_before(cut):
        return None
    return cut


def _is_dense(operator: Operator, graph: Subgraph) -> bool:
    """Return whether it is a dense layer, which may be a convolution of a single place."""
    if operator.activation != "NONE":
        return False
    if operator.name == "CONV_2D":
        indices = (*operator.input_indices[:2], operator.output_indices[0])
        places = (graph.tensors[index].default_shape[1:3] for index in indices)
        return all(place == (1, 1) for place in places)
    return operator.name == "FULLY_CONNECTED"


def _graph_name(tensor: Tensor) -> str:
    """Return the tensor's name in the characters that TensorFlow allows."""
    return _allowed(tensor.name)


def _allowed(name: str) -> str:
    allowed = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name.removesuffix(":0"))
    return allowed.strip("/").lstrip("_\\>-/") or "tensor"


def _output_name(operator: Operator) -> str:
    return _graph_name(operator.outputs[0]) if operator.outputs else "of no name"
