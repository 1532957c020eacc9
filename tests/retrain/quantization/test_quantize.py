"""Each recipe on a small network: its types, its answers, what it refuses; layers in float32."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.errors import BadData, WrongUse
from deploy.image import normalise
from deploy.runtime import Model
from retrain import tf_graph
from retrain.conversion import layer_errors
from retrain.conversion.layer_errors import LayerError
from retrain.frozen_graph import FrozenGraph
from retrain.quantization.quantize import quantize, span_byte_range
from retrain.settings.conversion import Quantization
from tests.helpers.deploy_fixtures import SPEC, networks, probabilities

COLOURS = [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128), (0, 0, 0), (255, 255, 255)]


def frozen(graph_def: bytes) -> FrozenGraph:
    return FrozenGraph(graph_def, SPEC, "final_result")


def photos() -> npt.NDArray[np.uint8]:
    """Return uint8 (N, 32, 32, 3), a photo of each colour."""
    return np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in COLOURS])


@cache
def converted(quantization: Quantization) -> Model:
    """Return the tiny network, converted once for all tests."""
    return Model(quantize(frozen(networks().graph), quantization, span_byte_range(photos())))


@cache
def explained(quantization: Quantization) -> list[LayerError]:
    """Return the layer errors of the tiny network, measured once for all tests."""
    return explain(networks().graph, quantization)


def explain(graph_def: bytes, quantization: Quantization) -> list[LayerError]:
    return layer_errors.explain(frozen(graph_def), quantization, span_byte_range(photos()))


def answers(model: Model) -> npt.NDArray[np.float32]:
    """Return float32 (N, classes), what `model` gives each colour."""
    inputs = photos() if model.input_dtype == np.uint8 else normalise(photos(), SPEC)
    return np.stack([model(photo[np.newaxis]) for photo in inputs])


@pytest.mark.parametrize(
    ("recipe", "input_type", "output_type", "tolerance"),
    [
        ("int8", np.uint8, np.float32, 0.02),
        ("dynamic", np.float32, np.float32, 0.02),
        ("float16", np.float32, np.float32, 2e-3),
        ("float32", np.float32, np.float32, 1e-5),
        ("int16x8", np.float32, np.float32, 5e-3),
        ("int8-edgetpu", np.uint8, np.uint8, 0.02),
    ],
)
def test_every_recipe_gives_the_networks_answers(
    recipe: str, input_type: type, output_type: type, tolerance: float
) -> None:
    model = converted(Quantization(recipe))
    assert model.input_shape == (1, 32, 32, 3)
    assert model.input_dtype == input_type
    assert model._output["dtype"] == output_type
    if input_type == np.uint8:
        assert model.input_quantization == (1 / 128, 128)
    expected = [probabilities(colour) for colour in COLOURS]
    np.testing.assert_allclose(answers(model), expected, atol=tolerance)


def test_the_output_may_be_bytes() -> None:
    model = converted(Quantization(output_type="uint8"))
    assert model._output["dtype"] == np.uint8
    assert model._output["quantization"] == (1 / 256, 0)
    np.testing.assert_allclose(answers(model).sum(axis=1), 1, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"recipe": "int4"}, "no recipe int4: there are int8, dynamic"),
        (
            {"recipe": "float16", "output_type": "uint8"},
            "`output_type` uint8 is for int8 and int8-edgetpu, not for float16",
        ),
        ({"recipe": "int16x8", "keep_float": ("x",)}, "`keep_float` is for int8, not for int16x8"),
    ],
)
def test_what_does_not_go_together_is_wrong_use(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongUse, match=words):
        Quantization(**settings)


@pytest.mark.parametrize("recipe", ["int8", "int8-edgetpu"])
def test_a_mean_that_is_no_byte_is_refused_with_the_remedy(recipe: str) -> None:
    graph = FrozenGraph(b"", replace(SPEC, mean=127.5), "output")
    with pytest.raises(
        BadData, match=rf"127\.5, and {recipe} needs .* Remedy: `recipe` dynamic, f"
    ):
        quantize(graph, Quantization(recipe), span_byte_range(photos()))


def operations(model: Model) -> list[str]:
    return [operation["op_name"] for operation in model._interpreter._get_ops_details()]


def test_the_first_layer_and_what_reads_it_are_in_float_unless_all_must_be_integer() -> None:
    product = ["FULLY_CONNECTED", "SOFTMAX"]
    for how, expected in (
        (Quantization(), ["DEQUANTIZE", "CONV_2D", "MEAN", "QUANTIZE", *product, "DEQUANTIZE"]),
        (Quantization("int8-edgetpu"), ["QUANTIZE", "CONV_2D", "MEAN", *product, "QUANTIZE"]),
    ):
        assert [name for name in operations(converted(how)) if name != "DELEGATE"] == expected


def test_the_first_layer_is_explained_where_it_is_int8() -> None:
    names = [layer.name for layer in explained(Quantization("int8-edgetpu"))]
    assert "Relu6;Conv2D" in names


def test_a_layer_that_is_kept_is_computed_in_float_with_what_reads_it() -> None:
    dense, softmax = explained(Quantization())
    assert (dense.name, softmax.name) == ("MatMul;logits", "final_result")
    assert all(10 < layer.signal_to_noise_db < 80 for layer in (dense, softmax))
    assert dense.scores_db
    assert softmax.scores_db is None
    in_float = Quantization(keep_float=(dense.name,))
    assert explained(in_float) == []
    assert "QUANTIZE" not in operations(converted(in_float))
    expected = [probabilities(colour) for colour in COLOURS]
    np.testing.assert_allclose(answers(converted(in_float)), expected, atol=1e-4)


@pytest.mark.parametrize("before", [0, 2])
def test_the_layer_to_blame_is_not_the_noisiest(before: int) -> None:
    """A layer's output is nearly the same for all photos, and the next one enlarges the rest.

    The first layer is in float32 as it is; with others before it it is one to find.
    """
    tf = tf_graph.tensorflow()
    mixed = np.random.default_rng(0).uniform(-1, 1, (1, 1, 3, 3)).astype(np.float32)

    def network(x: Any) -> Any:
        for _ in range(before):
            x = tf.nn.conv2d(x, np.eye(3, dtype=np.float32)[None, None], 1, "SAME")
        x = tf.nn.relu6(tf.nn.bias_add(tf.nn.conv2d(x, mixed / 100, 1, "SAME"), [5.0] * 3))
        enlarged = tf.nn.conv2d(x, np.float32(100) * np.eye(3)[None, None], 1, "SAME")
        x = tf.nn.bias_add(enlarged, [-500.0] * 3)
        return tf.nn.softmax(tf.reduce_mean(x, axis=[1, 2]))

    definition = tf_graph.trace(network, (32, 32, 3), "final_result")
    graph_def = definition.SerializeToString()
    expected = tf_graph.session(definition, "final_result")(normalise(photos(), SPEC))

    def largest_error(how: Quantization) -> float:
        model = Model(quantize(frozen(graph_def), how, span_byte_range(photos())))
        assert model.input_quantization[0] == pytest.approx(1 / 128)
        scores = answers(model) * (1 / 256 if how.output == "uint8" else 1)
        return float(np.abs(scores - expected).max())

    if not before:
        assert largest_error(Quantization("int8-edgetpu")) > 0.05
        assert largest_error(Quantization()) < 0.01
        return
    blamed, *rest = explain(graph_def, Quantization())
    assert blamed.signal_to_noise_db > min(layer.signal_to_noise_db for layer in rest)
    assert largest_error(Quantization()) > 0.05
    assert largest_error(Quantization(keep_float=(blamed.name,))) < 0.01


@pytest.mark.parametrize("layer", ["MatMul;logits", "final_result"])
def test_an_output_layer_in_float_gives_no_bytes(layer: str) -> None:
    with pytest.raises(WrongUse, match="uint8: the output layer is in float32, by `keep_f"):
        converted(Quantization(output_type="uint8", keep_float=(layer,)))


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(WrongUse, match="`keep_float`: no layer nowhere: see `explain`"):
        converted(Quantization(keep_float=("nowhere",)))
