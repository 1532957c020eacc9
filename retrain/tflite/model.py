"""Read a .tflite flatbuffer: operators, tensors and outline; nothing in it is run.

Source of the layout: tensorflow/lite/schema/schema.fbs. LiteRT's reader of it checks nothing: each
index of the file is checked here before it is used.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from deploy.flatbuffer import check
from deploy.untrusted_files import damaged

WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""The operators that hold nearly all of an image network's weights."""
UNKNOWN = "UNKNOWN"
"""With its number, an operator, type or activation of a later schema than LiteRT's here."""
_NUMPY_TYPES = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "INT32": "<i4",
    "UINT8": "u1",
    "INT64": "<i8",
    "INT16": "<i2",
    "INT8": "i1",
}
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """What an operator reads or writes: `type` as in the schema (INT8).

    `shape` has -1 for an open dimension; it is () for a scalar, and for a tensor whose shape the
    file does not give. A quantized tensor, value = (stored - zero point) * scale, has one scale and
    zero point, or one for each channel along `channel_axis`.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    constant: bool
    quantized: bool
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    channel_axis: int = field(default=0, compare=False)
    default_shape: tuple[int, ...] = field(default=(), compare=False)
    """The shape with a number, such as 1, for each open dimension."""
    sparse: bool = field(default=False, compare=False)
    data: Array | None = field(default=None, compare=False, repr=False)
    """The bytes of a constant; None if an operator computes the tensor."""

    @property
    def lowest(self) -> int | None:
        """The lowest stored value of 8 bits; None for other types."""
        return {"INT8": -128, "UINT8": 0}.get(self.type)

    def value(self) -> Array:
        """Return the constant: float32 where the file has fractions or scales, else integers.

        Raises BadData for a type without a NumPy equivalent and a tensor without data.
        """
        if self.type not in _NUMPY_TYPES:
            raise BadData(f"tensor {self.name} holds {self.type}, which is not taken")
        if self.data is None or not len(self.data):
            raise BadData(f"damaged: nothing computes tensor {self.name}")
        stored = np.frombuffer(self.data, _NUMPY_TYPES[self.type]).reshape(self.default_shape)
        if self.scales:
            sides = [1] * stored.ndim
            if len(self.scales) > 1:
                sides[self.channel_axis] = -1
            scales = np.asarray(self.scales)
            zero = np.asarray(self.zero_points or (0,), np.float64)
            zero = np.broadcast_to(zero, scales.shape).reshape(sides)
            stored = (stored - zero) * scales.reshape(sides)
        return stored.astype(np.float32) if stored.dtype.kind == "f" else stored


@dataclass(frozen=True)
class Operator:
    """An operator in the order of running.

    `name` is the builtin's name in the schema (CONV_2D) or, if `custom`, the custom code;
    `activation` is the one fused into it (RELU6), or NONE. `inputs` lacks optional inputs that the
    operator does not have; `input_indices` has -1 for these.
    """

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    custom: bool = False
    activation: str = "NONE"
    input_indices: tuple[int, ...] = field(default=(), compare=False)
    output_indices: tuple[int, ...] = field(default=(), compare=False)
    options: Any = field(default=None, compare=False, repr=False)
    """The schema's reader of the operator's options, None if it has none."""


@dataclass(frozen=True)
class Subgraph:
    """One graph of a model: its tensors, its operators, and the indices of its ends."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input_indices: tuple[int, ...]
    output_indices: tuple[int, ...]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that are fed."""
        return tuple(self.tensors[index] for index in self.input_indices)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors that are the result."""
        return tuple(self.tensors[index] for index in self.output_indices)


@dataclass(frozen=True)
class Signature:
    """A way to call the model: the names of arguments and results, and of their tensors."""

    name: str
    subgraph: int
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Model:
    """All that a flatbuffer holds; `metadata` are its entries by name, in bytes."""

    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: tuple[tuple[str, int], ...]

    @property
    def operators(self) -> list[Operator]:
        """The operators of all subgraphs."""
        return [operator for graph in self.subgraphs for operator in graph.operators]


def read_model(content: bytes) -> Model:
    """Return the content of a .tflite file, by the schema that LiteRT ships.

    Files behind the flatbuffer, in a zip, are ignored. Raises BadData for bytes that are not such a
    flatbuffer, or are damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    with damaged("not a .tflite model, or damaged", "Remedy: convert again"):
        try:
            check(content)
        except BadData as error:
            raise ValueError(str(error)) from error
        return _Reader(schema, content).model()


def operators(flatbuffer: bytes) -> list[Operator]:
    """Return the operators of all subgraphs; raise BadData as `read_model`."""
    return read_model(flatbuffer).operators


class _Reader:
    """Reads the parts of one flatbuffer by LiteRT's `schema`."""

    def __init__(self, schema: Any, content: bytes) -> None:
        self._schema = schema
        self._content = content
        self._model = schema.Model.GetRootAs(content)

    def model(self) -> Model:
        model = self._model
        if not model.SubgraphsLength():
            raise IndexError(0)
        signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
        entries = [model.Metadata(i) for i in range(model.MetadataLength())]
        return Model(
            _text(model.Description()),
            tuple(self._subgraph(model.Subgraphs(i)) for i in range(model.SubgraphsLength())),
            tuple(self._signature(signature) for signature in signatures),
            tuple(
                (_text(entry.Name()), int(self._buffer(entry.Buffer()).DataLength()))
                for entry in entries
            ),
        )

    def _subgraph(self, graph: Any) -> Subgraph:
        tensors = tuple(self._tensor(graph.Tensors(i)) for i in range(graph.TensorsLength()))
        return Subgraph(
            tensors,
            tuple(
                self._operator(tensors, graph.Operators(i)) for i in range(graph.OperatorsLength())
            ),
            _indices(graph.InputsAsNumpy(), len(tensors)),
            _indices(graph.OutputsAsNumpy(), len(tensors)),
        )

    def _signature(self, signature: Any) -> Signature:
        subgraph = _checked(signature.SubgraphIndex(), self._model.SubgraphsLength())
        graph = self._model.Subgraphs(subgraph)

        def names(ends: list[Any]) -> dict[str, str]:
            places = [_checked(end.TensorIndex(), graph.TensorsLength()) for end in ends]
            tensors = [_text(graph.Tensors(place).Name()) for place in places]
            return {_text(end.Name()): name for end, name in zip(ends, tensors, strict=True)}

        return Signature(
            _text(signature.SignatureKey()),
            subgraph,
            names([signature.Inputs(i) for i in range(signature.InputsLength())]),
            names([signature.Outputs(i) for i in range(signature.OutputsLength())]),
        )

    def _buffer(self, number: int) -> Any:
        return self._model.Buffers(_checked(number, self._model.BuffersLength()))

    def _operator(self, tensors: tuple[Tensor, ...], operator: Any) -> Operator:
        schema = self._schema
        number = _checked(operator.OpcodeIndex(), self._model.OperatorCodesLength())
        code = self._model.OperatorCodes(number)
        # Codes above 127 came after the field of 8 bits was full; the old field then holds 127.
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = builtin == schema.BuiltinOperator.CUSTOM
        inputs = _indices(operator.InputsAsNumpy(), len(tensors), optional=True)
        outputs = _indices(operator.OutputsAsNumpy(), len(tensors), optional=True)
        options = self._options(operator)
        activation = "NONE"
        if hasattr(options, "FusedActivationFunction"):
            function = options.FusedActivationFunction()
            activation = _name(schema.ActivationFunctionType, function)
        return Operator(
            code.CustomCode().decode() if custom else _name(schema.BuiltinOperator, builtin),
            code.Version(),
            tuple(tensors[index] for index in inputs if index != -1),
            tuple(tensors[index] for index in outputs if index != -1),
            custom,
            activation,
            inputs,
            outputs,
            options,
        )

    def _options(self, operator: Any) -> Any:
        kind = _name(self._schema.BuiltinOptions, operator.BuiltinOptionsType())
        table = operator.BuiltinOptions()
        make: Any = getattr(self._schema, kind, None)  # a kind of a later schema has none
        if table is None or make is None:
            return None
        options = make()
        options.Init(table.Bytes, table.Pos)
        return options

    def _tensor(self, tensor: Any) -> Tensor:
        default_shape = _integers(tensor.ShapeAsNumpy())
        quantization = tensor.Quantization()
        scales = quantization.ScaleAsNumpy() if quantization else 0
        zero_points = quantization.ZeroPointAsNumpy() if quantization else 0
        buffer = self._buffer(tensor.Buffer())
        data = buffer.DataAsNumpy() if buffer.DataLength() else None
        if buffer.Offset() > 1:  # of a file beyond 2 GB, whose data lie behind the flatbuffer
            data = np.frombuffer(self._content, np.uint8)[buffer.Offset() :][: buffer.Size()]
        return Tensor(
            _text(tensor.Name()),
            _name(self._schema.TensorType, tensor.Type()),
            _integers(tensor.ShapeSignatureAsNumpy()) or default_shape,
            constant=data is not None,
            quantized=not isinstance(scales, int),
            scales=() if isinstance(scales, int) else tuple(float(scale) for scale in scales),
            zero_points=_integers(zero_points),
            channel_axis=quantization.QuantizedDimension() if quantization else 0,
            default_shape=default_shape,
            sparse=tensor.Sparsity() is not None or tensor.VariantTensorsLength() > 0,
            data=data,
        )


def _integers(numbers: Any) -> tuple[int, ...]:
    """Return the numbers of a vector; LiteRT's reader gives 0 instead of an array for none."""
    return () if isinstance(numbers, int) else tuple(int(number) for number in numbers)


def _indices(numbers: Any, length: int, optional: bool = False) -> tuple[int, ...]:
    """Return the numbers, each below `length`; `optional` ones may be -1. Raise IndexError."""
    return tuple(
        number if optional and number == -1 else _checked(number, length)
        for number in _integers(numbers)
    )


def _checked(number: int, length: int) -> int:
    if not 0 <= number < length:
        raise IndexError(number)
    return number


def _text(name: bytes | None) -> str:
    return (name or b"").decode()


@cache
def _name(kinds: Any, number: int) -> str:
    """Return the name that the schema's enumeration `kinds` gives to `number`."""
    names = (str(name) for name, value in vars(kinds).items() if value == number)
    return next(names, f"{UNKNOWN} {number}")
