"""Change a .tflite flatbuffer as objects of LiteRT's schema, and write it again."""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from deploy.flatbuffer import IDENTIFIER, check
from deploy.untrusted_files import damaged

_ALIGNMENT_BYTES = 16
"""The TFLite schema requires it of every buffer's content."""
Shape = tuple[int, ...]


class ModelEditor:
    """The objects of a model (`ModelT` of LiteRT's schema), which `to_bytes` writes.

    Tensors and operators are added to `graph`, the only subgraph.
    """

    def __init__(self, flatbuffer: bytes) -> None:
        """Read the model; raise BadData if it is damaged, or does not have one subgraph."""
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        check(flatbuffer)
        with damaged("damaged, or a model of several graphs"):
            self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer))
            (self.graph,) = self.model.subgraphs
            behind = any(buffer.offset > 1 for buffer in self.model.buffers)
        if behind:
            raise BadData("a buffer lies behind the flatbuffer, from where it is not moved")

    def add_buffer(self, data: bytes) -> int:
        """Return the index of a new buffer that holds `data`."""
        self.model.buffers.append(self.schema.BufferT(np.frombuffer(data, np.uint8)))
        return len(self.model.buffers) - 1

    def add_constant(
        self, name: str, values: npt.NDArray[Any], scales: Sequence[float] = ()
    ) -> int:
        """Return the index of a new tensor that holds `values`.

        With `scales`, one for each of its rows, a value is stored integer * scale.
        """
        tensor = self._add_tensor(name, values.shape, values.dtype.name.upper(), scales)
        self.graph.tensors[tensor].buffer = self.add_buffer(values.tobytes())
        return tensor

    def add_operator(
        self,
        name: str,
        inputs: Sequence[int],
        output: str,
        shape: Shape,
        options: Any = None,
        *,
        version: int = 1,
        output_type: str = "FLOAT32",
        scales: Sequence[float] = (),
    ) -> int:
        """Append a built-in operator; return the index of its output, a new tensor.

        `name` is as in the schema (FULLY_CONNECTED), `inputs` are indices of tensors, `options` is
        the schema's object. The other arguments describe the output.
        """
        tensor = self._add_tensor(output, shape, output_type, scales)
        operator = self.schema.OperatorT(self._code(name, version), list(inputs), [tensor])
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self.graph.operators.append(operator)
        return tensor

    def to_bytes(self) -> bytes:
        """Return the flatbuffer, in which each buffer's content is aligned."""
        size = sum(len(buffer.data) for buffer in self.model.buffers if buffer.data is not None)
        builder = _AlignedBuilder(2 * size)  # bytes; it grows if there are more
        builder.Finish(self.model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _add_tensor(self, name: str, shape: Shape, kind: str, scales: Sequence[float]) -> int:
        number = getattr(self.schema.TensorType, kind)
        tensor = self.schema.TensorT(list(shape), number, name=name)
        if scales:
            tensor.quantization = self.schema.QuantizationParametersT(
                scale=list(scales), zeroPoint=[0] * len(scales)
            )
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _code(self, name: str, version: int) -> int:
        """Return the index of the code of an operator and its version, new if there is none."""
        number = getattr(self.schema.BuiltinOperator, name)
        codes = self.model.operatorCodes
        for index, code in enumerate(codes):
            if (code.builtinCode, code.version) == (number, version):
                return index
        codes.append(self.schema.OperatorCodeT(number, None, version, number))
        return len(codes) - 1


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns vectors of bytes, as buffers are: the schema's `Pack` in Python does not."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
        alignment = _ALIGNMENT_BYTES if elemSize == 1 else alignment
        return super().StartVector(elemSize, numElems, alignment)
