"""Compare the tensors that we write and read with those of TensorFlow."""

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from retrain.tensor_proto import to_array, to_proto
from retrain.tf_graph import tensorflow

ARRAYS = [
    np.array([[0.5, -1.25, 3e38], [np.inf, -0.0, 1e-45]], np.float32),
    np.array([1.5, np.nan]),
    np.array([-1, 2**31 - 1, 0], np.int32),
    np.array([[2**63 - 1], [-1]]),
    np.array([7], np.float32),
    np.array(-2.5, np.float32),
    np.zeros((2, 0, 3), np.float32),
    np.ones((4, 4), np.float32)[:, ::2],
    np.arange(6, dtype=">f4").reshape(2, 3),  # TensorFlow writes it wrongly
]


@pytest.mark.parametrize("values", ARRAYS, ids=str)
def test_tensorflow_and_we_read_what_we_write(values: npt.NDArray[Any]) -> None:
    tensor = to_proto(values)
    for array in (to_array(tensor), tensorflow().make_ndarray(tensor)):
        assert (array.dtype, array.shape) == (values.dtype.newbyteorder("="), values.shape)
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("values", ARRAYS[:-1], ids=str)
def test_we_read_what_tensorflow_writes(values: npt.NDArray[Any]) -> None:
    array = to_array(tensorflow().make_tensor_proto(values))
    array.flat[:1] = 0  # of its own memory
    np.testing.assert_array_equal(to_array(tensorflow().make_tensor_proto(values)), values)


def test_rare_encodings_are_read() -> None:
    tf = tensorflow()
    repeated = tf.make_tensor_proto(2.5, shape=[2, 3])
    np.testing.assert_array_equal(to_array(repeated), np.full((2, 3), 2.5, np.float32))
    half = np.array([1, 0.5], np.float16)
    np.testing.assert_array_equal(to_array(tf.make_tensor_proto(half)), half)


def test_a_tensor_that_contradicts_its_shape_is_refused() -> None:
    tensor = to_proto(np.zeros(4, np.float32))
    tensor.tensor_shape.dim[0].size = 5
    with pytest.raises(ValueError, match="reshape"):
        to_array(tensor)


@pytest.mark.parametrize("name", ["retrain.training.train", "retrain.conversion.convert"])
def test_neither_training_nor_conversion_loads_file_systems_of_tensorboard(name: str) -> None:
    code = f"import sys, {name}; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    modules = process.stdout.decode().split()
    assert "tensorboard.compat.proto.graph_pb2" in modules
    assert not {"boto3", "tensorboard.compat.tensorflow_stub"}.intersection(modules)
