"""Round kernels to the int8 grid: near the original, and exactly the converter's grid."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert.interpreter import Interpreter

from retrain import tf_graph
from retrain.backbones.round_kernels import round_in_training, round_kernels, to_int8_grid
from tests.helpers.lite_fixtures import to_tflite

RANDOM = np.random.default_rng(0)
CONV = RANDOM.normal(size=(3, 3, 3, 8)).astype(np.float32) * np.geomspace(1e-3, 10, 8, dtype="f4")
DEPTHWISE = RANDOM.normal(size=(3, 3, 8, 1)).astype(np.float32)

both = pytest.mark.parametrize(("kernel", "axes"), [(CONV, (3,)), (DEPTHWISE, (2, 3))])


def step(kernel: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the step of each output's grid: its largest value is 127 of them."""
    summed = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
    return np.asarray(np.abs(kernel.astype(np.float64)).max(axis=summed, keepdims=True) / 127)


@both
def test_values_are_whole_steps_of_their_output(kernel: Any, axes: tuple[int, ...]) -> None:
    rounded = to_int8_grid(kernel, axes)
    assert rounded.dtype == np.float32
    assert rounded.shape == kernel.shape
    counts = rounded / step(kernel, axes)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    assert len(np.unique(np.rint(counts))) > 30


@both
def test_the_largest_value_of_each_output_stays(kernel: Any, axes: tuple[int, ...]) -> None:
    np.testing.assert_allclose(
        step(to_int8_grid(kernel, axes), axes), step(kernel, axes), rtol=1e-6
    )


@both
def test_values_move_to_a_neighbouring_step(kernel: Any, axes: tuple[int, ...]) -> None:
    moved = np.abs(to_int8_grid(kernel, axes) - kernel) / step(kernel, axes)
    assert moved.max() < 1
    assert np.mean(moved <= 0.501) > 0.8


@both
def test_the_sum_of_each_output_is_kept(kernel: Any, axes: tuple[int, ...]) -> None:
    summed = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
    change = (to_int8_grid(kernel, axes) - kernel).sum(axis=summed, keepdims=True)
    assert np.abs(change / step(kernel, axes)).max() < 0.501


def test_a_kernel_of_zeros_stays() -> None:
    kernel = CONV.copy()
    kernel[..., 3] = 0
    rounded = to_int8_grid(kernel, (3,))
    np.testing.assert_array_equal(rounded[..., 3], 0)
    np.testing.assert_array_equal(rounded[..., 4], to_int8_grid(CONV, (3,))[..., 4])


def network(images: Any) -> Any:
    tf = tf_graph.tensorflow()
    features = tf.nn.relu6(tf.nn.conv2d(images, CONV, 2, "SAME"))
    features = tf.nn.depthwise_conv2d(features, DEPTHWISE, [1, 1, 1, 1], "SAME")
    return tf.reduce_mean(features + np.float32(0.3), [1, 2])


def constants(graph_def: Any) -> dict[str, npt.NDArray[Any]]:
    nodes = (node for node in graph_def.node if node.op == "Const")
    return {
        node.name: tf_graph.tensorflow().make_ndarray(node.attr["value"].tensor) for node in nodes
    }


def test_the_kernels_of_a_graph_are_rounded_and_nothing_else() -> None:
    original = tf_graph.trace(network, (16, 16, 3), "output")
    before, after = constants(original), constants(round_kernels(original))
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert [after[name].shape for name in changed] == [CONV.shape, DEPTHWISE.shape]
    for name, axes in zip(changed, [(3,), (2, 3)], strict=True):
        np.testing.assert_array_equal(after[name], to_int8_grid(before[name], axes))


def test_the_converter_finds_the_same_grid_again() -> None:
    rounded = round_kernels(tf_graph.trace(network, (16, 16, 3), "output"))
    flatbuffer = to_tflite(tf_graph.function(rounded, "output"), "int8", 16)
    interpreter = Interpreter(model_content=flatbuffer)
    details = [
        tensor
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.int8 and len(tensor["quantization_parameters"]["scales"]) == 8
    ]
    stored = {tuple(tensor["shape"]): interpreter.get_tensor(tensor["index"]) for tensor in details}
    for kernel, axes in ((CONV, (3,)), (DEPTHWISE, (2, 3))):
        expected = np.rint(to_int8_grid(kernel, axes) / step(kernel, axes)).transpose(3, 0, 1, 2)
        np.testing.assert_array_equal(stored[expected.shape], expected)


def test_training_rounds_to_the_nearest_step_of_the_same_grid_and_leaves_other_arrays() -> None:
    scale = step(CONV, (3,))
    np.testing.assert_allclose(round_in_training(CONV), np.rint(CONV / scale) * scale, rtol=1e-6)
    rounded = to_int8_grid(CONV, (3,))
    np.testing.assert_allclose(round_in_training(rounded), rounded, rtol=1e-6)
    for values in (CONV[0, 0], CONV[0, 0, 0]):  # of a dense layer, a bias
        np.testing.assert_array_equal(round_in_training(values), values)
