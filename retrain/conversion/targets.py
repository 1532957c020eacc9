"""Check whether a runtime or a chip has the operations of a .tflite file."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from deploy.errors import BadData
from retrain.settings.conversion import list_recipes
from retrain.tflite.model import WITH_WEIGHTS, Operator, Tensor, operators
from retrain.tflite.target_op_versions import LITERT_2_3, OLDEST, TFLITE_RUNTIME_2_14


@dataclass(frozen=True)
class Target:
    """A runtime or a chip, as its makers describe it.

    `name` is shown in messages; `reasons` returns why it cannot run an operation; `remedy` is what
    the user can do then. With `per_tensor_dense` it may run a model whose dense layers have one
    scale each, if it cannot run one whose dense layers have a scale for each channel.
    """

    name: str
    reasons: Callable[[Operator], Iterable[str]]
    remedy: str
    per_tensor_dense: bool = False


def check(flatbuffer: bytes, target: Target) -> list[str]:
    """Return why `target` cannot run this model: a line for each reason; [] is a pass.

    Raises BadData for damaged bytes. The versions in a file may be wrong: only goldens that run on
    the target prove that it runs the model.
    """
    by_reason: dict[str, list[str]] = {}
    for operator in operators(flatbuffer):
        for reason in target.reasons(operator):
            by_reason.setdefault(reason, []).append(f"{operator.name} version {operator.version}")
    return [
        f"{', '.join(dict.fromkeys(operations))}: {reason}"
        for reason, operations in by_reason.items()
    ]


def require(flatbuffer: bytes, target: Target) -> None:
    """Raise BadData with every reason and the remedy when `target` cannot run this model."""
    reasons = check(flatbuffer, target)
    if reasons:
        raise BadData(
            f"{target.name} does not run this model: {'; '.join(reasons)}. Remedy: {target.remedy}"
        )


def _reasons_of_runtime(newest: Mapping[str, int], operator: Operator) -> list[str]:
    """Return why a runtime with `newest`, the newest version by name, cannot run an operation."""
    if operator.custom:
        return ["a custom operation, and only built-in ones are sure to exist"]
    if operator.name not in newest:
        return ["it does not have this operation"]
    oldest, latest = OLDEST.get(operator.name, 1), newest[operator.name]
    if oldest <= operator.version <= latest:
        return []
    return [f"it has version {oldest}" + (f" to {latest}" if latest > oldest else "")]


# Table 1 of https://coral.ai/docs/edgetpu/models-intro/#supported-operations, for runtime 14.
_EDGETPU_OPERATIONS = str.split(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
    L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE
    REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE
    STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
    """
)
_WITHOUT_FUSED_ACTIVATION = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D")
_WITH_VECTOR_OUTPUT = ("FULLY_CONNECTED", "SOFTMAX")
_MAX_SOFTMAX_SIZE = 16_000


def _reasons_of_edgetpu(operator: Operator) -> Iterable[str]:
    """Yield what the table and the page's model requirements exclude, as far as a file shows it.

    Only the compiler checks the rest: dilations, and axes, strides and zeros in constant inputs.
    """
    name, tensors = operator.name, operator.inputs + operator.outputs
    computed = [tensor for tensor in tensors if not tensor.constant]
    if operator.custom or name not in _EDGETPU_OPERATIONS:
        yield "it is not among the operations of the Edge TPU"
        return
    types = sorted({tensor.type for tensor in tensors if not _is_8_bit(tensor)})
    if types:
        yield f"a tensor is {', '.join(types)}, and all must be quantized INT8 or UINT8"
        return
    if any(size < 0 for tensor in tensors for size in tensor.shape):
        yield "a tensor's size is open, and all must be fixed"
    if any(size > 1 for tensor in computed for size in tensor.shape[:-3]):
        yield "only the three innermost dimensions may be above 1: the batch must be 1"
    if name in WITH_WEIGHTS and not all(tensor.constant for tensor in operator.inputs[1:]):
        yield "its weights must be constant"
    if name in _WITHOUT_FUSED_ACTIVATION and operator.activation != "NONE":
        yield f"{operator.activation} is fused into it, and nothing may be"
    if name in _WITH_VECTOR_OUTPUT and any(size > 1 for size in operator.outputs[0].shape[:-1]):
        yield "its output must have one dimension: the batch must be 1"
    if name == "SOFTMAX" and operator.outputs[0].shape[-1:] > (_MAX_SOFTMAX_SIZE,):
        yield f"it takes at most {_MAX_SOFTMAX_SIZE:,} values"


def _is_8_bit(tensor: Tensor) -> bool:
    """Return whether the Edge TPU takes this type; INT32 is for constant biases, axes and sizes."""
    if tensor.type == "INT32":
        return tensor.constant
    return tensor.type in ("INT8", "UINT8") and tensor.quantized


_REMEDY = "another `recipe`, or another `target`"
TARGETS = {
    "litert": Target("LiteRT 2.3", partial(_reasons_of_runtime, LITERT_2_3), _REMEDY),
    "tflite-runtime==2.14": Target(
        "tflite-runtime 2.14",
        partial(_reasons_of_runtime, TFLITE_RUNTIME_2_14),
        _REMEDY,
        per_tensor_dense=True,
    ),
    "edgetpu": Target(
        "the Edge TPU",
        _reasons_of_edgetpu,
        f"`recipe` {list_recipes(lambda recipe: 'edgetpu' in recipe.targets)}, or another "
        "`target`; if that does not help, another architecture",
    ),
}
