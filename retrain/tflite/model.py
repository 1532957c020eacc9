"""What a .tflite flatbuffer tells: operations, ends and outline, read without running it."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

from deploy.errors import BadData
from deploy.flatbuffer import check
from deploy.untrusted_files import damaged

Found = TypeVar("Found")

WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""The operations that hold nearly all of an image network's weights."""
UNKNOWN = "UNKNOWN"
"""With its number, an operation, type or activation of a later schema than LiteRT's here."""


class Tensor(NamedTuple):
    """What an operation reads or writes: `type` as in the schema (INT8), -1 is an open dimension.

    `shape` is () for a scalar, and for a tensor whose shape the file does not tell. A quantized
    tensor has one scale and zero point, or one for each channel.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    constant: bool
    quantized: bool
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()


class Operator(NamedTuple):
    """An operation in the order of execution.

    `name` is the builtin's name in the schema (CONV_2D) or, if `custom`, the custom code;
    `activation` is what is fused into it (RELU6), or NONE. Optional inputs that are not there
    are left out.
    """

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    custom: bool = False
    activation: str = "NONE"


class Signature(NamedTuple):
    """A way to call the model: the names of arguments and results, and of their tensors."""

    name: str
    subgraph: int
    inputs: dict[str, str]
    outputs: dict[str, str]


class Outline(NamedTuple):
    """What a model says of itself besides its operations; `entries` are metadata, in bytes."""

    description: str
    subgraphs: int
    signatures: tuple[Signature, ...]
    entries: tuple[tuple[str, int], ...]


def operators(flatbuffer: bytes) -> list[Operator]:
    """Return the operations of all subgraphs, by the schema that LiteRT ships.

    What follows the flatbuffer, as a .tflite's zip does, is not looked at. Raises BadData for
    bytes that are not such a flatbuffer, or are damaged where operations are told.
    """

    def read(schema: Any, model: Any) -> list[Operator]:
        found = []
        for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
            tensors = _all_tensors(schema, model, graph)
            found += [
                _operator(schema, model, tensors, graph.Operators(i))
                for i in range(graph.OperatorsLength())
            ]
        return found

    return _read(flatbuffer, read)


def ends(flatbuffer: bytes) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the inputs and the outputs of the first subgraph; raise BadData as `operators`."""

    def read(schema: Any, model: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        graph = model.Subgraphs(_index(0, model.SubgraphsLength()))
        tensors = _all_tensors(schema, model, graph)
        return _tensors(tensors, graph.InputsAsNumpy()), _tensors(tensors, graph.OutputsAsNumpy())

    return _read(flatbuffer, read)


def outline(flatbuffer: bytes) -> Outline:
    """Return what the model says of itself; raise BadData as `operators`."""

    def read(_schema: Any, model: Any) -> Outline:
        signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
        entries = [model.Metadata(i) for i in range(model.MetadataLength())]
        return Outline(
            _text(model.Description()),
            model.SubgraphsLength(),
            tuple(_signature(model, each) for each in signatures),
            tuple((_text(each.Name()), _buffer(model, each.Buffer())) for each in entries),
        )

    return _read(flatbuffer, read)


def _read(flatbuffer: bytes, read: Callable[[Any, Any], Found]) -> Found:
    """Return what `read` finds in the model, given the schema and the model."""
    from ai_edge_litert import schema_py_generated as schema

    what = "not a .tflite model, or damaged: no operations can be read"
    with damaged(what, "Remedy: convert again"):
        try:
            check(flatbuffer)
        except BadData as error:
            raise ValueError(str(error)) from error
        return read(schema, schema.Model.GetRootAs(flatbuffer))


def _signature(model: Any, signature: Any) -> Signature:
    subgraph = _index(signature.SubgraphIndex(), model.SubgraphsLength())
    graph = model.Subgraphs(subgraph)

    def names(ends: list[Any]) -> dict[str, str]:
        places = [(each, _index(each.TensorIndex(), graph.TensorsLength())) for each in ends]
        return {_text(each.Name()): _text(graph.Tensors(place).Name()) for each, place in places}

    return Signature(
        _text(signature.SignatureKey()),
        subgraph,
        names([signature.Inputs(i) for i in range(signature.InputsLength())]),
        names([signature.Outputs(i) for i in range(signature.OutputsLength())]),
    )


def _buffer(model: Any, number: int) -> int:
    """Return the bytes of this buffer."""
    return int(model.Buffers(_index(number, model.BuffersLength())).DataLength())


def _text(name: bytes | None) -> str:
    return (name or b"").decode()


def _operator(schema: Any, model: Any, tensors: list[Tensor], operator: Any) -> Operator:
    code = model.OperatorCodes(_index(operator.OpcodeIndex(), model.OperatorCodesLength()))
    # Codes above 127 came after the field of 8 bits was full; the old field then holds 127.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    custom = number == schema.BuiltinOperator.CUSTOM
    return Operator(
        code.CustomCode().decode() if custom else _name(schema.BuiltinOperator, number),
        code.Version(),
        _tensors(tensors, operator.InputsAsNumpy()),
        _tensors(tensors, operator.OutputsAsNumpy()),
        custom,
        _activation(schema, operator),
    )


def _all_tensors(schema: Any, model: Any, graph: Any) -> list[Tensor]:
    """Return the tensors of a graph; each is read once, however many operations share it."""
    return [_tensor(schema, model, graph.Tensors(i)) for i in range(graph.TensorsLength())]


def _tensors(tensors: list[Tensor], numbers: Any) -> tuple[Tensor, ...]:
    """Return the tensors of these numbers; -1 is an optional one, 0 instead of an array is none."""
    places = [] if isinstance(numbers, int) else [int(number) for number in numbers]
    return tuple(tensors[_index(place, len(tensors))] for place in places if place != -1)


def _tensor(schema: Any, model: Any, tensor: Any) -> Tensor:
    shape = tensor.ShapeAsNumpy() if tensor.ShapeSignatureIsNone() else None
    shape = tensor.ShapeSignatureAsNumpy() if shape is None else shape
    buffer = model.Buffers(_index(tensor.Buffer(), model.BuffersLength()))
    quantization = tensor.Quantization()
    scales = quantization.ScaleAsNumpy() if quantization else 0
    zero_points = quantization.ZeroPointAsNumpy() if quantization else 0
    return Tensor(
        _text(tensor.Name()),
        _name(schema.TensorType, tensor.Type()),
        () if isinstance(shape, int) else tuple(int(size) for size in shape),
        buffer.DataLength() > 0 or buffer.Offset() > 1,  # offset: large models keep data behind
        not isinstance(scales, int),
        () if isinstance(scales, int) else tuple(float(scale) for scale in scales),
        () if isinstance(zero_points, int) else tuple(int(point) for point in zero_points),
    )


def _activation(schema: Any, operator: Any) -> str:
    kind = _name(schema.BuiltinOptions, operator.BuiltinOptionsType())
    table = operator.BuiltinOptions()
    make: Any = getattr(schema, kind, None)  # a kind of a later schema has none
    if table is None or not hasattr(make, "FusedActivationFunction"):
        return "NONE"
    options = make()
    options.Init(table.Bytes, table.Pos)
    return _name(schema.ActivationFunctionType, options.FusedActivationFunction())


@cache
def _name(kinds: Any, number: int) -> str:
    """Return the name that the schema's enumeration `kinds` gives to `number`."""
    names = (str(name) for name, value in vars(kinds).items() if value == number)
    return next(names, f"{UNKNOWN} {number}")


def _index(number: int, length: int) -> int:
    if not 0 <= number < length:
        raise IndexError(number)
    return number
