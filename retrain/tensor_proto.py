"""Turn arrays into TensorFlow's TensorProto and back, without TensorFlow.

TensorBoard's functions for it load its file systems too, with boto3 where that is installed: half
a second of each command.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_INT32, DT_INT64

_TYPES: dict[int, np.dtype[Any]] = {
    DT_FLOAT: np.dtype("<f4"),
    DT_DOUBLE: np.dtype("<f8"),
    DT_INT32: np.dtype("<i4"),
    DT_INT64: np.dtype("<i8"),
}
_NUMBERS = {dtype: number for number, dtype in _TYPES.items()}


def to_proto(values: npt.NDArray[Any]) -> TensorProto:
    """Return an array of float32, float64, int32 or int64 as a tensor.

    Raises KeyError for another type.
    """
    little_endian = values.dtype.newbyteorder("<")
    dimensions = [TensorShapeProto.Dim(size=size) for size in values.shape]
    return TensorProto(
        dtype=_NUMBERS[little_endian],
        tensor_shape=TensorShapeProto(dim=dimensions),
        tensor_content=values.astype(little_endian, copy=False).tobytes(),
    )


def to_array(tensor: TensorProto) -> npt.NDArray[Any]:
    """Return a tensor as an array of its own memory.

    Raises ValueError and TypeError for a tensor that contradicts itself.
    """
    dtype = _TYPES.get(tensor.dtype)
    array: npt.NDArray[Any]
    if dtype is None or not tensor.tensor_content:
        from tensorboard.util.tensor_util import make_ndarray

        array = make_ndarray(tensor)
        return array
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    array = np.frombuffer(tensor.tensor_content, dtype).copy()
    return array.reshape(shape)
