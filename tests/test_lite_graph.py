"""A .tflite file as the backbone: its features are what the TFLite runtime finds in that file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from conftest import Invoke
from deploy_fixtures import networks
from graph_fixtures import predict

from deploy.errors import BadData, RetrainError, WrongUse
from deploy.image import open_image, to_tensor
from retrain import backbones, graph
from retrain.apart import apart
from retrain.backbones import Backbone, lite_graph, own_file
from retrain.backbones.lite_file import parse
from retrain.backbones.own_graph import load_own

SIDE = 32
Array = npt.NDArray[Any]
tf = graph.tensorflow()


def values(*shape: int) -> Any:
    random = np.random.default_rng(sum(shape))
    return tf.constant(random.uniform(-0.5, 0.5, shape).astype(np.float32))


def network(operation: Callable[[Any], Any] = tf.identity, outputs: int = 3) -> Any:
    """Return a classifier of photos: `operation` between convolutions, then a dense layer."""

    def body(images: Any) -> Any:
        x = tf.nn.relu6(tf.nn.conv2d(images, values(3, 3, 3, 8), 2, "SAME") + values(8))
        x = operation(tf.nn.depthwise_conv2d(x, values(3, 3, 8, 2), [1, 1, 1, 1], "SAME"))
        x = tf.reduce_mean(tf.nn.relu(x), [1, 2])
        return tf.nn.softmax(tf.matmul(x, values(x.shape[-1], outputs)))

    return body


def drawn(count: int, side: int = SIDE) -> Array:
    """Return photos as pixels, float32 (N, side, side, 3): black, white, blurs."""
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 5, 5, 3))
    pixels = tf.image.resize(coarse, (side, side)).numpy().round()
    pixels[0, 0, 0, :2] = 0, 255
    return np.asarray(pixels, np.float32)


def converter_of(run: Any, kind: str, side: int = SIDE) -> bytes:
    """Return the concrete function `run` as a TFLite file of `kind`, for photos in -1..1."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run])
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind in ("int8", "uint8"):
        converter.representative_dataset = lambda: (
            [(photo[np.newaxis] - 127.5) / np.float32(127.5)] for photo in drawn(20, side)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    converted: bytes = converter.convert()
    return converted


def write(path: Path, body: Callable[[Any], Any], kind: str = "float32") -> Path:
    graph_def = graph.trace(body, (SIDE, SIDE, 3), "scores")
    path.write_bytes(converter_of(graph.function(graph_def, "scores"), kind))
    return path


def found_by_runtime(content: bytes, pixels: Array) -> Array:
    """Return what the TFLite runtime has at the cut of the file for each photo, as numbers."""
    end = lite_graph.before_dense(parse(content))
    interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    fed = interpreter.get_input_details()[0]
    (tensor,) = [each for each in interpreter.get_tensor_details() if each["index"] == end]
    rows = []
    for photo in pixels:
        if fed["dtype"] == np.float32:
            photo = (photo - 127) / 127.5
        elif fed["dtype"] == np.int8:
            photo = photo - 128
        interpreter.set_tensor(fed["index"], photo[np.newaxis].astype(fed["dtype"]))
        interpreter.invoke()
        scale, zero_point = tensor["quantization"]
        row = interpreter.get_tensor(end).astype(np.float32).ravel()
        rows.append((row - zero_point) * scale if scale else row)
    return np.asarray(rows)


def features(backbone: Backbone, pixels: Array) -> Array:
    run = graph.function(graph.read(backbone.graph_path), graph.BOTTLENECK)
    return predict(run, (pixels - backbone.spec.mean) / np.float32(backbone.spec.std))


def load(path: Path, cache_dir: Path, bottleneck: str | None = None) -> Backbone:
    """Load the file, with -1..1 for a float input, which tells nothing."""
    known = own_file.read(path, bottleneck).mean is not None
    ends = (None, None) if known else (127.0, 127.5)
    return load_own(path, None, bottleneck, None, *ends, cache_dir)


def cosine(some: Array, others: Array) -> float:
    """Return the smallest cosine between two photos' features."""
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float(((some * others).sum(axis=1) / lengths).min())


def require_equal(path: Path, tmp_path: Path) -> None:
    pixels = drawn(4)
    expected = found_by_runtime(path.read_bytes(), pixels)
    found = features(load(path, tmp_path), pixels)
    largest = np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 0.03 * largest, "all photos look the same to it"
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3 * largest


@pytest.mark.parametrize("kind", ["float32", "float16", "dynamic", "int8", "uint8"])
def test_files_of_every_type(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tflite", network(), kind)
    if kind.startswith("float"):
        require_equal(path, tmp_path)
        return
    pixels, backbone = drawn(8), load(path, tmp_path)
    expected, found = found_by_runtime(path.read_bytes(), pixels), features(backbone, pixels)
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    assert cosine(found - found.mean(axis=0), expected - expected.mean(axis=0)) > 0.98
    assert cosine(found, expected) > 0.999
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
    pixels = drawn(4)
    expected = features(load(path, tmp_path), pixels)

    def leave_out(model: Any) -> None:
        (convolution,) = [
            each
            for each in model.subgraphs[0].operators
            if isinstance(each.builtinOptions, schema.Conv2DOptionsT)
        ]
        assert convolution.builtinOptions.fusedActivationFunction == 3
        convolution.builtinOptions.fusedActivationFunction = 0

    path.write_bytes(changed(networks().uint8, leave_out))
    again = load(path, tmp_path)
    np.testing.assert_allclose(features(again, pixels), expected, atol=1e-5)
    assert "Relu" in {node.op for node in graph.read(again.graph_path).node}


def test_the_last_layer_may_be_a_convolution(tmp_path: Path) -> None:
    def body(images: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(images, values(3, 3, 3, 8), 2, "SAME"))
        x = tf.nn.avg_pool2d(x, 16, 1, "VALID", name="pooled")
        return tf.nn.softmax(tf.squeeze(tf.nn.conv2d(x, values(1, 1, 8, 5), 1, "SAME"), [1, 2]))

    backbone = load(write(tmp_path / "mine.tflite", body), tmp_path)
    assert backbone.width == 8


def test_an_operator_that_is_not_translated_is_named(tmp_path: Path) -> None:
    def body(images: Any) -> Any:
        x = tf.reduce_mean(tf.nn.conv2d(images, values(3, 3, 3, 8), 2, "SAME"), [1, 2])
        return tf.cumsum(tf.identity(x, "row"), 1)

    path = write(tmp_path / "mine.tflite", body)
    with pytest.raises(BadData, match=r"operator CUMSUM.*bottleneck-tensor.*\.keras") as caught:
        own_file.read(path)
    assert str(path) in str(caught.value)
    assert load(path, tmp_path, "Mean").width == 8


def test_what_the_file_does_not_tell_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tflite", network())
    with pytest.raises(WrongUse, match=r"--input-mean, --input-std must(.|\n)*Mean:0 \(1, 16\)"):
        load_own(path, None, None, None, None, None, tmp_path)

    def of_any_size(model: Any) -> None:
        model.subgraphs[0].tensors[0].shapeSignature = [-1, -1, -1, 3]

    path.write_bytes(changed(path.read_bytes(), of_any_size))
    with pytest.raises(WrongUse, match="--input-size must be given"):
        own_file.read(path)
    assert own_file.read(path, size=48).size == 48


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda main: setattr(main.tensors[0], "shape", [1, 32, 24, 3]), "not one square photo"),
        (lambda main: setattr(main, "inputs", [0, 0]), "2 inputs"),
        (lambda main: setattr(main.tensors[0].quantization, "scale", [0.0]), "scale"),
        (lambda main: setattr(main.tensors[0].quantization, "zeroPoint", [300]), "zero point 300"),
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
        load_own(path, None, None, None, None, None, tmp_path)


def test_a_damaged_file_is_an_error_and_no_more(tmp_path: Path) -> None:
    path, random = tmp_path / "mine.tflite", np.random.default_rng(0)
    said, whole = [], 0
    for i in range(400):
        content = bytearray(networks().uint8)
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(len(content) - 4))
            number = int(random.choice([0, 1, 1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
            content[at : at + 4] = number.to_bytes(4, "little")
        path.write_bytes(content[: int(random.integers(len(content)))] if i % 10 == 0 else content)
        try:
            own_file.read(path)
            whole += 1
            if whole <= 25:
                load_own(path, None, None, None, 128.0, 128.0, tmp_path)
        except RetrainError as error:
            said.append(str(error))
    assert all(str(path) in each for each in said)
    assert whole > 25
    assert len(said) > 200


def test_mobilenet_v2(tmp_path: Path) -> None:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    tf.keras.utils.set_random_seed(0)
    side, pixels = 96, drawn(8, 96)
    network = tf.keras.applications.MobileNetV2(
        (side, side, 3), include_top=False, weights=None, pooling="avg"
    )
    model = tf.keras.Sequential([network, tf.keras.layers.Dense(10, activation="softmax")])
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0  # so that its statistics are those of photos
    model((pixels - 127.5) / 127.5, training=True)
    run = tf.function(lambda images: model(images, training=False)).get_concrete_function(
        tf.TensorSpec([1, side, side, 3])
    )
    run = convert_variables_to_constants_v2(run)
    found, own = {}, {}
    for kind in ("float32", "int8"):
        path = tmp_path / f"{kind}.tflite"
        path.write_bytes(converter_of(run, kind, side))
        backbone = load(path, tmp_path)
        assert (backbone.width, backbone.spec.height) == (1280, side)
        own[kind] = found_by_runtime(path.read_bytes(), pixels)
        found[kind] = features(backbone, pixels)
    largest = np.abs(own["float32"]).max()
    assert np.abs(found["float32"] - own["float32"]).max() < 1e-3 * largest
    # Activations are not rounded here, and what rounding them does grows in random layers.
    assert cosine(found["int8"], own["float32"]) > cosine(own["int8"], own["float32"])


def test_the_real_lite0(backbone: Backbone, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "lite0.tflite"
    path.write_bytes(backbone.flatbuffer)
    spec = backbone.spec
    again = load_own(path, None, None, None, spec.mean, spec.std, tmp_path)
    some = sorted(photos.glob("*/*"))[::12]
    tensors = np.concatenate([to_tensor(open_image(p.read_bytes()), spec) for p in some])
    first, second = (
        predict(graph.function(graph.read(each.graph_path), graph.BOTTLENECK), tensors)
        for each in (backbone, again)
    )
    assert first.shape == (6, 1280)
    assert np.abs(first - second).max() < 1e-3 * np.abs(first).max()


def test_the_whole_road(converted: Path, photos: Path, tmp_path: Path, invoke: Invoke) -> None:
    made, run = converted / "model.tflite", tmp_path / "run"
    where = ("--cache-dir", tmp_path / "cache", "--output-dir", run)
    result = invoke("train", photos, "--graph", made, "--how-many-training-steps", 400, *where)
    assert result.exit_code == 0, result.output
    result = invoke("convert", "--output-dir", run, "--max-accuracy-drop", 20)
    assert result.exit_code == 0, result.output
    photo = next((photos / "circles").iterdir())
    for option, name in (("--model", "model.tflite"), ("--graph", "output_graph.pb")):
        result = invoke("label", photo, option, run / name)
        assert result.exit_code == 0, result.output
        assert "circles" in result.output.splitlines()[1]


def eroded(images: Any) -> Any:
    x = tf.nn.erosion2d(images, values(1, 1, 3), [1] * 4, "SAME", "NHWC", [1] * 4)
    return tf.reduce_mean(x, [1, 2])


def test_an_operation_that_tflite_lacks_is_named_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "apart", apart)
    trace = partial(graph.trace, eroded, (32, 32, 3), "bottleneck")
    with pytest.raises(BadData, match=r"TFLite has no operation for Dilation2D$"):
        backbones.prepare("own", "0" * 64, trace, 32, tmp_path)
    assert not any(tmp_path.rglob("*.tflite"))
