"""Each TFLite operator as the TensorFlow call that computes the same on real numbers.

Source of what each computes: tensorflow/lite/schema/schema.fbs and the reference kernels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from deploy.errors import BadData
from retrain import tf_graph
from retrain.tflite.network_file import Tensor

_CLAMPS = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL"))
_PADDING = ("SAME", "VALID")


class Call(NamedTuple):
    """An operator at work: its options, what it is given, and the output as the file has it."""

    options: Any
    inputs: list[Any]
    output: Tensor


def activated(kind: str, call: Call, result: Any) -> Any:
    """Return `result` of an operator after what is fused into it, or implied by its output.

    Converters leave a Relu out where quantized values cannot be negative anyway.
    """
    tf, output = tf_graph.tensorflow(), call.output
    fused = getattr(call.options, "fusedActivationFunction", 0)
    positive = output.scale.size == 1 and output.zero_point[0] == output.lowest
    if fused == 0 and kind in _CLAMPS and positive:
        step = output.scale[0]
        fused = 3 if abs(255 * step - 6) <= step else 1
    activations = {1: tf.nn.relu, 2: _clipped, 3: tf.nn.relu6, 4: tf.tanh}
    if fused and fused not in activations:
        raise BadData(f"operator {kind} has an activation that is not known: {fused}")
    return activations[fused](result) if fused else result


def _clipped(x: Any) -> Any:
    return tf_graph.tensorflow().clip_by_value(x, -1.0, 1.0)


def _convolution(call: Call) -> Any:
    tf, o = tf_graph.tensorflow(), call.options
    x, kernel, *_ = call.inputs
    kernel = tf.transpose(kernel, [1, 2, 3, 0])
    strides, dilations = (o.strideH, o.strideW), (o.dilationHFactor, o.dilationWFactor)
    return _biased(call, tf.nn.conv2d(x, kernel, strides, _PADDING[o.padding], dilations=dilations))


def _depthwise(call: Call) -> Any:
    tf, o = tf_graph.tensorflow(), call.options
    x, kernel, *_ = call.inputs
    if (o.dilationHFactor, o.dilationWFactor) != (1, 1):
        raise BadData(f"tensor {call.output.name}: a dilated DEPTHWISE_CONV_2D is not translated")
    kernel = tf.reshape(kernel, [*kernel.shape[1:3], x.shape[3], -1])
    strides = [1, o.strideH, o.strideW, 1]
    return _biased(call, tf.nn.depthwise_conv2d(x, kernel, strides, _PADDING[o.padding]))


def _dense(call: Call) -> Any:
    tf = tf_graph.tensorflow()
    x, kernel, *_ = call.inputs
    if x.shape.rank != 2:
        x = tf.reshape(x, [-1, kernel.shape[1]])
    product = _biased(call, tf.matmul(x, kernel, transpose_b=True))
    return tf.reshape(product, call.output.shape) if call.options.keepNumDims else product


def _biased(call: Call, product: Any) -> Any:
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    return product if bias is None else tf_graph.tensorflow().nn.bias_add(product, bias)


def _pool(name: str) -> Callable[[Call], Any]:
    def translate(call: Call) -> Any:
        o = call.options
        size, strides = (o.filterHeight, o.filterWidth), (o.strideH, o.strideW)
        pool = getattr(tf_graph.tensorflow().nn, name)
        return pool(*call.inputs, size, strides, _PADDING[o.padding])

    return translate


def _resize(name: str) -> Callable[[Call], Any]:
    def translate(call: Call) -> Any:
        o = call.options
        return getattr(tf_graph.tensorflow().raw_ops, name)(
            images=call.inputs[0],
            size=call.inputs[1],
            align_corners=o.alignCorners,
            half_pixel_centers=o.halfPixelCenters,
        )

    return translate


def _sliced(call: Call) -> Any:
    o = call.options
    if o.ellipsisMask or o.newAxisMask or o.offset:
        raise BadData(f"tensor {call.output.name}: such a STRIDED_SLICE is not translated")
    return tf_graph.tensorflow().strided_slice(
        *call.inputs,
        begin_mask=o.beginMask,
        end_mask=o.endMask,
        shrink_axis_mask=o.shrinkAxisMask,
    )


def _to(name: str) -> Callable[[Call], Any]:
    """Return what applies TensorFlow's function `name` to the inputs as they are."""

    def translate(call: Call) -> Any:
        function: Any = tf_graph.tensorflow()
        for part in name.split("."):
            function = getattr(function, part)
        return function(*call.inputs)

    return translate


def _reduce(name: str) -> Callable[[Call], Any]:
    return lambda call: getattr(tf_graph.tensorflow(), name)(*call.inputs, call.options.keepDims)


def _numbers(call: Call) -> Any:
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
    lambda call: tf_graph.tensorflow().reshape(call.inputs[0], call.output.shape),
)
OPERATORS: dict[str, Callable[[Call], Any]] = {
    **RESHAPES,
    # Of real numbers, all three are nothing.
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE", "CAST"), _numbers),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pool("avg_pool2d"),
    "MAX_POOL_2D": _pool("max_pool2d"),
    "MEAN": _reduce("reduce_mean"),
    "SUM": _reduce("reduce_sum"),
    "REDUCE_MAX": _reduce("reduce_max"),
    "REDUCE_MIN": _reduce("reduce_min"),
    "PAD": _to("pad"),
    "PADV2": lambda call: tf_graph.tensorflow().pad(*call.inputs[:2], "CONSTANT", call.inputs[2]),
    "MIRROR_PAD": lambda call: tf_graph.tensorflow().pad(
        *call.inputs, ("REFLECT", "SYMMETRIC")[call.options.mode]
    ),
    "CONCATENATION": lambda call: tf_graph.tensorflow().concat(call.inputs, call.options.axis),
    "SPLIT": lambda call: tf_graph.tensorflow().split(
        call.inputs[1], call.options.numSplits, call.inputs[0]
    ),
    "TRANSPOSE": _to("transpose"),
    "SLICE": _to("slice"),
    "STRIDED_SLICE": _sliced,
    "RESIZE_BILINEAR": _resize("ResizeBilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("ResizeNearestNeighbor"),
    "ADD": _to("add"),
    "SUB": _to("subtract"),
    "MUL": _to("multiply"),
    "DIV": _to("divide"),
    "POW": _to("pow"),
    "MAXIMUM": _to("maximum"),
    "MINIMUM": _to("minimum"),
    "SQUARED_DIFFERENCE": _to("math.squared_difference"),
    "ABS": _to("abs"),
    "EXP": _to("exp"),
    "LOG": _to("math.log"),
    "NEG": _to("negative"),
    "SQRT": _to("sqrt"),
    "RSQRT": _to("math.rsqrt"),
    "SQUARE": _to("square"),
    "RELU": _to("nn.relu"),
    "RELU6": _to("nn.relu6"),
    "RELU_N1_TO_1": lambda call: _clipped(*call.inputs),
    "LEAKY_RELU": lambda call: tf_graph.tensorflow().nn.leaky_relu(
        *call.inputs, call.options.alpha
    ),
    "PRELU": _prelu,
    "ELU": _to("nn.elu"),
    "HARD_SWISH": _hard_swish,
    "LOGISTIC": _to("sigmoid"),
    "TANH": _to("tanh"),
    "SOFTMAX": lambda call: tf_graph.tensorflow().nn.softmax(call.inputs[0] * call.options.beta),
    "L2_NORMALIZATION": lambda call: tf_graph.tensorflow().nn.l2_normalize(*call.inputs, -1),
}
