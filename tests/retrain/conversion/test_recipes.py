"""Each recipe on a small network: its types, its answers, what it refuses; and layers in float."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.errors import BadData, WrongUse
from deploy.image import normalise
from deploy.runtime import Model
from retrain import tf_graph
from retrain.conversion import layer_errors, recipes
from retrain.conversion.quantize import spanned
from retrain.conversion.recipes import quantize
from retrain.settings.conversion import Quantization
from tests.helpers.deploy_fixtures import SPEC, networks, probabilities

COLOURS = [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128), (0, 0, 0), (255, 255, 255)]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process: TensorFlow is there already."""

    def run(_what: str, _seconds: float, body: Callable[..., Any], *arguments: Any) -> Any:
        return body(*arguments)

    monkeypatch.setattr(recipes, "run_isolated", run)
    monkeypatch.setattr(layer_errors, "run_isolated", run)


def photos() -> npt.NDArray[np.uint8]:
    """Return uint8 (N, 32, 32, 3), a photo of each colour."""
    return np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in COLOURS])


def made(how: Quantization) -> Model:
    return Model(quantize(networks().graph, how, spanned(photos()), SPEC, "final_result"))


def answers(model: Model) -> npt.NDArray[np.float32]:
    """Return float32 (N, classes), what `model` gives each colour."""
    given = photos() if model.input_dtype == np.uint8 else normalise(photos(), SPEC)
    return np.stack([model(photo[np.newaxis]) for photo in given])


@pytest.mark.parametrize(
    ("recipe", "given", "taken", "tolerance"),
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
    recipe: str, given: type, taken: type, tolerance: float
) -> None:
    model = made(Quantization(recipe))
    assert model.input_shape == (1, 32, 32, 3)
    assert model.input_dtype == given
    assert model._output["dtype"] == taken
    if given == np.uint8:
        assert model.input_quantization == (1 / 128, 128)
    expected = [probabilities(colour) for colour in COLOURS]
    np.testing.assert_allclose(answers(model), expected, atol=tolerance)


def test_the_output_may_be_bytes() -> None:
    model = made(Quantization(output_type="uint8"))
    assert model._output["dtype"] == np.uint8
    assert model._output["quantization"] == (1 / 256, 0)
    np.testing.assert_allclose(answers(model).sum(axis=1), 1, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"recipe": "int4"}, "no recipe int4: there is int8, dynamic"),
        ({"recipe": "float16", "output_type": "uint8"}, "--output-type uint8 is for int8"),
        ({"recipe": "int16x8", "keep_float": ("x",)}, "--keep-float is for int8, not for int16x8"),
    ],
)
def test_what_does_not_go_together_is_wrong_use(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongUse, match=words):
        Quantization(**settings)


@pytest.mark.parametrize("recipe", ["int8", "int8-edgetpu"])
def test_a_mean_that_is_no_byte_is_refused_with_the_remedy(recipe: str) -> None:
    half = replace(SPEC, mean=127.5)
    with pytest.raises(BadData, match=rf"127\.5, and {recipe} needs .* Remedy: --quantize float32"):
        quantize(b"", Quantization(recipe), spanned(photos()), half, "output")


def operations(model: Model) -> list[str]:
    return [each["op_name"] for each in model._interpreter._get_ops_details()]


def test_the_first_layer_and_what_reads_it_are_in_float_unless_all_must_be_integer() -> None:
    product = ["FULLY_CONNECTED", "SOFTMAX"]
    for how, expected in (
        (Quantization(), ["DEQUANTIZE", "CONV_2D", "MEAN", "QUANTIZE", *product, "DEQUANTIZE"]),
        (Quantization("int8-edgetpu"), ["QUANTIZE", "CONV_2D", "MEAN", *product, "QUANTIZE"]),
    ):
        assert [name for name in operations(made(how)) if name != "DELEGATE"] == expected


def test_the_first_layer_is_explained_where_it_is_int8() -> None:
    names = [each.name for each in explained(networks().graph, Quantization("int8-edgetpu"))]
    assert "Relu6;Conv2D" in names


def test_a_layer_that_is_kept_is_computed_in_float_with_what_reads_it() -> None:
    dense, softmax = explained(networks().graph, Quantization())
    assert (dense.name, softmax.name) == ("MatMul;logits", "final_result")
    assert all(10 < layer.signal_to_noise_db < 80 for layer in (dense, softmax))
    assert dense.scores_db
    assert softmax.scores_db is None
    kept = Quantization(keep_float=(dense.name,))
    assert explained(networks().graph, kept) == []
    assert "QUANTIZE" not in operations(made(kept))
    expected = [probabilities(colour) for colour in COLOURS]
    np.testing.assert_allclose(answers(made(kept)), expected, atol=1e-4)


def explained(given: bytes, how: Quantization) -> list[layer_errors.Layer]:
    return layer_errors.explain(given, how, spanned(photos()), SPEC, "final_result")


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
    given = definition.SerializeToString()
    expected = tf_graph.session(definition, "final_result")(normalise(photos(), SPEC))

    def off(how: Quantization) -> float:
        model = Model(quantize(given, how, spanned(photos()), SPEC, "final_result"))
        assert model.input_quantization[0] == pytest.approx(1 / 128)
        found = answers(model) * (1 / 256 if how.output == "uint8" else 1)
        return float(np.abs(found - expected).max())

    if not before:
        assert off(Quantization("int8-edgetpu")) > 0.05
        assert off(Quantization()) < 0.01
        return
    blamed, *others = explained(given, Quantization())
    assert blamed.signal_to_noise_db > min(each.signal_to_noise_db for each in others)
    assert off(Quantization()) > 0.05
    assert off(Quantization(keep_float=(blamed.name,))) < 0.01


@pytest.mark.parametrize("kept", ["MatMul;logits", "final_result"])
def test_an_output_layer_in_float_gives_no_bytes(kept: str) -> None:
    with pytest.raises(WrongUse, match="uint8: the output layer is in float32, by --keep"):
        made(Quantization(output_type="uint8", keep_float=(kept,)))


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(WrongUse, match="--keep-float: no layer nowhere: see --explain"):
        made(Quantization(keep_float=("nowhere",)))
