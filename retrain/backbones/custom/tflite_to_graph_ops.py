"""Translate each TFLite operator to the TensorFlow call that computes the same on real numbers.

Source: tensorflow/lite/schema/schema.fbs and the reference kernels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from deploy.errors import BadData
from retrain import tf_graph
from retrain.tflite.model import Operator, Tensor

_WITH_IMPLIED_RELU = frozenset(
    ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL")
)
_PADDING = ("SAME", "VALID")


class Call(NamedTuple):
    """An operator, its inputs as TensorFlow's tensors, and its output as the file has it."""

    operator: Operator
    inputs: list[Any]
    output: Tensor

    @property
    def options(self) -> Any:
        """The schema's reader of the operator's options."""
        return self.operator.options


def translate(call: Call) -> Any:
    """Return the result of an operator, with its activation: a tensor, or a list of them.

    The activation is fused into the operator, or implied by its output: converters leave a Relu out
    where quantized values cannot be negative anyway. Raises KeyError for an operator that is not in
    OPERATORS, BadData for an activation that is not translated.
    """
    tf, output, operator = tf_graph.tensorflow(), call.output, call.operator
    result = OPERATORS[operator.name](call)
    activation = operator.activation
    zero_point = output.zero_points[0] if output.zero_points else 0
    positive = len(output.scales) == 1 and zero_point == output.lowest
    if activation == "NONE" and operator.name in _WITH_IMPLIED_RELU and positive:
        (step,) = output.scales
        activation = "RELU6" if abs(255 * step - 6) <= step else "RELU"
    if activation == "NONE":
        return result
    functions = {
        "RELU": tf.nn.relu,
        "RELU_N1_TO_1": _clip_to_1,
        "RELU6": tf.nn.relu6,
        "TANH": tf.tanh,
    }
    if activation not in functions:
        raise BadData(f"operator {operator.name} has an unknown activation: {activation}")
    return functions[activation](result)


def _clip_to_1(x: Any) -> Any:
    return tf_graph.tensorflow().clip_by_value(x, -1.0, 1.0)


def _convolution(call: Call) -> Any:
    tf, o = tf_graph.tensorflow(), call.options
    x, kernel, *_ = call.inputs
    kernel = tf.transpose(kernel, [1, 2, 3, 0])
    strides, dilations = (o.StrideH(), o.StrideW()), (o.DilationHFactor(), o.DilationWFactor())
    padding = _PADDING[o.Padding()]
    return _add_bias(call, tf.nn.conv2d(x, kernel, strides, padding, dilations=dilations))


def _depthwise_convolution(call: Call) -> Any:
    tf, o = tf_graph.tensorflow(), call.options
    x, kernel, *_ = call.inputs
    if (o.DilationHFactor(), o.DilationWFactor()) != (1, 1):
        raise BadData(f"tensor {call.output.name}: a dilated DEPTHWISE_CONV_2D is not translated")
    kernel = tf.reshape(kernel, [*kernel.shape[1:3], x.shape[3], -1])
    strides = [1, o.StrideH(), o.StrideW(), 1]
    return _add_bias(call, tf.nn.depthwise_conv2d(x, kernel, strides, _PADDING[o.Padding()]))


def _dense(call: Call) -> Any:
    tf = tf_graph.tensorflow()
    x, kernel, *_ = call.inputs
    if x.shape.rank != 2:
        x = tf.reshape(x, [-1, kernel.shape[1]])
    product = _add_bias(call, tf.matmul(x, kernel, transpose_b=True))
    return tf.reshape(product, call.output.default_shape) if call.options.KeepNumDims() else product


def _add_bias(call: Call, product: Any) -> Any:
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    return product if bias is None else tf_graph.tensorflow().nn.bias_add(product, bias)


def _pool(name: str) -> Callable[[Call], Any]:
    def pool(call: Call) -> Any:
        o = call.options
        size, strides = (o.FilterHeight(), o.FilterWidth()), (o.StrideH(), o.StrideW())
        function = getattr(tf_graph.tensorflow().nn, name)
        return function(*call.inputs, size, strides, _PADDING[o.Padding()])

    return pool


def _resize(name: str) -> Callable[[Call], Any]:
    def resize(call: Call) -> Any:
        o = call.options
        return getattr(tf_graph.tensorflow().raw_ops, name)(
            images=call.inputs[0],
            size=call.inputs[1],
            align_corners=o.AlignCorners(),
            half_pixel_centers=o.HalfPixelCenters(),
        )

    return resize


def _strided_slice(call: Call) -> Any:
    o = call.options
    if o.EllipsisMask() or o.NewAxisMask() or o.Offset():
        raise BadData(f"tensor {call.output.name}: such a STRIDED_SLICE is not translated")
    return tf_graph.tensorflow().strided_slice(
        *call.inputs,
        begin_mask=o.BeginMask(),
        end_mask=o.EndMask(),
        shrink_axis_mask=o.ShrinkAxisMask(),
    )


def _apply(name: str) -> Callable[[Call], Any]:
    """Return a translation that applies TensorFlow's function `name` to the inputs."""

    def apply(call: Call) -> Any:
        function: Any = tf_graph.tensorflow()
        for attribute in name.split("."):
            function = getattr(function, attribute)
        return function(*call.inputs)

    return apply


def _reduce(name: str) -> Callable[[Call], Any]:
    return lambda call: getattr(tf_graph.tensorflow(), name)(*call.inputs, call.options.KeepDims())


def _to_float(call: Call) -> Any:
    return tf_graph.tensorflow().cast(call.inputs[0], "float32")


def _hard_swish(call: Call) -> Any:
    (x,) = call.inputs
    return x * tf_graph.tensorflow().nn.relu6(x + 3.0) * (1 / 6)


def _prelu(call: Call) -> Any:
    x, slope = call.inputs
    relu = tf_graph.tensorflow().nn.relu
    return relu(x) - slope * relu(-x)


RESHAPES: dict[str, Callable[[Call], Any]] = dict.fromkeys(
    ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"),
    lambda call: tf_graph.tensorflow().reshape(call.inputs[0], call.output.default_shape),
)
OPERATORS: dict[str, Callable[[Call], Any]] = {
    **RESHAPES,
    # On real numbers, all three change nothing.
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE", "CAST"), _to_float),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise_convolution,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pool("avg_pool2d"),
    "MAX_POOL_2D": _pool("max_pool2d"),
    "MEAN": _reduce("reduce_mean"),
    "SUM": _reduce("reduce_sum"),
    "REDUCE_MAX": _reduce("reduce_max"),
    "REDUCE_MIN": _reduce("reduce_min"),
    "PAD": _apply("pad"),
    "PADV2": lambda call: tf_graph.tensorflow().pad(*call.inputs[:2], "CONSTANT", call.inputs[2]),
    "MIRROR_PAD": lambda call: tf_graph.tensorflow().pad(
        *call.inputs, ("REFLECT", "SYMMETRIC")[call.options.Mode()]
    ),
    "CONCATENATION": lambda call: tf_graph.tensorflow().concat(call.inputs, call.options.Axis()),
    "SPLIT": lambda call: tf_graph.tensorflow().split(
        call.inputs[1], call.options.NumSplits(), call.inputs[0]
    ),
    "TRANSPOSE": _apply("transpose"),
    "SLICE": _apply("slice"),
    "STRIDED_SLICE": _strided_slice,
    "RESIZE_BILINEAR": _resize("ResizeBilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("ResizeNearestNeighbor"),
    "ADD": _apply("add"),
    "SUB": _apply("subtract"),
    "MUL": _apply("multiply"),
    "DIV": _apply("divide"),
    "POW": _apply("pow"),
    "MAXIMUM": _apply("maximum"),
    "MINIMUM": _apply("minimum"),
    "SQUARED_DIFFERENCE": _apply("math.squared_difference"),
    "ABS": _apply("abs"),
    "EXP": _apply("exp"),
    "LOG": _apply("math.log"),
    "NEG": _apply("negative"),
    "SQRT": _apply("sqrt"),
    "RSQRT": _apply("math.rsqrt"),
    "SQUARE": _apply("square"),
    "RELU": _apply("nn.relu"),
    "RELU6": _apply("nn.relu6"),
    "RELU_N1_TO_1": lambda call: _clip_to_1(*call.inputs),
    "LEAKY_RELU": lambda call: tf_graph.tensorflow().nn.leaky_relu(
        *call.inputs, call.options.Alpha()
    ),
    "PRELU": _prelu,
    "ELU": _apply("nn.elu"),
    "HARD_SWISH": _hard_swish,
    "LOGISTIC": _apply("sigmoid"),
    "TANH": _apply("tanh"),
    "SOFTMAX": lambda call: tf_graph.tensorflow().nn.softmax(call.inputs[0] * call.options.Beta()),
    "L2_NORMALIZATION": lambda call: tf_graph.tensorflow().nn.l2_normalize(*call.inputs, -1),
}
