"""Load a .tflite file of a real network as the backbone, and train on one."""

from pathlib import Path

import numpy as np

from deploy.image import open_image, to_tensor
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from tests.helpers.deploy_fixtures import networks, write_colour_run
from tests.helpers.lite_fixtures import (
    blurs,
    cosine,
    features,
    load,
    runtime_features,
    tf,
    to_tflite,
)
from tests.helpers.runs import Invoke


def test_mobilenet_v2(tmp_path: Path) -> None:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    tf.keras.utils.set_random_seed(0)
    side, pixels = 96, blurs(8, 96)
    network = tf.keras.applications.MobileNetV2(
        (side, side, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
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
    translated, own = {}, {}
    for kind in ("float32", "int8"):
        path = tmp_path / f"{kind}.tflite"
        path.write_bytes(to_tflite(run, kind, side))
        backbone = load(path, tmp_path)
        assert (backbone.width, backbone.spec.height) == (1280, side)
        own[kind] = runtime_features(path.read_bytes(), pixels)
        translated[kind] = features(backbone, pixels)
    largest = np.abs(own["float32"]).max()
    assert np.abs(translated["float32"] - own["float32"]).max() < 1e-3 * largest
    # Activations are not rounded here, and what rounding them does grows in random layers.
    assert cosine(translated["int8"], own["float32"]) > cosine(own["int8"], own["float32"])


def test_the_real_lite0(backbone: Backbone, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "lite0.tflite"
    path.write_bytes(backbone.flatbuffer)
    spec = backbone.spec
    again = load_custom(path, Ends(input_mean=spec.mean, input_std=spec.std), tmp_path)
    paths = sorted(photos.glob("*/*"))[::12]
    tensors = np.concatenate([to_tensor(open_image(p.read_bytes()), spec) for p in paths])
    first, second = (
        tf_graph.open_session(loaded.read_graph())(tensors) for loaded in (backbone, again)
    )
    assert first.shape == (6, 1280)
    assert np.abs(first - second).max() < 1e-3 * np.abs(first).max()


def test_a_model_of_retrain_is_trained_on_converted_and_labels(
    tmp_path: Path, invoke: Invoke
) -> None:
    write_colour_run(tmp_path)
    graph, run = tmp_path / "tiny.tflite", tmp_path / "run"
    graph.write_bytes(networks().uint8)
    where = ("--cache-dir", tmp_path / "cache", "--output-dir", run)
    photos = tmp_path / "photos"
    result = invoke("train", photos, "--graph", graph, "--how-many-training-steps", 400, *where)
    assert result.exit_code == 0, result.output
    options = ("--quantize", "float32", "--goldens", 0, "--max-accuracy-drop", 20)
    result = invoke("convert", "--output-dir", run, *options)
    assert result.exit_code == 0, result.output
    for option, name in (("--model", "model.tflite"), ("--graph", "output_graph.pb")):
        result = invoke("label", photos / "blue" / "0.png", option, run / name)
        assert result.exit_code == 0, result.output
        assert "blue" in result.output.splitlines()[1]
