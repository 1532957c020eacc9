"""Recognise what TensorFlow's retrain.py wrote by its nodes."""

from pathlib import Path
from typing import Any

import pytest

from retrain.backbones.custom.classic_graph import find_ends, find_scores
from retrain.backbones.custom.custom_network import Ends
from tests.helpers.classic_graphs import (
    SIDE,
    STYLES,
    Style,
    bottleneck,
    hub,
    inception,
    mobilenet,
    of_another_program,
    optimized_inception,
    quantized_hub,
    save,
    tf,
    tiny,
    v1,
)
from tests.helpers.deploy_fixtures import write_colour_run
from tests.helpers.runs import Invoke

EXPECTED: dict[Style, Ends] = {
    inception: Ends("Mul:0", "pool_3/_reshape:0", (SIDE, SIDE), 128.0, 128.0),
    optimized_inception: Ends("Mul:0", "pool_3/_reshape:0", (299, 299), 128.0, 128.0),
    mobilenet: Ends("input:0", "MobilenetV1/Predictions/Reshape:0", (SIDE, SIDE), 128.0, 127.5),
    hub: Ends(
        "Placeholder:0",
        "module_apply_default/hub_output/feature_vector/SpatialSqueeze:0",
        (SIDE, SIDE),
        0.0,
        255.0,
    ),
    quantized_hub: Ends(
        "Placeholder:0",
        "module_apply_default/MobilenetV1/act_quant/FakeQuantWithMinMaxVars:0",
        (SIDE, SIDE),
        0.0,
        255.0,
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_the_ends_are_known_by_the_nodes(style: Style) -> None:
    graph_def = tiny(style, final="my_result")
    assert find_ends(graph_def, None) == EXPECTED[style]
    assert find_scores(graph_def) == ["my_result"]


def test_the_head_is_known_where_its_placeholder_was_taken_out() -> None:
    graph_def = tiny(mobilenet)
    for node in list(graph_def.node):
        if node.op == "PlaceholderWithDefault":
            graph_def.node.remove(node)
        elif node.op == "MatMul":
            node.input[0] = "MobilenetV1/Predictions/Reshape"
    assert find_ends(graph_def, None) == EXPECTED[mobilenet]


def decoded(images: Any) -> Style:
    """Return a network as of 2015 that makes `images`, of a decoded batch, before it begins."""

    def style(run: Any, side: int) -> Any:
        contents = tf.constant(b"", name="DecodeJpeg/contents")
        pixels = tf.cast(tf.io.decode_png(contents, 3), tf.float32)
        resized = v1.image.resize_bilinear(tf.expand_dims(pixels, 0), tf.stack([side, side]))
        row = bottleneck(run, tf.identity(images(resized), "images"))
        return tf.reshape(row, [1, row.shape[-1]], name="pool_3/_reshape")

    return style


@pytest.mark.parametrize(
    ("images", "mean", "std"),
    [
        (lambda x: x, 0, 1),
        (lambda x: (x - 117) / 58, 117, 58),
        (lambda x: x * (1 / 255), 0, 255),
        (lambda x: (x * (1 / 255) - 0.5) * 2, 128, 127.5),
        (lambda x: 2.0 * (x + -64.0), 64, 0.5),
    ],
)
def test_mean_and_std_are_those_of_the_chain(images: Any, mean: float, std: float) -> None:
    ends = find_ends(tiny(decoded(images)), None)
    assert ends is not None
    assert ends.input_tensor == "images:0"
    assert (ends.sides, ends.input_mean) == ((SIDE, SIDE), mean)
    assert ends.input_std == pytest.approx(std)


def test_a_scale_for_each_colour_stays_in_the_network() -> None:
    graph_def = tiny(decoded(lambda x: x - tf.constant([123.0, 117.0, 104.0])))
    ends = find_ends(graph_def, None)
    assert ends is not None
    assert str(ends.input_tensor).startswith("ResizeBilinear")
    assert (ends.sides, ends.input_mean, ends.input_std) == ((SIDE, SIDE), 0, 1)


@pytest.mark.parametrize("end", ["Mul", "Sub"])
def test_the_inside_of_a_hub_module_may_take_the_photos(end: str) -> None:
    def inside(run: Any, side: int) -> Any:
        name = f"module_apply_default/hub_input/{end}"
        images = v1.placeholder(tf.float32, [None, side, side, 3], name=name)
        return tf.identity(bottleneck(run, images - 1.0 if end == "Mul" else images))

    ends = find_ends(tiny(inside), None)
    assert ends is not None
    assert (ends.input_mean, ends.input_std) == ((0, 127.5) if end == "Mul" else (128, 127.5))


def test_another_input_tensor_has_no_known_scale() -> None:
    graph_def = tiny(inception)
    bottleneck = "pool_3/_reshape:0"
    assert find_ends(graph_def, "network/Relu6") == Ends("network/Relu6:0", bottleneck)
    resized = find_ends(graph_def, "ResizeBilinear")
    assert resized == Ends("ResizeBilinear:0", bottleneck, (SIDE, SIDE), 0, 1)


def test_a_graph_of_another_program_is_not_taken_for_one() -> None:
    graph_def = of_another_program(lambda mean: tf.nn.softmax(mean, name="final_result"))
    assert find_ends(graph_def, None) is None


def test_training_on_a_retrained_graph_needs_no_options(invoke: Invoke, tmp_path: Path) -> None:
    write_colour_run(tmp_path)
    path = save(tiny(quantized_hub), tmp_path / "retrained_graph.pb")
    result = invoke("bottlenecks", tmp_path / "photos", "--graph", path, "--cache-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert "36 photos analysed now" in result.output
