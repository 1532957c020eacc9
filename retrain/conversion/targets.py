"""Where a .tflite file may have to run, and whether its operations are to be had there."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from deploy.errors import BadData
from retrain.tflite.model import WITH_WEIGHTS, Operator, Tensor, operators
from retrain.tflite.target_op_versions import LITERT_2_3, OLDEST, TFLITE_RUNTIME_2_14


@dataclass(frozen=True)
class Target:
    """A runtime or a chip, by what its makers say of it.

    `name` is for people, `reasons` says why it cannot run an operation, `remedy` what to do then.
    With `per_tensor_dense` it lacks only what the converter makes of dense layers with one scale
    per channel: a model with one scale per dense layer may pass.
    """

    name: str
    reasons: Callable[[Operator], Iterable[str]]
    remedy: str
    per_tensor_dense: bool = False


def check(flatbuffer: bytes, target: Target) -> list[str]:
    """Return why `target` cannot run this model: a line a reason, with operations; [] is a pass.

    Raises BadData for damaged bytes. Versions in a file can lie: goldens on the target cannot.
    """
    by_reason: dict[str, list[str]] = {}
    for operator in operators(flatbuffer):
        for reason in target.reasons(operator):
            by_reason.setdefault(reason, []).append(f"{operator.name} version {operator.version}")
    return [f"{', '.join(dict.fromkeys(of))}: {reason}" for reason, of in by_reason.items()]


def require(flatbuffer: bytes, target: Target) -> None:
    """Raise BadData with every reason and the remedy when `target` cannot run this model."""
    reasons = check(flatbuffer, target)
    if reasons:
        said = "; ".join(reasons)
        raise BadData(f"{target.name} does not run this model: {said}. Remedy: {target.remedy}")


def _runtime(newest: Mapping[str, int], operator: Operator) -> list[str]:
    if operator.custom:
        return ["a custom operation, and only built-in ones are sure to be there"]
    if operator.name not in newest:
        return ["it does not have this operation"]
    oldest, latest = OLDEST.get(operator.name, 1), newest[operator.name]
    if oldest <= operator.version <= latest:
        return []
    return [f"it has version {oldest}" + (f" to {latest}" if latest > oldest else "")]


# Table 1 of https://coral.ai/docs/edgetpu/models-intro/#supported-operations, for runtime 14.
_EDGETPU = str.split(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
    L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE
    REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE
    STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
    """
)
_UNFUSED = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D")
_VECTORS = ("FULLY_CONNECTED", "SOFTMAX")
_SOFTMAX_SIZE = 16_000


def _edgetpu(operator: Operator) -> Iterable[str]:
    """Say what the table and the page's model requirements rule out, as far as a file tells.

    Only the compiler sees the rest: dilations, and axes, strides and zeros in constant inputs.
    """
    name, tensors = operator.name, operator.inputs + operator.outputs
    values = [tensor for tensor in tensors if not tensor.constant]
    if operator.custom or name not in _EDGETPU:
        yield "it is not among the operations of the Edge TPU"
        return
    kinds = sorted({tensor.type for tensor in tensors if not _eight_bits(tensor)})
    if kinds:
        yield f"a tensor is {', '.join(kinds)}, and all must be quantized INT8 or UINT8"
        return
    if any(size < 0 for tensor in tensors for size in tensor.shape):
        yield "a tensor's size is open, and all must be fixed"
    if any(size > 1 for tensor in values for size in tensor.shape[:-3]):
        yield "only the three innermost dimensions may be above 1: the batch must be 1"
    if name in WITH_WEIGHTS and not all(tensor.constant for tensor in operator.inputs[1:]):
        yield "its weights must be constant"
    if name in _UNFUSED and operator.activation != "NONE":
        yield f"{operator.activation} is fused into it, and nothing may be"
    if name in _VECTORS and any(size > 1 for size in operator.outputs[0].shape[:-1]):
        yield "its output must have one dimension: the batch must be 1"
    if name == "SOFTMAX" and operator.outputs[0].shape[-1:] > (_SOFTMAX_SIZE,):
        yield f"it takes at most {_SOFTMAX_SIZE:,} values"


def _eight_bits(tensor: Tensor) -> bool:
    """Tell whether the Edge TPU takes this type; INT32 is for constant biases, axes and sizes."""
    if tensor.type == "INT32":
        return tensor.constant
    return tensor.type in ("INT8", "UINT8") and tensor.quantized


_OTHERWISE = "another --quantize, or another --target"
TARGETS = {
    "litert": Target("LiteRT 2.3", partial(_runtime, LITERT_2_3), _OTHERWISE),
    "tflite-runtime==2.14": Target(
        "tflite-runtime 2.14", partial(_runtime, TFLITE_RUNTIME_2_14), _OTHERWISE, True
    ),
    "edgetpu": Target(
        "the Edge TPU",
        _edgetpu,
        "--quantize int8-edgetpu, or another --target; if that does not help, another architecture",
    ),
}
