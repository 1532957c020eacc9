"""Translate a .tflite file: the backbone's features are those of the TFLite runtime."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from deploy.errors import BadData, RetrainError, WrongUse
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.backbones import backbone as preparation
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from retrain.backbones.custom.read_file import read_network
from retrain.backbones.custom.tflite_to_graph import read_subgraph
from tests.helpers.deploy_fixtures import networks
from tests.helpers.lite_fixtures import (
    SIDE,
    blurs,
    cosine,
    features,
    load,
    network,
    require_equal,
    runtime_features,
    tf,
    values,
    write,
)


@pytest.mark.parametrize("kind", ["float32", "float16", "dynamic", "int8", "uint8"])
def test_files_of_every_type(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tflite", network(), kind)
    if kind.startswith("float"):
        require_equal(path, tmp_path)
        return
    pixels, backbone = blurs(8), load(path, tmp_path)
    expected, translated = runtime_features(path.read_bytes(), pixels), features(backbone, pixels)
    assert np.abs(translated - expected).max() < 0.03 * np.abs(expected).max()
    assert cosine(translated - translated.mean(axis=0), expected - expected.mean(axis=0)) > 0.98
    assert cosine(translated, expected) > 0.999
    spec = backbone.spec
    assert (spec.height, spec.crop, spec.std, backbone.width) == (SIDE, None, 127.5, 16)


def hard_swish(x: Any) -> Any:
    return x * tf.nn.relu6(x + 3.0) * (1 / 6)


def squeezed(x: Any) -> Any:
    return x * tf.sigmoid(tf.reduce_mean(x, [1, 2], keepdims=True))


def shuffled(x: Any) -> Any:
    x = tf.transpose(tf.reshape(x, [-1, 16, 16, 4, 4]), [0, 1, 2, 4, 3])
    first, second = tf.split(tf.reshape(x, [-1, 16, 16, 16]), 2, 3)
    return tf.concat([second, first * 2.0], 3)


def dense_inside(x: Any) -> Any:
    x = tf.nn.relu(tf.matmul(tf.reshape(x, [-1, 4096]), values(4096, 12)) + values(12))
    return tf.reshape(x, [-1, 1, 1, 12])


@pytest.mark.parametrize(
    "operation",
    [
        hard_swish,
        squeezed,
        shuffled,
        dense_inside,
        lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME") - tf.nn.avg_pool2d(x, 3, 2, "SAME"),
        lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]]),
        lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]], constant_values=0.5),
        lambda x: tf.pad(x, [[0, 0], [1, 1], [2, 2], [0, 0]], "REFLECT"),
        lambda x: x[:, 1:, ::2, :7],
        lambda x: tf.nn.conv2d(x, values(3, 3, 16, 4), 1, "VALID", dilations=2),
        lambda x: tf.image.resize(x, (9, 9)),
        lambda x: tf.image.resize(x, (9, 9), "nearest"),
        lambda x: tf.math.l2_normalize(x, -1),
        lambda x: tf.nn.softmax(x) * 3,
        lambda x: tf.nn.leaky_relu(x, 0.2) + tf.nn.elu(x) + tf.tanh(x),
        lambda x: tf.clip_by_value(x, -1, 1) + tf.maximum(x, tf.minimum(-x, 0.3)),
        lambda x: tf.sqrt(tf.abs(x)) / tf.exp(x) + tf.math.log(tf.square(x) + 1),
        lambda x: tf.math.rsqrt(tf.math.squared_difference(x, 3.0)),
        lambda x: tf.reduce_max(x, 1, keepdims=True) - tf.reduce_sum(x, 2, keepdims=True),
        lambda x: tf.nn.relu(x) + -values(1, 1, 16) * tf.nn.relu(-x),  # PRELU
    ],
)
def test_an_operator_computes_what_it_does_in_the_runtime(
    operation: Callable[[Any], Any], tmp_path: Path
) -> None:
    require_equal(write(tmp_path / "mine.tflite", network(operation)), tmp_path)


def changed(content: bytes, change: Callable[[Any], None]) -> bytes:
    """Return the .tflite file after `change` of its flatbuffer's values."""
    model = schema.ModelT.InitFromPackedBuf(content)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_relu_that_the_range_of_a_quantized_output_implies(tmp_path: Path) -> None:
    path = tmp_path / "mine.tflite"
    path.write_bytes(networks().uint8)
    pixels = blurs(4)
    expected = features(load(path, tmp_path), pixels)

    def leave_out(model: Any) -> None:
        (convolution,) = [
            operator
            for operator in model.subgraphs[0].operators
            if isinstance(operator.builtinOptions, schema.Conv2DOptionsT)
        ]
        assert convolution.builtinOptions.fusedActivationFunction == 3
        convolution.builtinOptions.fusedActivationFunction = 0

    path.write_bytes(changed(networks().uint8, leave_out))
    again = load(path, tmp_path)
    np.testing.assert_allclose(features(again, pixels), expected, atol=1e-5)
    assert "Relu" in {node.op for node in tf_graph.read(again.graph_path).node}


def test_the_last_layer_may_be_a_convolution(tmp_path: Path) -> None:
    def body(images: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(images, values(3, 3, 3, 8), 2, "SAME"))
        x = tf.nn.avg_pool2d(x, 16, 1, "VALID", name="pooled")
        return tf.nn.softmax(tf.squeeze(tf.nn.conv2d(x, values(1, 1, 8, 5), 1, "SAME"), [1, 2]))

    backbone = load(write(tmp_path / "mine.tflite", body), tmp_path)
    assert backbone.width == 8


def dense(x: Any) -> Any:
    return tf.matmul(x, values(8, 8)) + values(8)


@pytest.mark.parametrize(
    ("scores", "is_known"),
    [
        (
            lambda x: tf.nn.softmax(dense(x)) * tf.reduce_max(tf.nn.relu6(x), 1, keepdims=True),
            False,
        ),
        (lambda x: tf.math.log(tf.reshape(tf.nn.softmax(dense(x)), [-1, 2, 4]) + 0.1), False),
        (lambda x: tf.sigmoid(dense(x)) * 2 - 1, False),
        (lambda x: tf.nn.softmax(dense(x)), True),
        (lambda x: x * tf.sigmoid(dense(x)), True),  # a gate
        (lambda x: tf.nn.relu(dense(x)) + x, True),
    ],
)
def test_what_is_computed_from_scores_is_no_bottleneck(
    scores: Callable[[Any], Any], is_known: bool, tmp_path: Path
) -> None:
    def body(images: Any) -> Any:
        x = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, values(3, 3, 3, 8), 2, "SAME")), [1, 2])
        return scores(x)

    path = write(tmp_path / "mine.tflite", body)
    if is_known:
        assert load(path, tmp_path).width == 8
        return
    remedy = r"`bottleneck_tensor` must be given(.|\n)*Mean:0 \(1, 8\)"
    with pytest.raises(WrongUse, match=remedy):
        load(path, tmp_path)
    assert load(path, tmp_path, "Mean").width == 8


def test_an_operator_that_is_not_translated_is_named(tmp_path: Path) -> None:
    def body(images: Any) -> Any:
        x = tf.reduce_mean(tf.nn.conv2d(images, values(3, 3, 3, 8), 2, "SAME"), [1, 2])
        return tf.cumsum(tf.identity(x, "row"), 1)

    path = write(tmp_path / "mine.tflite", body)
    with pytest.raises(BadData, match=r"operator CUMSUM.*bottleneck_tensor.*\.keras") as caught:
        read_network(path)
    assert str(path) in str(caught.value)
    assert load(path, tmp_path, "Mean").width == 8


def operations(backbone: Backbone) -> list[str]:
    return [node.name for node in tf_graph.read(backbone.graph_path).node]


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_an_operator_made_of_several_has_the_name_of_the_first(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tflite", network(dense_inside), kind)
    (joined,) = (
        operator.outputs[0].name
        for operator in read_subgraph(path.read_bytes()).operators
        if operator.name == "FULLY_CONNECTED" and operator.activation == "RELU"
    )
    short, *others = joined.split(";")
    assert others
    names = " ".join(operations(load(path, tmp_path)))
    assert f" network/{short}/Relu " in names
    assert joined.replace(";", "_") not in names
    for name in (short, f"{short}:0", joined.replace(";", "_")):
        assert load(path, tmp_path, name).width == 12


def test_operators_of_the_same_first_name_keep_their_whole_names(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tflite", network(dense_inside))
    expected = features(load(path, tmp_path), blurs(2))

    def rename(model: Any) -> None:
        (graph,) = model.subgraphs
        computed = [graph.tensors[operator.outputs[0]] for operator in graph.operators]
        for number, tensor in enumerate(computed):
            tensor.name = f"same;{number}".encode()

    path.write_bytes(changed(path.read_bytes(), rename))
    backbone = load(path, tmp_path)
    np.testing.assert_array_equal(features(backbone, blurs(2)), expected)
    assert {"network/same_0/Relu6", "network/same_1/depthwise"} < {*operations(backbone)}


def test_what_the_file_does_not_tell_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tflite", network())
    with pytest.raises(WrongUse, match=r"`input_mean`, `input_std` must(.|\n)*Mean:0 \(1, 16\)"):
        load_custom(path, Ends(), tmp_path)

    def of_any_size(model: Any) -> None:
        model.subgraphs[0].tensors[0].shapeSignature = [-1, -1, -1, 3]

    path.write_bytes(changed(path.read_bytes(), of_any_size))
    with pytest.raises(WrongUse, match="`input_size` must be given"):
        read_network(path)
    assert read_network(path, input_size=(48, 40)).ends.input_size == (48, 40)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda main: setattr(main.tensors[0], "shape", [1, 32, 24, 4]), "4 channels"),
        (lambda main: setattr(main.tensors[0], "shape", [1, 3, 32, 32]), "channels first"),
        (lambda main: setattr(main, "inputs", [0, 0]), "2 inputs"),
        (lambda main: setattr(main.tensors[0].quantization, "scale", [0.0]), "scale"),
        (
            lambda main: setattr(main.tensors[0].quantization, "zeroPoint", [300]),
            "zero point in it is impossible",
        ),
        (lambda main: setattr(main.tensors[1], "type", schema.TensorType.INT4), "INT4"),
        (lambda main: setattr(main.tensors[1], "shape", [1 << 20, 1 << 20]), "cannot be computed"),
        (lambda main: main.operators.reverse(), "nothing computes"),
    ],
)
def test_numbers_that_cannot_be_are_bad_data(
    change: Callable[[Any], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.tflite"
    path.write_bytes(changed(networks().uint8, lambda model: change(model.subgraphs[0])))
    with pytest.raises(BadData, match=words):
        load_custom(path, Ends(), tmp_path)


def test_a_damaged_file_is_an_error_and_no_more(tmp_path: Path) -> None:
    path, random = tmp_path / "mine.tflite", np.random.default_rng(0)
    errors, accepted = [], 0
    for i in range(400):
        content = bytearray(networks().uint8)
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(len(content) - 4))
            number = int(random.choice([0, 1, 1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
            content[at : at + 4] = number.to_bytes(4, "little")
        path.write_bytes(content[: int(random.integers(len(content)))] if i % 10 == 0 else content)
        try:
            read_network(path)
            accepted += 1
            if accepted <= 15:
                load_custom(path, Ends(input_mean=128.0, input_std=128.0), tmp_path)
        except RetrainError as error:
            errors.append(str(error))
    assert all(str(path) in error for error in errors)
    assert accepted > 15
    assert len(errors) > 200


def eroded(images: Any) -> Any:
    x = tf.nn.erosion2d(images, values(1, 1, 3), [1] * 4, "SAME", "NHWC", [1] * 4)
    return tf.reduce_mean(x, [1, 2])


def test_an_operation_that_tflite_lacks_is_named_in_a_line(tmp_path: Path) -> None:
    trace = partial(tf_graph.trace, eroded, (32, 32, 3), "bottleneck")
    reason = "preparing the backbone failed: TFLite has no operation for Dilation2D$"
    with pytest.raises(BadData, match=reason):
        preparation.prepare("own", "0" * 64, trace, (32, 32), tmp_path)
    assert not any(tmp_path.rglob("*.tflite"))
