"""A final layer on the bottleneck of a model: its scores are those of plain arithmetic."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert.compiled_model import CompiledModel

from deploy.errors import BadData
from deploy.runtime import Model
from retrain.settings.conversion import About
from retrain.tflite.final_layer import Dense, FinalLayer, replace_final_layer
from retrain.tflite.metadata import attach, describe, extract
from retrain.tflite.model import read_model
from tests.helpers.conversions import tiny_composed, tiny_trunk
from tests.helpers.deploy_fixtures import BIAS, COLOURS, CONTRACT, WEIGHTS, networks, probabilities
from tests.helpers.quantized_fixtures import convert

LAYER = FinalLayer(Dense(WEIGHTS, BIAS))
FAMILIARITY = Dense(
    np.random.default_rng(0).normal(0, 4, (6, 4)).astype(np.float32), np.zeros(4, np.float32)
)


def run(flatbuffer: bytes, colour: tuple[int, ...]) -> npt.NDArray[np.float32]:
    scores: npt.NDArray[np.float32] = Model(flatbuffer)(np.full((1, 32, 32, 3), colour, np.uint8))
    return scores


def familiarity(colour: tuple[int, ...], dense: Dense) -> Any:
    bottleneck = run(tiny_trunk(), colour)
    near = (bottleneck / np.linalg.norm(bottleneck)) @ dense.weights + dense.bias
    return np.clip(near, 0, 6).max() / 6


@pytest.mark.parametrize("colour", COLOURS.values())
def test_the_scores_are_the_networks(colour: tuple[int, int, int]) -> None:
    assert run(tiny_composed(), colour) == pytest.approx(probabilities(colour), abs=0.005)
    assert b"logits/weights_int8" in tiny_composed()


def test_few_weights_are_stored_exactly() -> None:
    random = np.random.default_rng(0)
    # Large bottlenecks that are nearly the same: rounded weights shift the logits.
    layer = FinalLayer(Dense(random.normal(0, 9, (6, 4)).astype(np.float32), BIAS))
    model = replace_final_layer(tiny_trunk(), layer, "final_result")
    for colour in COLOURS.values():
        logits = run(tiny_trunk(), colour) @ layer.classes.weights + BIAS
        shares = np.exp(logits - logits.max())
        assert run(model, colour) == pytest.approx(shares / shares.sum(), abs=1e-5)


@pytest.mark.parametrize("colour", [*COLOURS.values()][:3])  # grey has no direction
@pytest.mark.parametrize("output_type", ["float32", "uint8"])
def test_familiarity_multiplies_the_scores(colour: tuple[int, int, int], output_type: str) -> None:
    layer = FinalLayer(LAYER.classes, FAMILIARITY)
    model = replace_final_layer(tiny_trunk(), layer, "final_result", output_type)
    share = familiarity(colour, FAMILIARITY)
    assert run(model, colour) == pytest.approx(share * probabilities(colour), abs=0.01)
    (output,) = read_model(model).subgraphs[0].outputs
    assert (output.type, output.name) == (output_type.upper(), "final_result")


def test_a_layer_that_is_replaced_leaves_nothing() -> None:
    layer = FinalLayer(LAYER.classes, FAMILIARITY)
    before = replace_final_layer(tiny_trunk(), layer, "scores", "uint8")
    described = attach(before, describe(CONTRACT, About(), 0))
    after = replace_final_layer(described, LAYER, "final_result")
    assert after == replace_final_layer(tiny_trunk(), LAYER, "final_result")
    assert extract(after) is None


def test_litert_compiles_it() -> None:
    model = CompiledModel.from_buffer(tiny_composed())
    (image,), (scores,) = model.create_input_buffers(0), model.create_output_buffers(0)
    image.write(np.full((1, 32, 32, 3), COLOURS["blue"], np.uint8))
    model.run_by_index(0, [image], [scores])
    assert scores.read(4, np.float32) == pytest.approx(probabilities(COLOURS["blue"]), abs=0.005)


def test_a_class_more_is_a_score_more() -> None:
    weights = np.hstack([WEIGHTS, np.zeros((6, 1), np.float32)])  # with a scale that is not 0
    model = replace_final_layer(
        tiny_composed(), FinalLayer(Dense(weights, np.append(BIAS, np.float32(9)))), "final_result"
    )
    scores = run(model, (128, 128, 128))
    assert (len(scores), int(scores.argmax())) == (5, 4)


@pytest.mark.parametrize(
    ("flatbuffer", "width", "words"),
    [
        (tiny_trunk, 5, "bottleneck is not float32 of the width 5"),
        (lambda: networks().uint8, 6, "bottleneck is not float32"),
        (lambda: convert("dynamic"), 64, "no tensor named bottleneck"),
        (lambda: bytes(64), 6, r"not a \.tflite model"),
    ],
)
def test_a_model_without_the_layers_bottleneck_is_refused(
    flatbuffer: Any, width: int, words: str
) -> None:
    layer = FinalLayer(Dense(np.zeros((width, 2), np.float32), np.zeros(2, np.float32)))
    with pytest.raises(BadData, match=words):
        replace_final_layer(flatbuffer(), layer, "final_result")
