"""What a .tflite file holds, as values; nothing of it is run.

Source of the layout: tensorflow/lite/schema/schema.fbs. LiteRT's reader of it checks nothing: each
number of the file is checked here before it is used.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from deploy.flatbuffer import check
from deploy.untrusted_files import damaged

Array = npt.NDArray[Any]
_NUMPY = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "INT32": "<i4",
    "UINT8": "u1",
    "INT64": "<i8",
    "INT16": "<i2",
    "INT8": "i1",
}


class Tensor(NamedTuple):
    """A tensor: value = (stored - zero_point) * scale where it has scales, one or one a channel.

    `fixed` says of each side of `shape` whether it stays when the model is run; `data` are the
    bytes of a constant, None for what is computed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    fixed: tuple[bool, ...]
    scale: Array
    zero_point: Array
    channel_axis: int
    data: Array | None

    @property
    def lowest(self) -> int | None:
        """The lowest stored value of 8 bits; None for other types."""
        return {"INT8": -128, "UINT8": 0}.get(self.dtype)

    def value(self) -> Array:
        """Return the constant: float32 where the file has fractions or scales, else integers."""
        if self.dtype not in _NUMPY:
            raise BadData(f"tensor {self.name} holds {self.dtype}, which is not taken")
        if self.data is None:
            raise BadData(f"damaged: nothing computes tensor {self.name}")
        stored = np.frombuffer(self.data, _NUMPY[self.dtype]).reshape(self.shape)
        if self.scale.size:
            sides = [1] * stored.ndim
            if self.scale.size > 1:
                sides[self.channel_axis] = -1
            zero = np.broadcast_to(self.zero_point, self.scale.shape).reshape(sides)
            stored = (stored - zero.astype(np.float64)) * self.scale.reshape(sides)
        return stored.astype(np.float32) if stored.dtype.kind == "f" else stored


class Operator(NamedTuple):
    """An operator by its name in the schema; an input that is left out is -1."""

    kind: str
    options: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class LiteModel(NamedTuple):
    """A model of one input; operators are in the order of running."""

    tensors: list[Tensor]
    operators: list[Operator]
    input: int
    outputs: tuple[int, ...]


def parse(content: bytes) -> LiteModel:
    """Return what the bytes of a .tflite file hold; raise BadData if they are none, or damaged."""
    from ai_edge_litert import schema_py_generated as schema

    check(content)
    with damaged("not a TFLite model, or damaged"):
        model = schema.Model.GetRootAs(content)
        if model.SubgraphsLength() != 1:
            raise BadData(f"{model.SubgraphsLength()} graphs in it instead of one")
        main = model.Subgraphs(0)
        buffers = [
            schema.BufferT.InitFromObj(model.Buffers(i)) for i in range(model.BuffersLength())
        ]
        types, kinds = _names(schema.TensorType), _names(schema.BuiltinOperator)
        codes = [
            _kind(schema.OperatorCodeT.InitFromObj(model.OperatorCodes(i)), kinds)
            for i in range(model.OperatorCodesLength())
        ]
        tensors = [
            _tensor(_unpacked(schema, main.Tensors(i)), types, buffers, content)
            for i in range(main.TensorsLength())
        ]
        operators = list(_operators(schema, main, codes, tensors, len(content)))
        inputs = _indices(main.InputsAsNumpy(), tensors)
        outputs = _indices(main.OutputsAsNumpy(), tensors)
    if len(inputs) != 1 or not outputs:
        raise BadData(f"it has {len(inputs)} inputs and {len(outputs)} outputs instead of one")
    return LiteModel(tensors, operators, inputs[0], outputs)


def _unpacked(schema: Any, tensor: Any) -> Any:
    # Only these lists hold tables of their own, which may be shared without end.
    if tensor.Sparsity() is not None or tensor.VariantTensorsLength():
        raise BadData(f"tensor {(tensor.Name() or b'').decode()} is sparse, which is not taken")
    return schema.TensorT.InitFromObj(tensor)


def _operators(
    schema: Any, graph: Any, codes: list[str], tensors: list[Tensor], left: int
) -> Iterator[Operator]:
    """Yield the operators; raise ValueError once their options hold more than `left` values."""
    for i in range(graph.OperatorsLength()):
        each = schema.OperatorT.InitFromObj(graph.Operators(i))
        options = vars(each.builtinOptions) if each.builtinOptions else {}
        left -= sum(len(value) for value in options.values() if hasattr(value, "__len__"))
        if left < 0:
            raise ValueError("its parts are shared without end")
        yield Operator(
            codes[each.opcodeIndex],
            each.builtinOptions,
            _indices(each.inputs, tensors, -1),
            _indices(each.outputs, tensors),
        )


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _kind(code: Any, kinds: dict[int, str]) -> str:
    # The one byte that the number first had holds it up to 127 still.
    kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return str(code.customCode.decode() if kind == "CUSTOM" else kind)


def _tensor(each: Any, types: dict[int, str], buffers: list[Any], content: bytes) -> Tensor:
    shape = _whole(each.shape)
    signature = _whole(each.shapeSignature) or shape
    quantization = each.quantization
    scale, zero_point = (
        np.asarray([] if values is None else values)
        for values in (
            (quantization.scale, quantization.zeroPoint) if quantization else (None, None)
        )
    )
    if scale.size and not (np.isfinite(scale).all() and (scale > 0).all()):
        raise BadData("a scale that is no positive number")
    buffer = buffers[each.buffer]
    data = buffer.data
    if buffer.size:  # of a file beyond 2 GB, whose buffers lie after the flatbuffer
        data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    name = (each.name or b"").decode()
    if min(shape, default=1) < 0 or len(signature) != len(shape):
        raise BadData(f"tensor {name} has the shape {shape}")
    return Tensor(
        name,
        types[each.type],
        shape,
        tuple(side >= 0 for side in signature),
        scale.astype(np.float64),
        zero_point if zero_point.size else np.zeros(1, np.int64),
        quantization.quantizedDimension if quantization else 0,
        None if data is None or not len(data) else np.asarray(data, np.uint8),
    )


def _whole(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(each) for each in values)


def _indices(values: Any, tensors: list[Tensor], lowest: int = 0) -> tuple[int, ...]:
    found = _whole(values)
    if not all(lowest <= each < len(tensors) for each in found):
        raise BadData("damaged: an operator has a tensor that is not there")
    return found
