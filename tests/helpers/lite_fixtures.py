"""Write TFLite files of every type, and run them up to their cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.backbones.custom import tflite_to_graph
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from retrain.backbones.custom.read_file import read_network

SIDE = 32
Array = npt.NDArray[Any]
tf = tf_graph.tensorflow()


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


def blurs(count: int, side: int = SIDE) -> Array:
    """Return photos as pixels, float32 (N, side, side, 3): black, white, blurs."""
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 5, 5, 3))
    pixels = tf.image.resize(coarse, (side, side)).numpy().round()
    pixels[0, 0, 0, :2] = 0, 255
    return np.asarray(pixels, np.float32)


def to_tflite(run: Any, kind: str, side: int = SIDE) -> bytes:
    """Return the concrete function `run` as a TFLite file of `kind`, for photos in -1..1."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run])
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind in ("int8", "uint8"):
        converter.representative_dataset = lambda: (
            [(photo[np.newaxis] - 127.5) / np.float32(127.5)] for photo in blurs(20, side)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    converted: bytes = converter.convert()
    return converted


def write(path: Path, body: Callable[[Any], Any], kind: str = "float32") -> Path:
    graph_def = tf_graph.trace(body, (SIDE, SIDE, 3), "scores")
    path.write_bytes(to_tflite(tf_graph.function(graph_def, "scores"), kind))
    return path


def runtime_features(content: bytes, pixels: Array) -> Array:
    """Return the TFLite runtime's values at the cut of the file for each photo."""
    end = tflite_to_graph.find_bottleneck(tflite_to_graph.read_subgraph(content))
    interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]
    (tensor,) = [item for item in interpreter.get_tensor_details() if item["index"] == end]
    rows = []
    for photo in pixels:
        if image["dtype"] == np.float32:
            photo = (photo - 127) / 127.5
        elif image["dtype"] == np.int8:
            photo = photo - 128
        interpreter.set_tensor(image["index"], photo[np.newaxis].astype(image["dtype"]))
        interpreter.invoke()
        scale, zero_point = tensor["quantization"]
        row = interpreter.get_tensor(end).astype(np.float32).ravel()
        rows.append((row - zero_point) * scale if scale else row)
    return np.asarray(rows)


def features(backbone: Backbone, pixels: Array) -> Array:
    run = tf_graph.open_session(backbone.read_graph())
    return run((pixels - backbone.spec.mean) / np.float32(backbone.spec.std))


def load(path: Path, cache_dir: Path, bottleneck: str | None = None) -> Backbone:
    """Load the file; a float input takes -1..1."""
    in_file = read_network(path, bottleneck).ends.input_mean is not None
    scale = (None, None) if in_file else (127.0, 127.5)
    return load_custom(path, Ends(None, bottleneck, None, *scale), cache_dir)


def cosine(first: Array, second: Array) -> float:
    """Return the smallest cosine between rows of the same index, a photo's features."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / lengths).min())


def require_equal(path: Path, tmp_path: Path) -> None:
    """Assert that the file as a backbone gives the runtime's features."""
    pixels = blurs(4)
    expected = runtime_features(path.read_bytes(), pixels)
    translated = features(load(path, tmp_path), pixels)
    largest = np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 0.03 * largest, "all photos look the same to it"
    assert translated.shape == expected.shape
    assert np.abs(translated - expected).max() < 1e-3 * largest
