"""Cut .keras files, SavedModels and .tflite files at the same place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import WrongUse
from retrain import tf_graph
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from retrain.backbones.custom.read_file import read_network
from tests.helpers.own_networks import SIDE, tf

kinds = tf.keras.layers
WIDTH = 16


def squeezed(x: Any) -> Any:
    """Return x after a squeeze-excite gate of two dense layers."""
    gate = kinds.Dense(WIDTH, "sigmoid")(kinds.Dense(4, "relu")(kinds.GlobalAveragePooling2D()(x)))
    return kinds.Multiply()([x, kinds.Reshape((1, 1, WIDTH))(gate)])


def pooled(x: Any, keepdims: bool = False) -> Any:
    return kinds.GlobalAveragePooling2D(keepdims=keepdims, name="pooled")(squeezed(x))


def no_head(x: Any) -> Any:
    return pooled(x)


def dense_head(x: Any) -> Any:
    return kinds.Dense(3, "softmax")(pooled(x))


def separate_softmax(x: Any) -> Any:
    return kinds.Softmax()(kinds.Reshape((3,))(kinds.Dense(3)(pooled(x))))


def two_dense(x: Any) -> Any:
    return kinds.Dense(3, "sigmoid")(kinds.Dense(24, "relu")(pooled(x)))


def convolution_head(x: Any) -> Any:
    x = kinds.Conv2D(3, 1)(kinds.Dropout(0.5)(pooled(x, keepdims=True)))
    return kinds.Activation("softmax")(kinds.Flatten()(x))


def convolution_before_pool(x: Any) -> Any:
    return kinds.GlobalAveragePooling2D()(kinds.Conv2D(3, 1)(squeezed(x)))


def embedding(x: Any) -> Any:
    return kinds.Dense(24, "relu")(pooled(x))


def two_heads(x: Any) -> Any:
    x = pooled(x)
    return [kinds.Dense(3, "softmax")(x), kinds.Dense(5, "softmax")(x)]


def classifier(head: Callable[[Any], Any]) -> Any:
    images = tf.keras.Input((SIDE, SIDE, 3))
    x = kinds.Conv2D(WIDTH, 3, 2, activation="relu")(images)
    return tf.keras.Model(images, head(x))


def save_keras(model: Any, folder: Path) -> Path:
    model.save(folder / "mine.keras")
    return folder / "mine.keras"


def save_saved_model(model: Any, folder: Path) -> Path:
    model.export(folder / "mine", verbose=False)
    return folder / "mine"


def save_tflite(model: Any, folder: Path) -> Path:
    path = folder / "mine.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


def width_at_cut(path: Path) -> int:
    """Return the size of the bottleneck of the network at `path`."""
    network = read_network(path)
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(network.graph_def)
    return int(graph.get_tensor_by_name(network.ends.bottleneck_tensor).shape[-1])


@pytest.mark.parametrize("save", [save_keras, save_saved_model, save_tflite])
@pytest.mark.parametrize(
    ("head", "width"),
    [
        (no_head, WIDTH),
        (dense_head, WIDTH),
        (separate_softmax, WIDTH),
        (two_dense, 24),
        (convolution_head, WIDTH),
        (convolution_before_pool, 3),
        (embedding, 24),
    ],
)
def test_the_cut_is_before_a_dense_layer_of_scores_only(
    save: Callable[[Any, Path], Path], head: Callable[[Any], Any], width: int, tmp_path: Path
) -> None:
    assert width_at_cut(save(classifier(head), tmp_path)) == width


@pytest.mark.parametrize("save", [save_keras, save_saved_model, save_tflite])
def test_of_two_heads_one_must_be_named(save: Callable[[Any, Path], Path], tmp_path: Path) -> None:
    path = save(classifier(two_heads), tmp_path)
    assert read_network(path).ends.bottleneck_tensor is None
    with pytest.raises(WrongUse, match="`bottleneck_tensor` must be given"):
        load_custom(path, Ends(input_mean=128.0, input_std=128.0), tmp_path)
