"""A TFLite model as a TensorFlow graph of float32, up to its bottleneck.

Each operator becomes the TensorFlow call that computes the same on real numbers; quantized
constants become the numbers they stand for, and quantizing itself is left out.
"""

import math
import re
from pathlib import Path
from typing import Any

from deploy.errors import BadData, WrongUse
from retrain import tf_graph
from retrain.backbones.custom.input_spec import PhotoInput, Sides, of_tensor
from retrain.backbones.custom.tflite_to_graph_ops import OPERATORS, RESHAPES, Call, activated
from retrain.backbones.surgery import cut
from retrain.tflite.network_file import LiteModel, Operator, Tensor, parse

_MOST = 1 << 28
"""Numbers in one tensor for one photo: 1 GiB."""
_AFTER_DENSE = frozenset(
    ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE")
)


def read(
    path: Path, bottleneck: str | None, size: Sides | None
) -> tuple[Any, str, str | None, Sides, float | None, float | None]:
    """Return the .tflite file at `path` as a GraphDef, and its ends, sides, mean and std.

    It leads to the tensor `bottleneck`, else to what feeds the last dense layer, else to the
    output. Mean and std are of 0..255, those of an 8-bit input; None for another. Raises BadData
    for a damaged file, and for an operator that is not translated, by its name.
    """
    try:
        model = parse(path.read_bytes())
        fed = model.tensors[model.input]
        photos, sides = _photos(fed, size)
        translated = _translated(model, bottleneck, photos, sides)
        return (*translated, sides, *_normalisation(fed))
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    except (BadData, WrongUse) as error:
        raise type(error)(f"{path}: {error}") from error


def _photos(fed: Tensor, size: Sides | None) -> tuple[PhotoInput, Sides]:
    """Return what the input takes, and its height and width."""
    free = (side if fixed else None for side, fixed in zip(fed.shape, fed.fixed, strict=True))
    # An input of int8 takes a byte less 128.
    dtype = "uint8" if fed.lowest is not None else fed.dtype.lower()
    photos = of_tensor(_name(fed), list(free), dtype)
    if photos.channels is None:
        raise BadData(f"its input {_name(fed)} does not tell its channels: 3 (RGB) or 1 (grey)")
    sides = photos.sides(size)
    if sides is None:
        raise WrongUse("--input-size must be given: it takes photos of any size")
    return photos, sides


def _normalisation(fed: Tensor) -> tuple[float | None, float | None]:
    """Return mean and std of an input that takes a pixel's byte, or that less 128, as it is."""
    if fed.lowest is None:
        return None, None
    if not fed.scale.size:
        return 0.0 - fed.lowest, 1.0
    mean = int(fed.zero_point[0]) - fed.lowest
    if fed.scale.size > 1 or not 0 <= mean <= 255:
        raise BadData(f"its input has the zero point {fed.zero_point[0]}")
    # The scale is a float32: 1 / 127.5 comes out as 127.49999.
    return float(mean), float(f"{1 / fed.scale[0]:.6g}")


def _translated(
    model: LiteModel, bottleneck: str | None, photos: PhotoInput, sides: Sides
) -> tuple[Any, str, str | None]:
    """Return the GraphDef and its ends."""
    tf = tf_graph.tensorflow()
    tensors = model.tensors
    end = _named(model, bottleneck) if bottleneck else before_dense(model)
    with tf.Graph().as_default() as made:
        name = _name(tensors[model.input])
        shape = [photos.batch, *sides, photos.channels]
        known = {model.input: tf.compat.v1.placeholder(tf.float32, shape, name)}
        for operator in _leading_to(model, model.outputs if end is None else (end,)):
            try:
                _run(operator, tensors, known)
            except BadData:
                raise
            except Exception as error:  # TensorFlow's many kinds, for numbers that do not fit
                raise BadData(
                    f"damaged: its {operator.kind}, tensor {_output_name(operator, tensors)}, "
                    f"cannot be computed ({error})"
                ) from error
    if end is not None and end not in known:
        raise BadData("damaged: nothing computes its bottleneck")
    reached = None if end is None else known[end].name
    return made.as_graph_def(), known[model.input].name, reached


def _run(operator: Operator, tensors: list[Tensor], known: dict[int, Any]) -> None:
    """Add `operator` to the graph that is being made, and what it computes to `known`."""
    tf = tf_graph.tensorflow()
    translate = OPERATORS.get(operator.kind)
    if translate is None:
        raise BadData(
            f"operator {operator.kind}, tensor {_output_name(operator, tensors)}, is not one that "
            "is translated: name a --bottleneck-tensor before it, or pass what the file was made "
            "from: a frozen graph (.pb), a .keras file or a SavedModel folder"
        )
    output = tensors[operator.outputs[0]]
    with tf.compat.v1.name_scope(_name(output)) as scope:
        inputs = [_input(each, tensors, known) for each in _data(operator)]
        call = Call(operator.options, inputs, output)
        result = activated(operator.kind, call, translate(call))
        several = result if isinstance(result, list) else [result]
        for index, each in zip(operator.outputs, several, strict=True):
            sides = each.shape.as_list()
            if not all(sides) or math.prod(sides) > _MOST:
                raise BadData(f"damaged: tensor {tensors[index].name} has the shape {sides}")
            known[index] = tf.identity(each, scope if len(several) == 1 else "part")


def _input(index: int, tensors: list[Tensor], known: dict[int, Any]) -> Any:
    if index < 0:
        return None
    if index in known:
        return known[index]
    return tf_graph.tensorflow().constant(tensors[index].value())


def _data(operator: Operator) -> tuple[int, ...]:
    """Return the inputs that count: a new shape is that of the output, however it was found."""
    return operator.inputs[:1] if operator.kind in RESHAPES else operator.inputs


def _leading_to(model: LiteModel, ends: tuple[int, ...]) -> list[Operator]:
    """Return the operators that `ends` hang on, in the order of running."""
    wanted: set[int] = {*ends}
    found = []
    for operator in reversed(model.operators):
        if not wanted.isdisjoint(operator.outputs) and model.input not in operator.outputs:
            found.append(operator)
            wanted.update(_data(operator))
    return found[::-1]


def _named(model: LiteModel, name: str) -> int | None:
    names = [_name(each) for each in model.tensors]
    wanted = name.removesuffix(":0")
    return names.index(wanted) if wanted in names else None


def before_dense(model: LiteModel) -> int | None:
    """Return what feeds the last dense layer if only scores come after it, else the output.

    None if there are several outputs.
    """
    if len(model.outputs) > 1:
        return None
    made_by = {output: each for each in model.operators for output in each.outputs if each.inputs}

    def dense(end: int) -> int | None:
        operator = made_by.get(end)
        return operator.inputs[0] if operator and _is_dense(operator, model.tensors) else None

    def scores(end: int) -> int | None:
        operator = made_by.get(end)
        return operator.inputs[0] if operator and operator.kind in _AFTER_DENSE else None

    return cut.before_dense(model.outputs[0], dense, scores)


def _is_dense(operator: Operator, tensors: list[Tensor]) -> bool:
    """Return whether it is a dense layer, which may be a convolution of a single place."""
    if getattr(operator.options, "fusedActivationFunction", 0):
        return False
    if operator.kind == "CONV_2D":
        places = (tensors[i].shape[1:3] for i in (*operator.inputs[:2], operator.outputs[0]))
        return all(each == (1, 1) for each in places)
    return operator.kind == "FULLY_CONNECTED"


def _name(tensor: Tensor) -> str:
    """Return the tensor's name as TensorFlow takes it."""
    allowed = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", tensor.name.removesuffix(":0"))
    return allowed.strip("/").lstrip("_\\>-/") or "tensor"


def _output_name(operator: Operator, tensors: list[Tensor]) -> str:
    return _name(tensors[operator.outputs[0]]) if operator.outputs else "of no name"
