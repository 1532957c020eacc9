"""A .tflite file of a real network as the backbone, and the road from one."""

from pathlib import Path

import numpy as np

from deploy.image import open_image, to_tensor
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.backbones.custom.load import load_own
from tests.conftest import Invoke
from tests.helpers.graph_fixtures import predict
from tests.helpers.lite_fixtures import (
    converter_of,
    cosine,
    drawn,
    features,
    found_by_runtime,
    load,
    tf,
)


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
        predict(tf_graph.function(tf_graph.read(each.graph_path), tf_graph.BOTTLENECK), tensors)
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
